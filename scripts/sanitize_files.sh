#!/usr/bin/env bash
# Tests with some files alone under the address and undefined-behaviour sanitizers: minutes where
# sanitize.sh takes hours. The files are compiled with them and linked in front of the libraries of
# a release build, whose code is not checked; the heap is that of the sanitizer for all.
# usage: FILES="FILE.cc ..." sanitize_files.sh TEST...   tests that build/ has, of these sources
#   BUILD: the release build, default build. WORK: where objects and programs go, by default a
#   temporary folder. The last line is "N of N tests passed".
set -euo pipefail
cd "$(dirname "$0")/.."
usage='usage: FILES="FILE.cc ..." sanitize_files.sh TEST...'
files=${FILES:?$usage}
(($#)) || { echo "$usage" >&2; exit 2; }
build=$(cd "${BUILD:-build}" && pwd)
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
objects=()
for file in $files; do
    object=$work/${file//\//+}.o
    simd=
    # As in CMakeLists.txt: checks of each vector would take minutes.
    ! grep -q foreach_target.h "$file" ||
        simd="-msse4.2 -maes -mpclmul -fno-sanitize=null,alignment,object-size"
    if [[ ! $object -nt $file ]]; then
        echo "$file"
        # shellcheck disable=SC2086
        g++ -std=c++20 -O1 -g1 -DNDEBUG $sanitizers $simd -DFMT_SHARED -DHWY_SHARED_DEFINE \
            -ffp-contract=off -fopenmp -Wno-psabi -I. -I/usr/include/eigen3 \
            -c "$file" -o "$object"
    fi
    objects+=("$object")
done

printf 'leak:libgomp\nleak:GOMP_parallel\n' > "$work/leaks" # as in sanitize.sh
export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$work/leaks:print_suppressions=0
passed=0
for test in "$@"; do
    program=$(basename "$(readlink -f "$build/$test")") # of several test files (cmake/tests.cmake)
    link=$(ninja -C "$build" -t commands "$program" | grep -F -- " -o $program " | tail -n 1)
    link=${link#: && } link=${link%% && *}
    # Of what is there twice, the linker takes the first.
    link=${link/ -o $program / ${objects[*]} -Wl,-z,muldefs $sanitizers -o $work/$program }
    # shellcheck disable=SC2086
    [[ $work/$program -nt ${objects[0]} ]] ||
        (cd "$build" && $link 2> >(grep -v 'multiple\|multiply\|previous' >&2 || true))
    [[ $program == "$test" ]] || ln -sf "$program" "$work/$test"
    code=0
    (cd "$build" && "$work/$test" > "$work/$test.log" 2>&1) || code=$?
    ((code)) && tail -n 40 "$work/$test.log"
    ((code)) || passed=$((passed + 1))
    echo "$test: $(grep -E '^\[  (PASSED|FAILED)' "$work/$test.log" | head -n 1), exit code $code"
done
echo "$passed of $# tests passed"
((passed == $#))
