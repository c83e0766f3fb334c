#!/usr/bin/env bash
# Everything slow, each part with its result, time, commit and machine, into docs/verification.md;
# rows of parts that are not run now stay as they are. A run of less than a whole part has a row of
# its own beside that of the whole, until the whole is run again. What stands below the table stays.
# usage: verify.sh [PART...]    parts: tests sanitize threads fuzz bugs kills parity accuracy pages
#   (default: all)
#   PEERS_ENV: the Python environment of the peers (made by bench/peers/make_environment.sh), for
#   parity and, with MiniLM in its minilm/, accuracy. GRAFT_DATA: weights and data sets, by default
#   ../shared.
#   Less than the whole of a part:
#   TESTS: names of the test binaries for sanitize and threads; with FILES, for sanitize these files
#   alone are compiled with the sanitizers (scripts/sanitize_files.sh)
#   PARTS, ONLY: as for tests/parity/run_parity.sh; BUGS: options of planted_bugs.py
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
table=docs/verification.md
all=(tests sanitize threads fuzz bugs kills parity accuracy pages)
parts=("$@")
(( ${#parts[@]} )) || parts=("${all[@]}")
[[ -n ${GRAFT_DATA:-} || ! -d ../shared ]] || export GRAFT_DATA=$(cd ../shared && pwd)
logs=$(mktemp -d)
failed=0
some=", in part"
below='notes || (table && !/^\|/) { notes = 1; print } /^\|/ { table = 1 }'
notes=$(awk "$below" "$table" 2> /dev/null)
declare -A rows # part, or part and `some` -> its row
for part in "${all[@]}"; do
    rows[$part]=$(grep -s "^| $part |" "$table")
    rows[$part$some]=$(grep -s "^| $part$some |" "$table")
done

commit() {
    local changes
    changes=$(git status --porcelain --untracked-files=no -- . ":!$table" | wc -l)
    echo "$(git rev-parse --short HEAD)$( ((changes)) && echo ", $changes files changed")"
}
machine() {
    local model system
    model=$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)
    system=$(. /etc/os-release && echo "$ID $VERSION_ID")
    echo "$model, $(nproc) threads, $system"
}
# After each part, so that a part that is interrupted does not take the others with it.
write_table() {
    local part row
    {
        echo "# Verification"
        echo
        echo "Made by \`scripts/verify.sh\`, which takes parts as arguments; run it again for"
        echo "figures of your machine."
        echo
        echo "| part | what | command | result | seconds | date | commit | machine |"
        echo "|---|---|---|---|---|---|---|---|"
        for part in "${all[@]}"; do
            for row in "${rows[$part]}" "${rows[$part$some]}"; do
                [[ -z $row ]] || echo "$row"
            done
        done
        [[ -z $notes ]] || echo "$notes"
    } > "$table"
}

# run PART WHAT COMMAND...: one row of the table; the result is the last line that it printed.
run() {
    local part=$1 what=$2 started=$SECONDS code=0 at
    shift 2
    at=$(commit)
    echo "== $part: $*"
    "$@" > "$logs/$part.log" 2>&1 || code=$?
    local last seconds=$((SECONDS - started))
    last=$(grep -v '^[[:space:]]*$' "$logs/$part.log" | tail -n 1 | tr '|' '/' | cut -c 1-120)
    (( code == 0 )) || { failed=1; last="FAILED (exit code $code): $last"; }
    echo "   $last, $seconds s"
    # What is shown must hold on any machine: the environment by its name.
    local shown=${*//${PEERS_ENV:-no environment}/\$PEERS_ENV} name
    local key=$part
    if [[ $part == parity ]]; then
        for name in ONLY PARTS; do
            [[ -z ${!name:-} ]] || shown="$name='${!name//|/&#124;}' $shown" key=$part$some
        done
    fi
    case $part in
        sanitize | threads)
            [[ $* != *sanitize_files.sh* ]] || shown="FILES='$FILES' $shown"
            [[ -z ${TESTS:-} ]] || key=$part$some ;;
        bugs) [[ -z ${BUGS:-} ]] || key=$part$some ;;
    esac
    rows[$part$some]=
    rows[$key]="| $key | $what | \`$shown\` | $last | $seconds | $(date -u +%F) | $at "
    rows[$key]+="| $(machine) |"
    write_table
}
# An older row, which has its date, says more than that it was not run now.
missing() {
    failed=1
    echo "== $1: NOT RUN: $3"
    [[ -n ${rows[$1]} ]] || rows[$1]="| $1 | $2 | | NOT RUN: $3 | | | | |"
    write_table
}
with_graft() { # builds the command first, and what else is named
    scripts/build.sh release graft "$@" > "$logs/build.log" 2>&1 || cat "$logs/build.log" >&2
}

all_or_some() { # the tests that TESTS leaves
    local names
    read -ra names <<< "${TESTS:-}"
    if (( ${#names[@]} )); then echo "${#names[@]} test binaries"; else echo "all tests"; fi
}

for part in "${parts[@]}"; do
    case $part in
        tests)
            run tests "all tests, release build; benchmarks and fuzz targets compile" \
                bash -c "scripts/build.sh release benchmarks fuzz && scripts/test.sh" ;;
        sanitize)
            what="address and undefined-behaviour sanitizers"
            if [[ -n ${FILES:-} ]]; then
                run sanitize "$(wc -w <<< "$FILES") files in $(all_or_some), $what" \
                    scripts/sanitize_files.sh ${TESTS:-}
            else
                run sanitize "$(all_or_some), $what" scripts/sanitize.sh ${TESTS:-}
            fi ;;
        threads) run threads "tests of parallel code, thread sanitizer" \
            scripts/tsan.sh ${TESTS:-} ;;
        fuzz) run fuzz "fuzz targets, sanitizers, ten minutes each" scripts/fuzz.sh 600 ;;
        bugs)
            run bugs "planted bugs turn the named tests red" \
                python3 scripts/planted_bugs.py ${BUGS:-} ;;
        kills)
            with_graft
            run kills "runs killed 28 times and a suite killed 20 times equal those that were not" \
                python3 scripts/kill_test.py ;;
        parity)
            what="50 steps of each method and option, files both ways, kinds of checkpoints, "
            what+="logits and tokens equal those of PyTorch, timm, transformers, peft and "
            what+="tokenizers; what is wired wrongly does not"
            if [[ ! -x ${PEERS_ENV:-}/bin/python ]]; then
                missing parity "$what" "PEERS_ENV is not set"
            elif [[ -z ${GRAFT_DATA:-} ]]; then
                missing parity "$what" "GRAFT_DATA is not set"
            else
                with_graft tokenize_lines masked_lm_logits
                run parity "$what" tests/parity/run_parity.sh "$PEERS_ENV" build/graft
            fi ;;
        accuracy)
            what="accuracy within 3 points of PyTorch's"
            if [[ -z ${GRAFT_DATA:-} ]]; then
                missing accuracy "$what" "GRAFT_DATA is not set"
            elif [[ ! -d ${PEERS_ENV:-}/minilm ]]; then
                missing accuracy "$what" "PEERS_ENV, which holds minilm/, is not set"
            else
                with_graft
                MINILM=$PEERS_ENV/minilm run accuracy "$what" tests/parity/accuracy.sh build/graft
            fi ;;
        pages)
            what="reports in headless Chromium: charts are drawn, nothing on the console"
            if ! command -v chromium > /dev/null; then
                missing pages "$what" "there is no chromium"
            else
                with_graft
                run pages "$what" python3 scripts/check_report.py build/graft
            fi ;;
        *) echo "verify.sh: unknown part '$part' (${all[*]})" >&2; exit 2 ;;
    esac
done
echo "logs: $logs; table: $table"
exit "$failed"
