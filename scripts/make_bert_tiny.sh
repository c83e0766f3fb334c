#!/usr/bin/env bash
# Pre-trains a small BERT (2 blocks, width 128) on the plain texts of DIR, as in docs/cli.md: a
# checkpoint with a masked-LM head for --head mlm, bbt and --objective nsp, in minutes. It learns
# which words stand together, and no more than that from so few texts.
# usage: make_bert_tiny.sh DIR VOCAB OUT [OPTION...]
#   DIR: data sets with train.tsv and dev.tsv whose first column is a text; VOCAB: a vocab.txt;
#   OUT: a directory that transformers and graft open. OPTIONs go to graft train.
# GRAFT: the command (default: build/graft).
set -euo pipefail
data=${1:?usage: make_bert_tiny.sh DIR VOCAB OUT [OPTION...]}
vocab=${2:?usage: make_bert_tiny.sh DIR VOCAB OUT [OPTION...]}
out=${3:?usage: make_bert_tiny.sh DIR VOCAB OUT [OPTION...]}
shift 3
graft=${GRAFT:-$(cd "$(dirname "$0")/.." && pwd)/build/graft}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
for table in "$data"/*/train.tsv; do
    name=$(basename "$(dirname "$table")")
    cut -f 1 "$table" > "$work/corpus/$name.txt"
    head -n 100 "${table%train.tsv}dev.tsv" | cut -f 1 >> "$work/corpus/dev.txt"
done
"$graft" train --model init:bert_tiny --tokenizer "$vocab" --data "$work/corpus" --objective mlm \
    --lr 1e-3 --weight-decay 1e-2 --clip 1 --warmup 0.05 --batch-size 64 --epochs 15 \
    --max-length 64 --allow-overlap --out "$work/run" "$@"
"$graft" fuse --run "$work/run" --out "$out"
