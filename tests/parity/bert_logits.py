"""Compares `graft predict` on texts with float64 transformers, which reads padded batches with
their masks: the tokenizer and the model together, on every row of data sets of texts or pairs.

usage: python bert_logits.py --graft GRAFT --model DIR --data TEXT [--tasks sst2,mrpc] [--limit N]

DIR is a BERT without a head, which gets one with seeded weights; TEXT/TASK/dev.tsv has one text or
two, then the label. Exit 1 if the largest difference over the largest logit is above --tolerance.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from transformers import AutoTokenizer, BertForSequenceClassification
from transformers.utils import logging

logging.disable_progress_bar()
BATCH, LONGEST = 32, 128


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--model", type=pathlib.Path, required=True)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--tasks", default="sst2,mrpc")
    p.add_argument("--limit", type=int, help="rows of each task; all by default")
    p.add_argument("--tolerance", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def make_model(source, folder):
    """The float64 model and its tokenizer; in the folder the float32 one for graft."""
    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(source, num_labels=2)
    for p in model.classifier.parameters():
        torch.nn.init.normal_(p, std=0.5)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.double().eval(), tokenizer


def reference_logits(model, tokenizer, texts):
    out, tokens = [], 0
    for first in range(0, len(texts), BATCH):
        columns = [list(column) for column in zip(*texts[first : first + BATCH])]
        batch = tokenizer(
            *columns, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt"
        )
        tokens += int(batch["attention_mask"].sum())
        with torch.no_grad():
            out.append(model(**batch).logits)
    return torch.cat(out).numpy(), tokens


def graft_logits(args, model, texts, folder):
    lines, out = folder / "texts.txt", folder / "logits.npy"
    lines.write_text("".join("\t".join(t) + "\n" for t in texts), encoding="utf-8")
    command = [args.graft, "predict", "--model", model, lines, "--logits", out, "--quiet"]
    command += ["--force", "--max-length", str(LONGEST), "--threads", str(args.threads)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"graft predict: {result.returncode}\n{result.stderr}")
    return np.load(out).astype(np.float64)


def main():
    args, equal = parse(), 0
    tasks = args.tasks.split(",")
    torch.set_num_threads(args.threads)
    print("| data | texts | tokens | largest difference | over largest logit | same class | good |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, tokenizer = make_model(args.model, folder / "model")
        for task in tasks:
            lines = (args.data / task / "dev.tsv").read_text(encoding="utf-8").splitlines()
            texts = [line.split("\t")[:-1] for line in lines[: args.limit]]
            expected, tokens = reference_logits(model, tokenizer, texts)
            found = graft_logits(args, folder / "model", texts, folder)
            if expected.shape != found.shape:
                sys.exit(f"{task}: expected logits {expected.shape}, found {found.shape}")
            difference = np.abs(expected - found).max()
            relative = difference / np.abs(expected).max()
            agree = (expected.argmax(1) == found.argmax(1)).mean()
            fine = bool(relative <= args.tolerance)  # not for NaN
            equal += fine
            print(
                f"| {task} | {len(texts)} | {tokens} | {difference:.1e} | {relative:.1e} | "
                f"{agree:.1%} | {'yes' if fine else 'NO'} |",
                flush=True,
            )
    print(f"{equal} of {len(tasks)} data sets equal")
    return 0 if equal == len(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())
