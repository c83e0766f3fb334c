"""Compares masked-LM heads with float64 transformers, on a BERT that `graft` trains from texts that
this script makes up:

- the checkpoint of `--objective mlm` loads into BertForMaskedLM without missing or unused keys, and
  the logits of all rows are those of the library;
- a prompt on it, merged, gives the logits of its label words: of a class the mean over its words of
  the mean of a word's sub-words, at the [MASK] of the text as BertTokenizer reads it.

usage: python masked_lm.py --graft GRAFT --logits BUILD/masked_lm_logits [--threads N]

Exit 1 if the largest difference over the largest logit is above --tolerance.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from transformers import BertForMaskedLM, BertTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
TEMPLATE, WORDS = "{text} it was [MASK] .", "great,good|terrible,bade"
SENTENCES = 400


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--logits", type=pathlib.Path, required=True, help="masked_lm_logits")
    p.add_argument("--tolerance", type=float, default=1e-5)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def graft(args, *words):
    command = [str(args.graft), *map(str, words), "--threads", str(args.threads), "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.returncode}\n{result.stderr}")
    return json.loads(result.stdout)


def write_data(folder):
    """A vocabulary, a corpus, and labelled texts."""
    draw = random.Random(3)
    words = "the film was a great good terrible story of it and plot in".split()
    pieces = ["bad", "##e", "play", "##ed", "##ing", "."]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + words + pieces) + "\n")

    def sentence():
        length = draw.randint(4, 12)
        return " ".join(draw.choice(words + ["played", "playing"]) for _ in range(length))

    for name in ("corpus", "labelled"):
        (folder / name).mkdir()
    for name, n in (("a", SENTENCES), ("val", SENTENCES // 4)):
        (folder / "corpus" / f"{name}.txt").write_text("".join(sentence() + "\n" for _ in range(n)))
    rows = [sentence() for _ in range(SENTENCES)]
    (folder / "labelled" / "train.tsv").write_text(
        "".join(f"{row}\t{int('great' in row)}\n" for row in rows)
    )
    return [sentence() for _ in range(50)]


def load(path):
    model, info = BertForMaskedLM.from_pretrained(path, output_loading_info=True)
    missing = {key: list(info[key]) for key in ("missing_keys", "unexpected_keys") if info[key]}
    if missing:
        sys.exit(f"{path}: {missing}")
    return model.double().eval(), BertTokenizer.from_pretrained(path)


def relative(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def whole_vocabulary(args, path, texts):
    """Of every row of every text, graft's logits beside those of transformers."""
    model, tokenizer = load(path)
    error = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(ids).logits[0].numpy()
        words = [args.logits, path, *(str(int(i)) for i in ids[0])]
        result = subprocess.run(words, capture_output=True, text=True, check=True)
        found = np.array([[float(x) for x in line.split()] for line in result.stdout.splitlines()])
        error = max(error, relative(found, expected))
    return error


def label_words(args, path, texts, folder):
    model, tokenizer = load(path)
    classes = [
        [tokenizer(word, add_special_tokens=False)["input_ids"] for word in group.split(",")]
        for group in WORDS.split("|")
    ]
    if max(len(ids) for group in classes for ids in group) < 2:
        sys.exit("expected a label word of several sub-words")
    expected = []
    for text in texts:
        ids = tokenizer(TEMPLATE.replace("{text}", text), return_tensors="pt")["input_ids"]
        row = int((ids[0] == tokenizer.mask_token_id).nonzero()[0, 0])
        with torch.no_grad():
            z = model(ids).logits[0, row].numpy()
        expected.append([np.mean([z[word].mean() for word in group]) for group in classes])
    (folder / "texts.txt").write_text("".join(text + "\n" for text in texts))
    texts_file, out = folder / "texts.txt", folder / "l.npy"
    graft(args, "predict", "--model", path, texts_file, "--logits", out, "--force")
    return relative(np.load(folder / "l.npy"), np.array(expected))


def main():
    args, errors = parse(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = write_data(folder)
        model = "init:bert(vocab=32,width=48,depth=2,heads=4,mlp=96,positions=48)"
        graft(
            args, "train", "--model", model, "--tokenizer", folder / "vocab.txt", "--data",
            folder / "corpus", "--objective", "mlm", "--epochs", 3, "--lr", "3e-3", "--clip", 1,
            "--max-length", 24, "--out", folder / "pre", "--allow-overlap",
        )  # fmt: skip
        graft(args, "fuse", "--run", folder / "pre", "--out", folder / "bert")
        errors["plain texts"] = whole_vocabulary(args, folder / "bert", texts)
        graft(
            args, "train", "--model", folder / "bert", "--data", folder / "labelled", "--head",
            "mlm", "--template", TEMPLATE, "--words", WORDS, "--method",
            "lora(r=4,targets=attn.*|mlm.dense)", "--epochs", 2, "--max-length", 32, "--out",
            folder / "prompt",
        )  # fmt: skip
        graft(args, "fuse", "--run", folder / "prompt", "--out", folder / "merged")
        errors["label words"] = label_words(args, folder / "merged", texts, folder)
        errors["after a prompt"] = whole_vocabulary(args, folder / "merged", texts[:5])
    print("| logits | over largest | good |\n|---|---|---|")
    for what, error in errors.items():
        print(f"| {what} | {error:.1e} | {'yes' if error <= args.tolerance else 'NO'} |")
    return 0 if all(error <= args.tolerance for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
