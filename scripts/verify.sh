#!/usr/bin/env bash
# Everything slow, each part with its result and time, into docs/verification.md.
# usage: verify.sh [PART...]    parts: tests sanitize bugs kills parity accuracy (default: all)
#   PEERS_ENV: the Python environment of the peers (made by $GRAFT_DATA/bench/setup_peers.sh), for
#   parity. GRAFT_DATA: weights and data sets, default ../shared.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
parts=("$@")
(( ${#parts[@]} )) || parts=(tests sanitize bugs kills parity accuracy)
[[ -n ${GRAFT_DATA:-} || ! -d ../shared ]] || export GRAFT_DATA=$(cd ../shared && pwd)
logs=$(mktemp -d)
rows=()
failed=0

# run PART WHAT COMMAND...: one row of the table; the result is the last line that it printed.
run() {
    local part=$1 what=$2 started=$SECONDS code=0
    shift 2
    echo "== $part: $*"
    "$@" > "$logs/$part.log" 2>&1 || code=$?
    local last
    last=$(grep -v '^[[:space:]]*$' "$logs/$part.log" | tail -n 1 | tr '|' '/' | cut -c 1-120)
    (( code == 0 )) || { failed=1; last="FAILED (exit code $code): $last"; }
    echo "   $last, $((SECONDS - started)) s"
    # What is shown must hold on any machine: the environment by its name.
    local shown=${*//${PEERS_ENV:-no environment}/\$PEERS_ENV}
    rows+=("| $part | $what | \`$shown\` | $last | $((SECONDS - started)) |")
}
missing() {
    failed=1
    echo "== $1: NOT RUN: $3"
    rows+=("| $1 | $2 | | NOT RUN: $3 | |")
}

for part in "${parts[@]}"; do
    case $part in
        tests) run tests "all tests, release build" scripts/test.sh ;;
        sanitize) run sanitize "all tests, address and undefined-behaviour sanitizers" \
            scripts/sanitize.sh ;;
        bugs) run bugs "planted bugs turn the named tests red" python3 scripts/planted_bugs.py ;;
        kills)
            scripts/build.sh release graft > "$logs/build.log" 2>&1 || true
            run kills "a run killed 20 times equals one that was not" \
                python3 scripts/kill_test.py ;;
        parity)
            what="50 steps of each method equal PyTorch's"
            if [[ ! -x ${PEERS_ENV:-}/bin/python ]]; then
                missing parity "$what" "PEERS_ENV is not set"
            elif [[ -z ${GRAFT_DATA:-} ]]; then
                missing parity "$what" "GRAFT_DATA is not set"
            else
                run parity "$what" tests/parity/run_parity.sh "$PEERS_ENV" build/graft
            fi ;;
        accuracy)
            what="accuracy within 3 points of PyTorch's"
            if [[ -z ${GRAFT_DATA:-} ]]; then
                missing accuracy "$what" "GRAFT_DATA is not set"
            else
                run accuracy "$what" tests/parity/accuracy.sh build/graft
            fi ;;
        *) echo "verify.sh: unknown part '$part'" >&2; exit 2 ;;
    esac
done

changes=$(git status --porcelain --untracked-files=no | wc -l)
mkdir -p docs
{
    echo "# Verification"
    echo
    echo "Made by \`scripts/verify.sh ${parts[*]}\`; run it again for figures of your machine."
    echo
    echo "- date: $(date -u +%Y-%m-%d)"
    model=$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)
    echo "- machine: $model, $(nproc) threads," \
        "$(. /etc/os-release && echo "$PRETTY_NAME")"
    echo "- commit: $(git rev-parse --short HEAD)$( ((changes)) && echo ", $changes files changed")"
    echo
    echo "| part | what | command | result | seconds |"
    echo "|---|---|---|---|---|"
    printf '%s\n' "${rows[@]}"
} > docs/verification.md
echo "logs: $logs; table: docs/verification.md"
exit "$failed"
