#!/usr/bin/env bash
# All tests under the address and undefined-behaviour sanitizers: kernels of AVX-512 (where the
# processor has it), AVX2 and the baseline.
# usage: sanitize.sh [NAME...]     NAME: only these test binaries
set -euo pipefail
cd "$(dirname "$0")/.."
# libgomp keeps its threads, and what they own, to the end of the process: no leak of ours.
suppressions=$(mktemp)
trap 'rm -f "$suppressions"' EXIT
printf 'leak:libgomp\nleak:GOMP_parallel\n' > "$suppressions"
# A hostile file that asks for too much must get bad_alloc, as it does without sanitizers.
# Tests preload a library of their own into the command.
export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1
ASAN_OPTIONS+=:verify_asan_link_order=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$suppressions:print_suppressions=0
# Ten times slower than the release build.
export GRAFT_TEST_LIMIT=${GRAFT_TEST_LIMIT:-3600}
scripts/test.sh sanitize "$@"
