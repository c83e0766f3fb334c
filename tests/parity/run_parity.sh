#!/usr/bin/env bash
# Everything that is compared with PyTorch and its libraries, in parts:
#   replay     trains 50 steps with every method that PyTorch can replay, DeiT-Ti on CIFAR-10 and
#              MiniLM on texts, replays each, prints a table. A trace that passed is removed; one
#              that differs stays in OUT
#   selftest   methods/ without graft (selftest_methods.py); the replay itself: what a wrong wiring
#              of any option leaves must not pass (selftest.py)
#   files      adapters and models go both ways (check_files.py); regression and several labels at
#              once as transformers has them (check_tasks.py); the lines that graft gives to convert
#              pickles (check_conversion.py)
#   logits     of MiniLM on all rows of sst2 and of the pairs of mrpc (bert_logits.py), of masked-LM
#              heads (masked_lm.py; needs masked_lm_logits beside GRAFT_BINARY)
#   tokenizer  ids, types, offsets and truncation (tokenizer_parity.py), directories of every kind
#              of file (tokenizer_files_parity.py); needs tokenize_lines beside GRAFT_BINARY
#   trace      traces of graft profile in Perfetto's trace processor (check_trace.py; needs
#              chromium)
#   augment    --augment beside torchvision and timm (check_augment.py; needs PEERS_ENV/timm)
#   data       tables beside pandas, folders beside torchvision's ImageFolder (check_data.py; needs
#              pandas)
#   cases      checkpoints of kinds that people have: the library's logits or a refusal
#              (check_cases.py; needs DIR/cases)
#   tensorboard  events files hold what metrics.jsonl says (check_tensorboard.py; needs the package)
# usage: GRAFT_DATA=DIR run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]
#   DIR holds weights/deit_tiny_patch16_224.safetensors, data/vtab-1k/cifar10 and data/text;
#   PEERS_ENV holds bin/python, minilm/ and timm/. PARTS="replay files ..." chooses parts,
#   ONLY=REGEX lines of `runs` below; THREADS (1) is used by both sides. Exit 1 if any differs.
set -euo pipefail
env=${1:?usage: run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]}
graft=${2:?usage: run_parity.sh PEERS_ENV GRAFT_BINARY [OUT]}
out=${3:-$(mktemp -d)}
data=${GRAFT_DATA:?set GRAFT_DATA to the folder that holds weights/ and data/}
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-1}
mkdir -p "$out"

# data, method, learning rate, more options, which take the place of those of train_words. Masks go
# through the trace: with micro-batches that do not divide the batch, so that a mask that is not a
# function of the sample shows. Norms of gradients are on both sides of --clip.
# Of images, those with a ReLU of pfeiffer, parallel(site=attn) and mam are 6e-4 to 7e-3 from
# PyTorch in float32, as far as it is from itself in float64: replay.py says how that is judged.
# childtuning(p) with AdamW moves a number that was masked until now by the sign of its first
# gradient, which of some is rounding: SGD shows its masks.
runs=(
    "cifar10 full 1e-4"
    "cifar10 linear 1e-2"
    "cifar10 ln 1e-3"
    "cifar10 bitfit 1e-3"
    "cifar10 last(k=2) 1e-4"
    "cifar10 lora(r=8) 1e-3"
    "cifar10 lora(r=8,targets=attn.*|mlp.*) 1e-3"
    "cifar10 lora(r=8)+bitfit 1e-3"
    "cifar10 ln+linear 1e-3"
    "cifar10 lora(r=8,dropout=0.1) 1e-3 --micro-batch 6"
    "cifar10 full 1e-4 --drop-path 0.2 --micro-batch 6"
    "cifar10 full 1e-3 --optimizer sgd --momentum 0.8 --clip 5 --schedule linear"
    "cifar10 lora(r=8) 5e-4 --schedule constant --warmup 0 --clip 2 --weight-decay 0.1"
    "cifar10 ssf 3e-3"
    "cifar10 adaptformer(r=8,dropout=0.1) 1e-3 --micro-batch 6"
    "cifar10 vpt-deep(tokens=10) 5e-3"
    "cifar10 vpt(tokens=5) 5e-3"
    "cifar10 repadapter(r=8,dropout=0.1) 1e-3 --micro-batch 6"
    "cifar10 fact(r=8) 1e-3"
    "cifar10 fact(form=tk,r=8) 1e-3"
    "cifar10 glora(r=4) 1e-3"
    "cifar10 houlsby(r=8) 1e-3"
    "cifar10 pfeiffer(r=8) 1e-3"
    "cifar10 pfeiffer(r=8,act=gelu) 1e-3"
    "cifar10 parallel(r=8,site=attn) 1e-3"
    "cifar10 parallel(r=8,site=attn,act=gelu) 1e-3"
    "cifar10 prefix(tokens=10,mlp=64) 1e-3"
    "cifar10 mam(tokens=8,r=8) 1e-3"
    "cifar10 mam(tokens=8,r=8,act=gelu) 1e-3"
    "cifar10 ssf+lora(r=4) 1e-3"
    "sst2 full 5e-5"
    "sst2 linear 5e-3"
    "sst2 ln 1e-3"
    "sst2 bitfit 1e-3"
    "sst2 last(k=2) 1e-4"
    "sst2 lora(r=8,alpha=16) 1e-3"
    "sst2 lora(r=8)+bitfit 1e-3"
    "sst2 lora(r=4,rslora=true,targets=attn.*|mlp.*|pooler) 1e-3"
    "sst2 lora(r=8,dropout=0.1) 1e-3 --micro-batch 6"
    "sst2 full 5e-5 --schedule constant --warmup 0.25 --clip 5 --label-smoothing 0"
    "sst2 lora(r=8) 2e-2 --optimizer sgd --schedule cosine --clip 1 --weight-decay 1e-3"
    "sst2 prefix(tokens=10,mlp=64) 1e-3"
    "sst2 ptuning2(tokens=10) 5e-3"
    "sst2 prompt(tokens=10) 1e-3"
    "sst2 ssf 3e-3"
    "sst2 houlsby(r=8,act=relu) 1e-3"
    "sst2 pfeiffer(r=8) 1e-3"
    "sst2 parallel(r=8) 1e-3"
    "sst2 repadapter(r=8) 1e-3"
    "sst2 fact(r=8) 1e-3"
    "sst2 glora(r=4) 1e-3"
    "mrpc lora(r=8,dropout=0.1,targets=attn.*|mlp.*) 1e-3 --micro-batch 3 --max-length 64"
    "cifar10 ssf 1e-3"
    "cifar10 vpt(tokens=10) 1e-2"
    "cifar10 vpt-deep(tokens=10,dropout=0.1) 1e-2 --micro-batch 6"
    "cifar10 fact(r=16,dropout=0.1) 1e-3 --micro-batch 6"
    "cifar10 fact(form=tk,r=16,scale=10) 1e-3"
    "cifar10 repadapter(scale=5,dropout=0.1) 1e-3 --drop-path 0.1 --micro-batch 6"
    "cifar10 parallel(site=attn,act=silu) 1e-3"
    "cifar10 childtuning(p=0.3) 1e-3 --optimizer sgd --momentum 0.8 --clip 5"
    "cifar10 nf4+lora(r=8) 1e-3"
    "sst2 houlsby(r=8,ln=true) 1e-3"
    "sst2 pfeiffer(r=8,act=gelu) 1e-3"
    "sst2 parallel(r=16,scale=4) 1e-3"
    "sst2 mam(tokens=16) 1e-3"
    "sst2 prefix(tokens=10,mlp=512) 1e-3"
    "sst2 ptuning2(tokens=20,shift=true) 5e-3"
    "sst2 prompt(tokens=20) 1e-3"
    "sst2 vpt-deep(tokens=5) 5e-3"
    "sst2 ssf 1e-3"
    "sst2 childtuning(mode=d,p=0.2) 5e-5"
    "sst2 noisytune+lora(r=8) 1e-3"
    "sst2 bitfit+calibration-layer 1e-3"
)
table="$out/table.md"

# train_words DATA OPTIONS...: what follows from the data, but for what OPTIONS give themselves,
# and OPTIONS, into the array `words`. 400 rows in batches of 16 are 25 steps an epoch.
train_words() {
    local dataset=$1 i told
    shift
    if [[ $dataset == cifar10 ]]; then
        told=(--model "$data/weights/deit_tiny_patch16_224.safetensors"
            --data "$data/data/vtab-1k/$dataset" --train-split train800val200 --val-split none
            --schedule cosine)
    else
        told=(--model "$env/minilm" --data "$data/data/text/$dataset" --train-split train
            --val-split none --schedule linear)
    fi
    told+=(--limit 400 --epochs 2 --batch-size 16 --weight-decay 1e-2 --warmup 0.1
        --label-smoothing 0.1 --optimizer adamw --seed 1 --dtype f32 --threads "$threads")
    words=(--quiet "$@")
    for ((i = 0; i < ${#told[@]}; i += 2)); do
        [[ " $* " == *" ${told[i]} "* ]] || words+=("${told[@]:i:2}")
    done
}

replay_one() { # LABEL WORK DATA METHOD LR OPTIONS...: a row of the table; 1 if it differs
    local label=$1 work=$2 dataset=$3 method=$4 lr=$5
    shift 5
    train_words "$dataset" "$@"
    if ! "$graft" train "${words[@]}" --method "$method" --lr "$lr" --out "$work/run" \
        --trace "$work/trace" > "$work/train.log" 2>&1; then
        echo "== $label: graft train failed" >&2
        tail -n 20 "$work/train.log" >&2
        echo "| ${label//|/&#124;} | | | | | | | | | NO: not trained |" >> "$table"
        return 1
    fi
    if "$env/bin/python" "$here/replay.py" --trace "$work/trace" --run "$work/run" \
        --threads "$threads" --label "$label" --table "$table" --json "$work/replay.json" \
        > "$work/replay.log" 2>&1; then
        rm -r "$work/trace"
        return 0
    fi
    echo "== $label: the replay differs" >&2
    cat "$work/replay.log" >&2
    [[ -e $work/replay.json ]] ||
        echo "| ${label//|/&#124;} | | | | | | | | | NO: not replayed |" >> "$table"
    return 1
}

replay() {
    local index=0 tried=0 failed=0 line dataset method lr more
    {
        echo "| run | steps | first loss | last loss | worst loss difference" \
            "| worst update of a tensor | all updates | allowed | weight decay off by | equal |"
        echo "|---|---|---|---|---|---|---|---|---|---|"
    } > "$table"
    for line in "${runs[@]}"; do
        index=$((index + 1))
        [[ -n ${ONLY:-} && ! $line =~ $ONLY ]] && continue
        read -r dataset method lr more <<< "$line"
        tried=$((tried + 1))
        rm -rf "${out:?}/$index"
        mkdir -p "$out/$index"
        replay_one "$dataset: $method${more:+ $more}" "$out/$index" "$dataset" "$method" "$lr" \
            $more || failed=$((failed + 1))
    done
    cat "$table"
    echo "$tried runs replayed, $failed differ"
    ((tried > 0 && failed == 0))
}

selftest() {
    "$env/bin/python" "$here/selftest_methods.py" &&
        "$env/bin/python" "$here/selftest.py" --graft "$graft"
}
files() {
    local timm=()
    [[ -d $env/timm ]] && timm=(--timm "$env/timm")
    "$env/bin/python" "$here/check_files.py" --graft "$graft" "${timm[@]}" --minilm "$env/minilm" \
        --threads "$threads" &&
        "$env/bin/python" "$here/check_tasks.py" --graft "$graft" &&
        "$env/bin/python" "$here/check_conversion.py" --graft "$graft" --minilm "$env/minilm"
}
logits() {
    "$env/bin/python" "$here/bert_logits.py" --graft "$graft" --model "$env/minilm" \
        --data "$data/data/text" --threads "$threads" &&
        "$env/bin/python" "$here/masked_lm.py" --graft "$graft" --threads "$threads" \
            --logits "$(dirname "$graft")/masked_lm_logits"
}
tokenizer() {
    local helper
    helper=$(dirname "$graft")/tokenize_lines
    "$env/bin/python" "$here/tokenizer_files_parity.py" --helper "$helper" --count 2000 &&
        "$env/bin/python" "$here/tokenizer_parity.py" --helper "$helper" \
            --minilm "$env/minilm" --texts "$data/data/text"
}
trace() {
    "$env/bin/python" "$here/check_trace.py" --graft "$graft"
}
augment() {
    PYTHONPATH="$env/timm" "$env/bin/python" "$here/check_augment.py"
}
cases() {
    local timm=()
    [[ -d $env/timm ]] && timm=(--timm "$env/timm")
    rm -rf "$out/cases"
    "$env/bin/python" "$here/check_cases.py" "$out/cases" --graft "$graft" "${timm[@]}" \
        --minilm "$env/minilm" --threads "$threads"
}

data() {
    "$env/bin/python" -W ignore "$here/check_data.py" --graft "$graft"
}

tensorboard() {
    "$env/bin/python" "$here/check_tensorboard.py" --graft "$graft" --threads "$threads"
}

summary=()
failed=0
all="replay selftest files logits tokenizer trace augment data cases tensorboard"
for part in ${PARTS:-$all}; do
    case $part in
        replay | selftest | files | logits | tokenizer) ;;
        trace | augment | data | cases | tensorboard) ;;
        *) echo "run_parity.sh: unknown part '$part'" >&2; exit 2 ;;
    esac
    "$part" > "$out/$part.log" || { failed=1; summary+=("FAILED:"); }
    cat "$out/$part.log"
    summary+=("$part: $(tail -n 1 "$out/$part.log");")
done
echo "${summary[*]}"
exit "$failed"
