#!/usr/bin/env bash
# Trains DeiT-Ti on CIFAR-10 and EuroSAT by the recipe that the PyTorch accuracies were measured
# with, three seeds each, and compares the mean accuracy on the first 1,000 test images with
# PyTorch's, within 3 points.
# usage: GRAFT_DATA=DIR accuracy.sh GRAFT_BINARY [OUT]
#   SEEDS="0 1 2", THREADS, ONLY=linear|lora
set -euo pipefail
graft=${1:?usage: accuracy.sh GRAFT_BINARY [OUT]}
out=${2:-$(mktemp -d)}
data=${GRAFT_DATA:?set GRAFT_DATA to the folder that holds weights/ and data/}
here=$(cd "$(dirname "$0")" && pwd)
threads=(${THREADS:+--threads "$THREADS"})
mkdir -p "$out"
results="$out/results.tsv"
: > "$results"

for task in cifar10 eurosat; do
    for recipe in "linear 100 1e-2" "lora(r=8,alpha=8) 10 1e-3"; do
        read -r method epochs lr <<< "$recipe"
        name=${method%%(*}
        [[ -n ${ONLY:-} && $name != "$ONLY" ]] && continue
        for seed in ${SEEDS:-0 1 2}; do
            run="$out/$task-$name-$seed"
            rm -rf "$run"
            "$graft" train --model "$data/weights/deit_tiny_patch16_224.safetensors" \
                --data "$data/data/vtab-1k/$task" --method "$method" --out "$run" \
                --train-split train800val200 --epochs "$epochs" --lr "$lr" --batch-size 64 \
                --weight-decay 1e-4 --schedule cosine --warmup 0.1 --seed "$seed" --dtype f32 \
                --json "${threads[@]}" > "$out/train.json"
            "$graft" eval --run "$run" --data "$data/data/vtab-1k/$task" --split test \
                --limit 1000 --json "${threads[@]}" > "$out/eval.json"
            printf '%s\t%s\t%s\t%s\t%s\n' "$task" "$name" "$seed" \
                "$(tr -d '\n' < "$out/train.json")" "$(tr -d '\n' < "$out/eval.json")" >> "$results"
        done
    done
done
python3 "$here/accuracy_report.py" "$results"
