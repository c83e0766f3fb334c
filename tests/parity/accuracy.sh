#!/usr/bin/env bash
# Trains by the recipes that the PyTorch accuracies were measured with, three seeds each, and
# compares the mean accuracy with PyTorch's, within 3 points: DeiT-Ti on CIFAR-10 and EuroSAT, on
# the first 1,000 test images; MiniLM on the texts of SST-2 and TREC-6, on all of dev. Each run is
# evaluated in bf16, in int8 and in int8 calibrated by 64 training examples, too, beside f32; a CPU
# without the instructions emulates them.
# usage: GRAFT_DATA=DIR [MINILM=DIR] accuracy.sh GRAFT_BINARY [OUT]
#   SEEDS="0 1 2", THREADS, ONLY=REGEX of lines of `recipes` below. Without MINILM the lines of
#   texts are left out.
set -euo pipefail
graft=${1:?usage: accuracy.sh GRAFT_BINARY [OUT]}
out=${2:-$(mktemp -d)}
data=${GRAFT_DATA:?set GRAFT_DATA to the folder that holds weights/ and data/}
here=$(cd "$(dirname "$0")" && pwd)
threads=(${THREADS:+--threads "$THREADS"})
mkdir -p "$out"
results="$out/results.tsv"
: > "$results"

# data, method, epochs, learning rate
recipes=(
    "cifar10 linear 100 1e-2"
    "cifar10 lora(r=8,alpha=8) 10 1e-3"
    "eurosat linear 100 1e-2"
    "eurosat lora(r=8,alpha=8) 10 1e-3"
    "sst2 linear 10 5e-3"
    "sst2 lora(r=8,alpha=16) 5 1e-3"
    "sst2 bitfit 5 2e-3"
    "sst2 full 3 5e-5"
    "trec6 linear 10 5e-3"
    "trec6 lora(r=8,alpha=16) 5 2e-3"
    "trec6 full 5 1e-4"
)

for recipe in "${recipes[@]}"; do
    [[ -n ${ONLY:-} && ! $recipe =~ $ONLY ]] && continue
    read -r task method epochs lr <<< "$recipe"
    if [[ $task == cifar10 || $task == eurosat ]]; then
        examples=$data/data/vtab-1k/$task
        how=(--model "$data/weights/deit_tiny_patch16_224.safetensors" --batch-size 64
            --train-split train800val200 --weight-decay 1e-4 --schedule cosine)
        measure=(--split test --limit 1000)
    elif [[ -n ${MINILM:-} ]]; then
        examples=$data/data/text/$task
        how=(--model "$MINILM" --batch-size 32 --max-length 128 --pool pooler
            --train-split train --val-split none --limit 1000 --weight-decay 1e-2
            --schedule linear)
        measure=(--split dev)
    else
        echo "NOT RUN: $recipe (MINILM is not set)"
        continue
    fi
    name=${method%%(*}
    for seed in ${SEEDS:-0 1 2}; do
        run="$out/$task-$name-$seed"
        rm -rf "$run"
        "$graft" train "${how[@]}" --data "$examples" --method "$method" --out "$run" \
            --epochs "$epochs" --lr "$lr" --warmup 0.1 --seed "$seed" --dtype f32 \
            --json "${threads[@]}" > "$out/train.json"
        "$graft" eval --run "$run" --data "$examples" "${measure[@]}" --json "${threads[@]}" \
            > "$out/eval.json"
        for low in bf16 int8 calibrated; do
            how_low=(--dtype "$low")
            [[ $low != calibrated ]] || how_low=(--dtype int8 --calibrate "$examples")
            GRAFT_EMULATE=1 "$graft" eval --run "$run" --data "$examples" "${measure[@]}" \
                "${how_low[@]}" --against f32 --json "${threads[@]}" > "$out/eval-$low.json"
        done
        rm -f "$run/state.safetensors" # three times the model
        {
            printf '%s\t%s\t%s' "$task" "$name" "$seed"
            for json in train eval eval-bf16 eval-int8 eval-calibrated; do
                printf '\t%s' "$(tr -d '\n' < "$out/$json.json")"
            done
            printf '\n'
        } >> "$results"
    done
done
python3 "$here/accuracy_report.py" "$results"
