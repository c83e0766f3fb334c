#!/usr/bin/env bash
# Installs what is missing, builds, runs every test. The last line is "N passed, N failed", with
# ", N skipped" if something that a test needs is not there (GRAFT_DATA, default ../shared).
# usage: test.sh [PRESET [NAME...]]     NAME: only these test binaries, no checks of the sources
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true

if [[ -z ${GRAFT_DATA:-} && -d ../shared ]]; then
    GRAFT_DATA=$(cd ../shared && pwd)
    export GRAFT_DATA
fi
scripts/install_dependencies.sh

build=build
[[ $preset == release ]] || build=build-$preset
started=$SECONDS
# One file that does not compile must not hide the tests of the others, so the build goes on and
# every binary that is missing counts as failed.
build_failed=0
targets=("$@")
GRAFT_KEEP_GOING=1 scripts/build.sh "$preset" "${targets[@]}" || build_failed=1
python3 scripts/run_tests.py --build "$build" --build-failed "$build_failed" \
    --build-seconds $((SECONDS - started)) "$@"
