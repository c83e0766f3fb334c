"""Logits of a BERT on rows of texts by float64 transformers, on padded batches with their masks.

usage: python bert_logits.py make --model DIR --data TEXT --out OUT [--tasks sst2,mrpc] [--limit N]
       python bert_logits.py compare --expected OUT/sst2.safetensors --logits FILE.npy

make: writes OUT/model, the model with a classifier of seeded weights as transformers saves it, and
for each TASK (TEXT/TASK/dev.tsv: one text or two, then the label) OUT/TASK.safetensors with ids,
type_ids, positions [tokens], offsets [texts+1] (rows without padding) and logits [texts,2].
compare: exit 1 if the largest difference over the largest logit is above --tolerance.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from safetensors.torch import load_file, save_file

BATCH, LONGEST = 32, 128


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("--model", type=pathlib.Path, required=True)
    make.add_argument("--data", type=pathlib.Path, required=True)
    make.add_argument("--out", type=pathlib.Path, required=True)
    make.add_argument("--tasks", default="sst2,mrpc")
    make.add_argument("--limit", type=int, help="rows of each task; all by default")
    compare = commands.add_parser("compare")
    compare.add_argument("--expected", type=pathlib.Path, required=True)
    compare.add_argument("--logits", type=pathlib.Path, required=True)
    compare.add_argument("--tolerance", type=float, default=1e-4)
    return p.parse_args()


def read_texts(path, limit):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[:-1] for line in lines[:limit]]


def task_logits(model, tokenizer, texts):
    """The rows of all texts one after the other, and the logits."""
    out = {"ids": [], "type_ids": [], "positions": [], "lengths": [], "logits": []}
    for first in range(0, len(texts), BATCH):
        part = texts[first : first + BATCH]
        second = [t[1] for t in part] if len(part[0]) > 1 else None
        batch = tokenizer(
            [t[0] for t in part],
            second,
            truncation=True,
            max_length=LONGEST,
            padding=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            out["logits"].append(model(**batch).logits)
        rows = batch["attention_mask"].bool()
        positions = torch.arange(rows.shape[1]).expand(rows.shape)
        out["ids"].append(batch["input_ids"][rows])
        out["type_ids"].append(batch["token_type_ids"][rows])
        out["positions"].append(positions[rows])
        out["lengths"].append(rows.sum(1))
    joined = {k: torch.cat(v) for k, v in out.items()}
    lengths = joined.pop("lengths")
    joined["offsets"] = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    numbers = {k: v.int() for k, v in joined.items() if k != "logits"}
    return {**numbers, "logits": joined["logits"].double()}


def make(args):
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(args.model, num_labels=2)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    torch.nn.init.normal_(model.classifier.bias, std=0.5)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    model = model.double().eval()
    for task in args.tasks.split(","):
        texts = read_texts(args.data / task / "dev.tsv", args.limit)
        result = task_logits(model, tokenizer, texts)
        save_file({k: v.contiguous() for k, v in result.items()}, args.out / f"{task}.safetensors")
        print(f"{task}: {len(texts)} texts, {len(result['ids'])} tokens")


def compare(args):
    expected = load_file(args.expected)["logits"].numpy()
    found = np.load(args.logits).astype(np.float64)
    if expected.shape != found.shape:
        print(f"expected logits of shape {expected.shape}, found {found.shape}")
        return 1
    difference = np.abs(expected - found).max()
    relative = difference / np.abs(expected).max()
    agree = (expected.argmax(1) == found.argmax(1)).mean()
    print(
        f"{len(expected)} texts: largest difference {difference:.2e}, relative {relative:.2e}, "
        f"same class {agree:.2%}"
    )
    return 0 if relative <= args.tolerance else 1


def main():
    args = parse()
    return make(args) if args.command == "make" else compare(args)


if __name__ == "__main__":
    sys.exit(main())
