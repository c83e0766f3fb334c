"""Makes small checkpoints of kinds that people have and judges what graft makes of each: the
library's logits, or a refusal that names the cause; never a third thing.

usage: GRAFT_DATA=DIR python check_cases.py OUT --graft GRAFT [--timm DIR] [--minilm DIR]
           [--only PATTERN]

DIR/cases holds make_vit_cases.py and make_text_cases.py; their siblings are made by cases_timm.py
and cases_hf.py. What graft reads it also trains with LoRA for three steps, merges, and writes; the
library must give the run's logits from what was written. Everything is made in OUT, which must not
exist. Exit 1 if anything is wrong.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
STEPS, BATCH, CLASSES = 3, 4, 3


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--timm", type=pathlib.Path, help="a folder with timm and torchvision")
    p.add_argument("--minilm", type=pathlib.Path, help="a folder with all-MiniLM-L6-v2")
    p.add_argument("--only", default="", help="cases whose name has this pattern")
    p.add_argument("--tolerance", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--no-train", action="store_true", help="read only")
    return p.parse_args()


class Judge:
    """Runs graft and keeps the table."""

    def __init__(self, args):
        self.args, self.counts = args, {"equal": 0, "refused": 0, "wrong": 0}
        self.wrong, self.index = [], 0

    def graft(self, *words):
        command = [self.args.graft, *words, "--threads", self.args.threads]
        return subprocess.run([str(w) for w in command], capture_output=True, text=True)

    def row(self, name, what, verdict, note):
        self.counts[verdict] += 1
        if verdict == "wrong":
            self.wrong.append(f"{name}, {what}")
        note = " ".join(note.split()).replace(f"{self.args.out}/", "").replace("|", "\\|")
        verdict = verdict.upper() if verdict == "wrong" else verdict
        print(f"| {name} | {what} | {verdict} | {note[:200]} |", flush=True)

    def equal(self, name, what, found, expected):
        """True if the logits are the library's."""
        found, expected = np.asarray(found), np.asarray(expected)
        if found.shape != expected.shape:
            note = f"shape {found.shape}, expected {expected.shape}"
            self.row(name, what, "wrong", note)
            return False
        apart = float(np.abs(found - expected).max() / np.abs(expected).max())
        good = apart <= self.args.tolerance
        self.row(name, what, "equal" if good else "wrong", f"{apart:.1e}")
        return good

    def refused(self, case, what, result, left=()):
        """A refusal is exit 1 with a message that names the cause, and nothing written. That the
        message names the model's path does not count."""
        name, cause = case.name, case.cause
        message = result.stderr.strip().replace(str(case.model), case.model.suffix or "DIR")
        faults = []
        if result.returncode != 1:
            faults.append(f"exit {result.returncode}")
        if not re.search(cause, message):
            faults.append(f"does not name {cause}")
        faults += [f"left {path.name}" for path in left if path.exists()]
        verdict = "wrong" if faults else "refused"
        self.row(name, what, verdict, "; ".join([*faults, message or "no message"]))

    def predict(self, *words):
        """(result, logits or None)"""
        self.index += 1
        out = self.args.out / f"logits{self.index}.npy"
        result = self.graft("predict", *words, "--logits", out)
        return result, np.load(out) if out.exists() else None


def check_read(judge, case):
    """True if graft reads the case as the library does."""
    result, found = judge.predict("--model", case.model, *case.options, *case.inputs)
    if case.expect == "equal" or (case.expect == "either" and result.returncode == 0):
        if result.returncode or found is None:
            note = f"exit {result.returncode}: {result.stderr}"
            judge.row(case.name, "predict", "wrong", note)
            return False
        if case.logits is None:
            judge.row(case.name, "predict", "wrong", "read, though no library reads it")
            return False
        return judge.equal(case.name, "predict", found, case.logits)
    if result.returncode == 0:
        apart = ""
        if case.logits is not None and found is not None and found.shape == case.logits.shape:
            apart = f", {np.abs(found - case.logits).max() / np.abs(case.logits).max():.1e} apart"
        judge.row(case.name, "predict", "wrong", f"read without a word{apart}")
    else:
        left = [] if found is None else [judge.args.out / f"logits{judge.index}.npy"]
        judge.refused(case, "predict", result, left)
    return False


def check_refusals(judge, case, data):
    """What predict must refuse no other command may take either."""
    made = judge.args.out / "refused"
    train = ["train", "--data", data, "--limit", BATCH, "--epochs", 1, "--val-split", "none"]
    words = {
        "train": [*train, "--method", "lora(r=2)", "--batch-size", BATCH],
        "export": ["export", "--format", "hf" if case.own == "hf" else "timm"],
    }
    for what in case.refusers:
        result = judge.graft(*words[what], "--model", case.model, *case.options, "--out", made)
        judge.refused(case, what, result, [made])
        if made.exists():
            subprocess.run(["rm", "-r", str(made)], check=True)


def make_pictures(folder):
    """A data set of twelve pictures, three steps of four."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(STEPS * BATCH):
        pixels = (rng.integers(0, 160, (32, 32, 3)) + 40 * (i % CLASSES)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{i:03}.png")
        lines.append(f"images/{i:03}.png {i % CLASSES}\n")
    (folder / "train.txt").write_text("".join(lines))
    return folder


def check_written(judge, case, at, reader, what, expected):
    """What graft wrote, opened by the library and by graft."""
    x = torch.from_numpy(np.load(case.inputs[0]))
    try:
        with torch.no_grad():
            y = reader(at, CLASSES)(x)
        y = getattr(y, "logits", y).numpy()
    except Exception as e:  # whatever the library says of a file that it cannot open
        return judge.row(case.name, f"{what}, library", "wrong", f"{type(e).__name__}: {e}")
    judge.equal(case.name, f"{what}, library", y, expected)
    result, found = judge.predict("--model", at, *case.inputs)
    if found is None:
        return judge.row(case.name, f"{what}, graft", "wrong", result.stderr)
    judge.equal(case.name, f"{what}, graft", found, expected)


def check_train(judge, case, data):
    """Trains, merges, writes in every layout that has a reader."""
    folder = judge.args.out / "trained" / case.name
    folder.mkdir(parents=True)
    run, fused = folder / "run", folder / f"fused{case.model.suffix}"
    words = ["--data", data, "--method", "lora(r=4)", "--epochs", 1, "--batch-size", BATCH]
    words += ["--lr", 2e-2, "--val-split", "none", "--seed", 7]
    result = judge.graft("train", "--model", case.model, *case.options, *words, "--out", run)
    if result.returncode:
        return judge.row(case.name, "train", "wrong", f"exit {result.returncode}: {result.stderr}")
    _, expected = judge.predict("--run", run, *case.inputs)
    result = judge.graft("fuse", "--run", run, "--out", fused)
    if result.returncode:
        judge.row(case.name, "fuse", "wrong", f"exit {result.returncode}: {result.stderr}")
    else:
        check_written(judge, case, fused, case.readers[case.own], "fuse", expected)
    for layout, reader in case.readers.items():
        if layout == "npz":  # fuse alone writes it
            continue
        at, what = folder / layout, f"export {layout}"
        words = ["--run", run, "--format", layout, "--merged", "--out", at]
        result = judge.graft("export", *words)
        if result.returncode == 0:
            check_written(judge, case, at, reader, what, expected)
        elif layout == case.own:
            judge.row(case.name, what, "wrong", f"exit {result.returncode}: {result.stderr}")
        else:
            other = dataclasses.replace(case, cause="cannot express")  # as its own layout can
            judge.refused(other, what, result, [at])


def check_names(judge, case):
    """Names of classes survive an export."""
    at = judge.args.out / "names"
    result = judge.graft("export", "--model", case.model, "--format", "hf", "--out", at)
    found, expected = (
        list(json.loads((d / "config.json").read_text())["id2label"].values()) if d.exists() else []
        for d in (at, case.model)
    )
    note = f"{found}; {result.stderr}"
    judge.row(case.name, "export", "equal" if found == expected else "wrong", note)


def check_head(judge, case):
    """A trained head survives: nearly nothing is learnt, and the accuracy is that of the model."""
    table, run = case.model.parent / "tables/keep_head", judge.args.out / "keep_head"
    words = ["--data", table, "--val-split", "none", "--epochs", 1, "--lr", 1e-12]
    words += ["--method", "lora(r=2)", *case.options]
    result = judge.graft("train", "--model", case.model, *words, "--out", run)
    if result.returncode == 0:
        result = judge.graft("eval", "--run", run, "--data", table, "--split", "train", "--json")
    accuracy = json.loads(result.stdout)["accuracy"] if result.returncode == 0 else 0
    note = f"accuracy {accuracy} after training" if accuracy else result.stderr
    judge.row(case.name, "train", "equal" if accuracy == 1 else "wrong", note)


MORE = {"shared_labels_mixed": check_names, "shared_keep_head": check_head}


def main():
    args = parse()
    if args.timm:
        sys.path.insert(0, str(args.timm))
        import torchvision_shim  # noqa: F401  (before timm)
    import case_training
    import cases_shared

    args.out.mkdir(parents=True)
    torch.set_num_threads(args.threads)
    judge, data = Judge(args), make_pictures(args.out / "pictures")
    print("| case | what | judged | note |\n|---|---|---|---|")
    for case in cases_shared.all_cases(args):
        if not re.search(args.only, case.name):
            continue
        if check_read(judge, case) and case.readers and not args.no_train:
            check_train(judge, case, data)
            if case.own != "npz":
                case_training.check(judge, case, data, args.out / "trained" / case.name)
        elif case.expect == "refuse":
            check_refusals(judge, case, data)
        if case.name in MORE:
            MORE[case.name](judge, case)
    print("wrong:", *judge.wrong, sep="\n  ") if judge.wrong else None
    print(", ".join(f"{n} {what}" for what, n in judge.counts.items()))
    return 1 if judge.counts["wrong"] or not judge.counts["equal"] else 0


if __name__ == "__main__":
    sys.exit(main())
