#!/usr/bin/env bash
# Runs the fuzz targets, guided by coverage, with the address and undefined-behaviour sanitizers.
# usage: fuzz.sh [SECONDS [TARGET...]]     60 seconds for each target if not told
# Inputs that did something new are kept in build-fuzz/corpus, where the next run starts. An input
# that fails is left in build-fuzz/crash-TARGET; fix the cause, and add what is wrong about it to
# the tests. FUZZ_JOBS: targets at once (default: processors).
set -euo pipefail
cd "$(dirname "$0")/.."
export seconds=${1:-60}
shift || true
targets=("$@")
if (( ! ${#targets[@]} )); then
    for source in fuzz/*_fuzz.cc; do targets+=("$(basename "$source" _fuzz.cc)"); done
fi
scripts/build.sh fuzz fuzz

# Targets that read from a path write their input first: into memory where that is possible.
TMPDIR=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo /tmp)")
export TMPDIR
logs=build-fuzz/logs
mkdir -p "$logs"
trap 'rm -rf "$TMPDIR"' EXIT
one() {
    local words=fuzz/dictionaries/$1.dict
    rm -f "build-fuzz/crash-$1"
    OMP_NUM_THREADS=1 build-fuzz/fuzz/fuzz "$1" --seconds "$seconds" --dictionary "$words" \
        --artifact "build-fuzz/crash-$1" --keep "build-fuzz/corpus/$1" "fuzz/corpus/$1" \
        > "build-fuzz/logs/$1.log" 2>&1 || { tail -n 30 "build-fuzz/logs/$1.log"; return 1; }
    tail -n 1 "build-fuzz/logs/$1.log"
}
export -f one
failed=0
printf '%s\n' "${targets[@]}" |
    xargs -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash -c 'one {}' || failed=1
findings=0
for target in "${targets[@]}"; do
    [[ ! -e build-fuzz/crash-$target ]] || findings=$((findings + 1))
done
runs=$(for target in "${targets[@]}"; do tail -n 1 "$logs/$target.log"; done |
    sed -n 's/.* \([0-9]*\) runs in .*/\1/p' | awk '{n += $1} END {print n + 0}')
echo "${#targets[@]} targets, $seconds s each: $runs runs, $findings findings"
exit "$failed"
