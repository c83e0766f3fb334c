#!/usr/bin/env python3
"""Compares Graft's reading of tokenizer directories with transformers' AutoTokenizer: random
mixtures of vocab.txt, tokenizer.json, tokenizer_config.json, special_tokens_map.json and
added_tokens.json.

usage: tokenizer_files_parity.py --helper BUILD/tokenize_lines [--count N] [--seed N]
Exit code 1 when ids or types of a text differ; a directory may be refused instead, and the reasons
are counted. The first differences are printed with their files.
"""

import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
os.environ["HF_HUB_OFFLINE"] = "1"
import transformers  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] [unused1] [unused2] the a film is good bad covid un
##cov ##id ##s ##ing bio bert b c d e s ##a ##b ##c ##e ##o ##t é cafe café 中 文 . , ! < > / _ - [ ]
cls sep mask pad ent ##ent new york x ##x 1 9 ##1 ##9""".split()
NAMES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
OTHER_NAMES = dict(zip(NAMES.values(), ("<unk>", "</s>", "<pad>", "<s>", "<mask>")))
CANDIDATES = """covid19 biontech <ent> [E1] [unused1] [MASK] [mask] COVID19 café Café good ##s _x_
ent ß Über 中 [SEP] # é""".split() + [
    "New York",
    "new york",
    "a b",
]
TEXTS = [
    "covid19 vaccines by biontech",
    "see <ent> here",
    "a [unused1] b",
    "the good  film",
    "New York new york NEW YORK",
    "[MASK]  x [mask]  [SEP]",
    "xcovid19 covid19x covid19 COVID19 Covid19",
    "café Café CAFÉ cafe\u0301",
    "goods good_ good. _x_ x_x_x ent ents <ent>ent",
    "中文 中",
    "a b  a b",
    "",
    "ß SS ss Über uber ÜBER",
    "the the film film good bad a b c d e s",
    "#good ##s # #",
    "\u00a0good\u2003good\tgood\n covid19\u3000",
    "é e\u0301 É",
    "good1 good9 1good \u0301good good\u0301 goodé égood good\u200dgood",
]


class Directory:
    """Files by chance; `self.files` are their contents, a string for vocab.txt."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.files = {"config.json": {"model_type": "bert"}}
        self.vocabulary = list(VOCABULARY)
        for token in ("[MASK]", "[PAD]"):
            if self.maybe(0.15):
                self.vocabulary.remove(token)
        if self.maybe(0.2):
            self.r.shuffle(self.vocabulary)
        self.renamed = {}
        if self.maybe(0.2):
            self.renamed = {a: b for a, b in OTHER_NAMES.items() if self.maybe(0.7)}
        self.vocabulary = [self.renamed.get(t, t) for t in self.vocabulary]
        self.chosen = self.ids_of(self.r.sample(CANDIDATES, self.r.choice([0, 1, 2, 3, 5])))
        self.add_config()
        self.add_older_files()
        kind = self.r.choice(["vocab", "json", "both"])
        if kind != "json":
            self.files["vocab.txt"] = "\n".join(self.vocabulary) + "\n"
        if kind != "vocab":
            self.add_tokenizer_json()

    def maybe(self, chance):
        return self.r.random() < chance

    def some(self):
        return self.r.sample(CANDIDATES, self.r.choice([0, 1, 2]))

    def token(self, content, **more):
        d = {"content": content}
        for key in ("lstrip", "rstrip", "single_word"):
            d[key] = self.maybe(0.25)
        if self.maybe(0.9):
            d["normalized"] = self.maybe(0.5)
        d["special"] = self.maybe(0.4)
        return {**d, **more}

    def named(self):
        """The special tokens that the vocabulary has."""
        names = [self.renamed.get(t, t) for t in NAMES.values()]
        return [t for t in names if t in self.vocabulary and self.maybe(0.7)]

    def ids_of(self, tokens):
        ids, free = {}, len(self.vocabulary)
        for token in tokens:
            new = token not in self.vocabulary
            ids[token] = free if new else self.vocabulary.index(token)
            free += new
        return ids

    def add_config(self):
        config = {}
        r, maybe = self.r, self.maybe
        classes = "BertTokenizer BertTokenizerFast DistilBertTokenizer PreTrainedTokenizerFast"
        if maybe(0.8):
            config["tokenizer_class"] = r.choice([*classes.split(), "TokenizersBackend"])
        choices = {
            "do_lower_case": (0.4, [True, False]),
            "strip_accents": (0.2, [True, False, None]),
            "tokenize_chinese_chars": (0.2, [True, False]),
            "truncation_side": (0.2, ["left", "right"]),
            "split_special_tokens": (0.1, [True]),
            "model_max_length": (0.2, [512, 16, int(1e30)]),
            "model_input_names": (0.2, [["input_ids", "token_type_ids"], ["input_ids"]]),
            "bos_token": (0.1, CANDIDATES),
            "my_token": (0.1, CANDIDATES),
            "extra_special_tokens": (0.2, [self.some(), {"img_token": r.choice(CANDIDATES)}, None]),
            "additional_special_tokens": (
                0.3,
                [self.some(), [self.token("<ent>", __type="AddedToken")]],
            ),
        }
        for key, (chance, values) in choices.items():
            if maybe(chance):
                config[key] = r.choice(values)
        for key, usual in NAMES.items():
            if maybe(0.95 if usual in self.renamed else 0.4):
                name = self.renamed.get(usual, usual)
                config[key] = self.token(name, __type="AddedToken") if maybe(0.25) else name
        if maybe(0.4):
            listed = {str(i): self.token(t) for t, i in self.chosen.items()}
            plain = dict(
                lstrip=False, rstrip=False, single_word=False, normalized=False, special=True
            )
            for t in self.named():
                listed[str(self.vocabulary.index(t))] = {"content": t, **plain}
            config["added_tokens_decoder"] = listed
        if maybe(0.9):
            self.files["tokenizer_config.json"] = config

    def add_older_files(self):
        if self.maybe(0.35):
            names = {}
            for key, usual in NAMES.items():
                if self.maybe(0.6):
                    name = self.renamed.get(usual, usual)
                    token = self.token(name)
                    token.pop("special")
                    names[key] = token if self.maybe(0.3) else name
            for key in ("additional_special_tokens", "extra_special_tokens"):
                if self.maybe(0.2):
                    names[key] = self.some()
            self.files["special_tokens_map.json"] = names
        if self.maybe(0.35):
            self.files["added_tokens.json"] = self.chosen

    def add_tokenizer_json(self):
        r, maybe = self.r, self.maybe
        name = lambda t: self.renamed.get(t, t)  # noqa: E731
        piece = lambda t, n: {"SpecialToken": {"id": name(t), "type_id": n}}  # noqa: E731
        text = lambda t, n: {"Sequence": {"id": t, "type_id": n}}  # noqa: E731
        added = [self.token(t, id=i) for t, i in self.chosen.items()]
        added += [self.token(t, id=self.vocabulary.index(t)) for t in self.named()]
        for token in added:
            token.setdefault("normalized", True)
        ids = {t: self.vocabulary.index(name(t)) for t in ("[CLS]", "[SEP]")}
        single = [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)]
        self.files["tokenizer.json"] = {
            "version": "1.0",
            "truncation": r.choice([None, None, self.truncation()]),
            "padding": None,
            "added_tokens": sorted(added, key=lambda t: t["id"]),
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": maybe(0.8),
                "handle_chinese_chars": maybe(0.8),
                "strip_accents": r.choice([None, True, False]),
                "lowercase": maybe(0.6),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, text("B", 1), piece("[SEP]", 1)],
                "special_tokens": {
                    name(t): {"id": name(t), "ids": [i], "tokens": [name(t)]}
                    for t, i in ids.items()
                },
            },
            "decoder": None,
            "model": {
                "type": "WordPiece",
                "unk_token": name("[UNK]"),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {t: i for i, t in enumerate(self.vocabulary)},
            },
        }
        if maybe(0.2):
            self.files["tokenizer.json"]["padding"] = {
                "strategy": "BatchLongest",
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": name("[PAD]"),
            }
        if maybe(0.1):
            del self.files["tokenizer.json"]["model"]["type"]

    def truncation(self):
        return {
            "direction": self.r.choice(["Left", "Right"]),
            "max_length": self.r.choice([5, 64]),
            "strategy": self.r.choice(["LongestFirst", "OnlyFirst", "OnlySecond"]),
            "stride": self.r.choice([0, 2]),
        }

    def requests(self):
        for text in TEXTS:
            request = {"text": text}
            if self.maybe(0.4):
                request["second"] = self.r.choice(TEXTS)
            if self.maybe(0.5):
                request["max_length"] = self.r.choice([4, 5, 6, 7, 9, 12])
            yield request

    def write(self, folder):
        for old in folder.iterdir():
            old.unlink()
        for name, content in self.files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")


def library_answers(folder, requests):
    """[ids, types] of each; an exception where the library has none."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for request in requests:
        texts = [[request[key]] for key in ("text", "second") if key in request]
        limit = request.get("max_length")
        e = tokenizer(*texts, truncation=bool(limit), max_length=limit)
        ids = e["input_ids"][0]
        yield [ids, e["token_type_ids"][0] if "token_type_ids" in e else [0] * len(ids)]


def compare(seed, folder, helper):
    """What came of it, and a text with the difference or the reason."""
    directory = Directory(seed)
    directory.write(folder)
    requests = list(directory.requests())
    try:
        expected = list(library_answers(folder, requests))
    except Exception as error:  # of many kinds
        expected = f"{type(error).__name__}: {error}"
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    ours = subprocess.run([helper, folder], input=lines, capture_output=True, text=True)
    if ours.returncode:
        reason = re.sub(r"'[^']*'", "'...'", ours.stderr.replace(str(folder), "").strip())
        kind = "refused by both" if isinstance(expected, str) else "refused"
        return kind, re.sub(r"\d+", "N", reason)
    if isinstance(expected, str):
        return "refused by the library alone", expected.splitlines()[0][:100]
    for request, right, line in zip(requests, expected, ours.stdout.splitlines()):
        if json.loads(line)[:2] != right:
            files = {k: v for k, v in directory.files.items() if k != "vocab.txt"}
            return (
                "different",
                f"{request}\n  {right}\n  {json.loads(line)[:2]}\n{json.dumps(files)}",
            )
    return "equal", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--helper", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"transformers {transformers.__version__}")
    kinds, reasons = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as work:
        for i in range(args.count):
            kind, why = compare(args.seed * 1_000_003 + i, Path(work), args.helper)
            kinds[kind] += 1
            if kind == "different" and kinds[kind] <= 3:
                print(f"seed {args.seed}, directory {i}: {why}")
            elif kind != "equal" and kind != "refused by both":
                reasons[f"{kind}: {why}"] += 1
    for reason, count in reasons.most_common():
        print(f"  {count} {reason}")
    print(f"{args.count} directories: " + ", ".join(f"{n} {k}" for k, n in kinds.most_common()))
    return 1 if kinds["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
