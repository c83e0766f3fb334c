#!/usr/bin/env bash
# Builds everything. usage: build.sh [PRESET [TARGET...]]
#   release (default) goes to build/, the others of CMakePresets.json to build-PRESET/.
#   GRAFT_JOBS: compilers at once (default: processors, at most one per 2 GiB of free memory).
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true

jobs=${GRAFT_JOBS:-}
if [[ -z $jobs ]]; then
    free_mib=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
    jobs=$(nproc)
    (( jobs * 2048 > free_mib )) && jobs=$(( free_mib / 2048 ))
    (( jobs < 1 )) && jobs=1
fi

targets=()
(( $# )) && targets=(--target "$@")
# Quiet unless it fails: CMake tells a page of what it found.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset "$preset" > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
cmake --build --preset "$preset" -j "$jobs" "${targets[@]}" ${GRAFT_KEEP_GOING:+-- -k 0}
