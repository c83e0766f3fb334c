#!/usr/bin/env python3
"""Compares Graft's tokenizer with Hugging Face `tokenizers`: ids, types and offsets of every text
of the data folder and of random Unicode, cased and uncased, alone, in pairs, cut and uncut.

usage: tokenizer_parity.py --helper BUILD/tokenize_lines --minilm DIR [--texts DIR] [--random N]
DIR of --minilm holds vocab.txt and tokenizer.json; --texts is a folder of folders with *.tsv.
Exit code 1 when anything differs; the first differences are printed.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, normalizers

# Scripts, blocks with a rule of their own, and characters that meet in few texts.
RANGES = [
    ((0x20, 0x7F), 30),
    ((0x00, 0x20), 3),
    ((0x80, 0x250), 10),
    ((0x300, 0x370), 8),
    ((0x370, 0x590), 5),
    ((0x590, 0xE00), 6),
    ((0xE00, 0x1100), 4),
    ((0x1100, 0x1E00), 4),
    ((0x1AB0, 0x1B00), 2),
    ((0x1B00, 0x1C00), 2),
    ((0x1DC0, 0x1E00), 2),
    ((0x1E00, 0x2000), 6),
    ((0x2000, 0x2070), 5),
    ((0x2070, 0x2E00), 4),
    ((0x2E00, 0x3400), 4),
    ((0x302A, 0x3030), 2),
    ((0x3400, 0xA000), 6),
    ((0xA000, 0xAC00), 2),
    ((0xAC00, 0xD7B0), 3),
    ((0xE000, 0xF900), 1),
    ((0xF900, 0xFB00), 3),
    ((0xFB00, 0x10000), 3),
    ((0x10000, 0x11000), 2),
    ((0x11000, 0x12000), 3),
    ((0x12000, 0x1D000), 1),
    ((0x1D100, 0x1D200), 3),
    ((0x1D200, 0x1F000), 2),
    ((0x1F000, 0x1FB00), 5),
    ((0x20000, 0x2A6E0), 2),
    ((0x2A6E0, 0x30000), 2),
    ((0x30000, 0x110000), 1),
]
PIECES = ["[SEP]", "[MASK]", "[CLS]", "[UNK]", "[PAD]", "[mask]", "[ SEP ]", " ", "  ", "\t"]
PIECES += ["\r\n", "the", "Un", "ing", "##s", "İ", "ß", "Σ", "\u0344", "\u0f73", "\u302e"]
PIECES += ["\U0001d15e", "\ufeff", "\ufffd", "\x00", "\u200d", "\u00ad", "\u3000", "Ⓐ", "<ent>"]
PIECES += ["a" * 100, "b" * 101]


def random_text(rng, words):
    """Words of a few kinds, so that both long tokens and odd neighbours come up."""
    bounds, weights = zip(*RANGES)
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 20])):
        kind = rng.random()
        if kind < 0.25:
            parts.append(rng.choice(words))
        elif kind < 0.45:
            parts.append(rng.choice(PIECES))
        else:
            one_block = rng.random() < 0.5
            block = rng.choices(bounds, weights)[0]
            for _ in range(rng.randint(1, 12)):
                if not one_block:
                    block = rng.choices(bounds, weights)[0]
                code = rng.randrange(*block)
                parts.append(chr(code) if not 0xD800 <= code <= 0xDFFF else "?")
        if rng.random() < 0.4:
            parts.append(" ")
    text = "".join(parts)
    return text.swapcase() if rng.random() < 0.2 else text


def shared_texts(folder):
    """Requests of the data sets: single texts, or the pairs that they have."""
    for path in sorted(Path(folder).glob("*/*.tsv")):
        with open(path, encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield {"text": row[0], **({"second": row[1]} if len(row) > 2 else {})}


def random_requests(count, vocab, seed):
    rng = random.Random(seed)
    words = [w for w in vocab if not w.startswith("[unused")]
    words = [w.removeprefix("##") for w in words]
    for _ in range(count):
        request = {"text": random_text(rng, words)}
        if rng.random() < 0.4:
            request["second"] = random_text(rng, words)
        if rng.random() < 0.5:
            request["max_length"] = rng.choice([3, 4, 5, 7, 8, 12, 17, 32, 64, 128])
        if rng.random() < 0.1:
            request["special_tokens"] = False
        yield request


def answer(tokenizer, request):
    limit = request.get("max_length")
    if limit:
        tokenizer.enable_truncation(limit)
    else:
        tokenizer.no_truncation()
    e = tokenizer.encode(
        request["text"],
        request.get("second"),
        add_special_tokens=request.get("special_tokens", True),
    )
    return [e.ids, e.type_ids, [x for span in e.offsets for x in span]]


def compare(name, tokenizer, path, helper, requests):
    """Number of requests that differ."""
    tokenizer.no_padding()
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        subprocess.run([helper, path], input=lines.encode(), stdout=out, check=True)
        out.seek(0)
        ours = [json.loads(line) for line in out]
    seconds = time.monotonic() - started
    assert len(ours) == len(requests), f"{len(ours)} answers to {len(requests)} requests"
    wrong = 0
    for request, got in zip(requests, ours):
        expected = answer(tokenizer, request)
        if got != expected:
            wrong += 1
            if wrong <= 3:
                print(f"  {request!r}\n    expected {expected}\n    found    {got}")
    tokens = sum(len(a[0]) for a in ours)
    print(f"{name}: {len(requests)} texts, {tokens} tokens, {wrong} differ ({seconds:.1f} s)")
    return wrong


def variants(minilm, work):
    """(name, tokenizer of the library, path for Graft): what files may say about the normalizer."""
    base = Path(minilm) / "tokenizer.json"
    yield "uncased", Tokenizer.from_file(str(base)), str(base)
    yield "vocab.txt", Tokenizer.from_file(str(base)), str(base.with_name("vocab.txt"))
    options = {
        "cased": dict(lowercase=False),
        "cased, no accents": dict(lowercase=False, strip_accents=True),
        "uncased, accents": dict(lowercase=True, strip_accents=False),
        "no cleaning": dict(clean_text=False),
        "Chinese unsplit": dict(handle_chinese_chars=False),
        "nothing": dict(
            clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False
        ),
    }
    for name, changes in options.items():
        tokenizer = Tokenizer.from_file(str(base))
        tokenizer.normalizer = normalizers.BertNormalizer(**changes)
        path = work / (name.replace(" ", "_") + ".json")
        tokenizer.save(str(path))
        yield name, tokenizer, str(path)
    tokenizer = Tokenizer.from_file(str(base))
    tokenizer.add_tokens(
        [
            AddedToken("<Ent>", normalized=True),
            AddedToken("New York", normalized=True),
            AddedToken("the", normalized=False, lstrip=True, rstrip=True),
            AddedToken("Éa", normalized=True, lstrip=True),
            AddedToken("中", normalized=True),
        ]
    )
    path = work / "added.json"
    tokenizer.save(str(path))
    yield "added tokens", tokenizer, str(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--helper", required=True)
    parser.add_argument("--minilm", required=True, type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--random", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}")
    vocab = (args.minilm / "vocab.txt").read_text(encoding="utf-8").split("\n")
    wrong = 0
    with tempfile.TemporaryDirectory() as work:
        for name, tokenizer, path in variants(args.minilm, Path(work)):
            main_variant = name in ("uncased", "cased")
            if args.texts and main_variant:
                texts = list(shared_texts(args.texts))
                texts += [{**t, "max_length": 128} for t in texts]
                wrong += compare(f"{name}, data sets", tokenizer, path, args.helper, texts)
            count = args.random if main_variant else args.random // 5
            requests = list(random_requests(count, vocab, args.seed))
            wrong += compare(f"{name}, random", tokenizer, path, args.helper, requests)
    print("equal" if wrong == 0 else f"{wrong} texts differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
