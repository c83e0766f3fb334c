#!/usr/bin/env bash
# Trains 50 steps of DeiT-Ti on CIFAR-10 with every method that PyTorch can replay, replays each,
# prints a table. A trace that passed is removed; one that differs stays in OUT.
# usage: GRAFT_DATA=DIR run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]
#   DIR holds weights/deit_tiny_patch16_224.safetensors and data/vtab-1k/cifar10; ONLY=REGEX runs
#   the lines below that match it; THREADS (1) is used by both sides. Exit 1 if any method differs.
set -euo pipefail
env=${1:?usage: run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]}
graft=${2:?usage: run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]}
out=${3:-$(mktemp -d)}
data=${GRAFT_DATA:?set GRAFT_DATA to the folder that holds weights/ and data/}
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-1}
mkdir -p "$out"

# method, learning rate, more options. Masks go through the trace: with micro-batches that do not
# divide the batch, so that a mask that is not a function of the sample shows.
methods=(
    "full 1e-4"
    "linear 1e-2"
    "ln 1e-3"
    "bitfit 1e-3"
    "last(k=2) 1e-4"
    "lora(r=8) 1e-3"
    "lora(r=8,targets=attn.*|mlp.*) 1e-3"
    "lora(r=8)+bitfit 1e-3"
    "ln+linear 1e-3"
    "lora(r=8,dropout=0.1) 1e-3 --micro-batch 6"
    "full 1e-4 --drop-path 0.2 --micro-batch 6"
)
table="$out/table.md"
{
    echo "| method | steps | first loss | last loss | worst loss difference" \
        "| worst tensor | all updates | equal |"
    echo "|---|---|---|---|---|---|---|---|"
} > "$table"

failed=0
index=0
tried=0
for line in "${methods[@]}"; do
    read -r method lr more <<< "$line"
    label="$method${more:+ $more}"
    index=$((index + 1))
    [[ -n ${ONLY:-} && ! $line =~ $ONLY ]] && continue
    tried=$((tried + 1))
    work="$out/$index"
    rm -rf "$work"
    mkdir -p "$work"
    # 400 rows in batches of 16 are 25 steps an epoch.
    if "$graft" train --model "$data/weights/deit_tiny_patch16_224.safetensors" \
        --data "$data/data/vtab-1k/cifar10" --method "$method" --out "$work/run" \
        --trace "$work/trace" --train-split train800val200 --limit 400 --epochs 2 --batch-size 16 \
        --lr "$lr" $more --weight-decay 1e-2 --schedule cosine --warmup 0.1 --label-smoothing 0.1 \
        --optimizer adamw --seed 1 --dtype f32 --threads "$threads" \
        --quiet > "$work/train.log" 2>&1; then
        if "$env/bin/python" "$here/replay_vit.py" --trace "$work/trace" --run "$work/run" \
            --data "$data/data/vtab-1k/cifar10" --threads "$threads" --label "$label" \
            --table "$table" --json "$work/replay.json" > "$work/replay.log" 2>&1; then
            rm -r "$work/trace"
        else
            failed=$((failed + 1))
            echo "== $label: the replay differs" >&2
            cat "$work/replay.log" >&2
            [[ -e $work/replay.json ]] ||
                echo "| ${label//|/&#124;} | | | | | | | NO: not replayed |" >> "$table"
        fi
    else
        failed=$((failed + 1))
        echo "== $label: graft train failed" >&2
        tail -n 20 "$work/train.log" >&2
        echo "| ${label//|/&#124;} | | | | | | | NO: not trained |" >> "$table"
    fi
done
cat "$table"
echo "$tried runs replayed, $failed differ"
exit $((failed > 0))
