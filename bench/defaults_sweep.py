#!/usr/bin/env python3
"""Where the default learning rates stand: the methods on a ViT and on a BERT, by the method's own
rate and by thirds, thrice and further while the best is at an edge. Prints a table for each task,
accuracy on examples that were not trained on, and what another batch size or number of epochs gives
LoRA. What is finished is kept in OUT and not trained again.

usage: defaults_sweep.py --graft BINARY --data DIR --minilm DIR --out OUT [--tasks REGEX]
       [--methods REGEX] [--threads N] [--seed N]
REGEXes are of whole names.
DIR holds weights/deit_tiny_patch16_224.safetensors, data/vtab-1k and data/text.

cifar10: DeiT-Ti at 96 x 96 pixels, the first 400 of train800, 10 epochs, the first 500 of test.
sst2, trec6: MiniLM, the first 640 of train, 4 epochs, all of dev. All else by default: batches of
64 images or 16 texts, AdamW with weight decay 1e-4, a cosine with a tenth of warm-up.
"""

import argparse
import json
import pathlib
import re
import sys

from accuracy_of_methods import call

TASKS = {"cifar10": 10, "sst2": 4, "trec6": 4}  # epochs
# Those with a rate of their own: others go beside them, or are full fine-tuning.
BOTH = ("linear", "full", "ln", "bitfit", "last", "lora", "houlsby", "pfeiffer", "adaptformer",
        "parallel", "ssf", "fact", "repadapter", "glora")  # fmt: skip
IMAGE_METHODS = (*BOTH, "mam", "prefix", "ptuning2", "vpt", "vpt-deep")
TEXT_METHODS = (*BOTH, "mam", "prefix", "ptuning2", "prompt", "vpt", "vpt-deep")
FACTORS = (0.1, 0.3, 1, 3, 10, 30)
IMAGES = "resize=96,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"
LIMITS = {"cifar10": 400, "sst2": 640, "trec6": 640}  # training examples


def recipe(task, a):
    """(words of train, words of eval)"""
    data = pathlib.Path(a.data)
    if task == "cifar10":
        where = ["--data", data / "data/vtab-1k" / task]
        return [
            "--model", data / "weights/deit_tiny_patch16_224.safetensors", *where,
            "--train-split", "train800", "--preprocess", IMAGES,
        ], [*where, "--split", "test", "--limit", "500"]  # fmt: skip
    where = ["--data", data / "data/text" / task]
    train = ["--model", a.minilm, *where, "--train-split", "train"]
    return train, [*where, "--split", "dev"]


def measure(task, method, options, a):
    """Accuracy in percent, from OUT if it is there; None where the loss became infinite."""
    words = [f"--{name}={value}" for name, value in options.items()]
    name = re.sub(r"[^a-z0-9.]+", "_", f"{task} {method} {' '.join(words)} {a.seed}").strip("_")
    file, run = pathlib.Path(a.out) / f"{name}.json", pathlib.Path(a.out) / name
    if not file.exists():
        common = ["--json", "--quiet", "--threads", a.threads]
        train, evaluate = recipe(task, a)
        given = ["--method", method, "--val-split", "none", "--limit", LIMITS[task]]
        given += ["--seed", a.seed]
        try:
            call([a.graft, "train", *train, *given, *words, "--out", run, "--force", *common])
            told = call([a.graft, "eval", "--run", run, *evaluate, *common])["accuracy"]
        except SystemExit as failed:
            if "not finite" not in str(failed):
                raise
            told = None
        file.write_text(json.dumps(told))
        for left in run.glob("*.safetensors"):
            left.unlink()
    told = json.loads(file.read_text())
    return None if told is None else 100 * told


def sweep(task, method, rate, a):
    """{factor: accuracy} around a method's own rate, further while the best is at an edge."""
    found = {}
    todo = [1, 0.3, 3]
    while todo:
        for factor in todo:
            options = {"epochs": TASKS[task], "lr": f"{rate * factor:.3g}"}
            found[factor] = measure(task, method, options, a)
        best = max(found, key=lambda f: found[f] or 0)
        at = FACTORS.index(best)
        near = {FACTORS[max(at - 1, 0)], FACTORS[min(at + 1, len(FACTORS) - 1)]}
        todo = sorted(near - set(found))
    return found


def cell(value, best):
    if value is None:
        return "diverged"
    return f"**{value:.1f}**" if value == best else f"{value:.1f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graft", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minilm", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", default="")
    parser.add_argument("--methods", default="")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--seed", default="0")
    a = parser.parse_args()
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    listed = call([a.graft, "inspect", "--methods", "--json"])["methods"]
    rates = {m["name"]: m["learning_rates"] for m in listed}
    for task, epochs in TASKS.items():
        if a.tasks and not re.fullmatch(a.tasks, task):
            continue
        print(f"\n{task}: accuracy by the default rate times\n")
        print("| method | default | " + " | ".join(f"{f:g}" for f in FACTORS) + " |")
        print("|---" * (len(FACTORS) + 2) + "|")
        for method in IMAGE_METHODS if task == "cifar10" else TEXT_METHODS:
            if a.methods and not re.fullmatch(a.methods, method):
                continue
            rate = rates[method]["images" if task == "cifar10" else "texts"]
            found = sweep(task, method, rate, a)
            best = max(v for v in found.values() if v is not None)
            cells = [cell(found[f], best) if f in found else "" for f in FACTORS]
            print(f"| `{method}` | {rate:g} | " + " | ".join(cells) + " |")
            sys.stdout.flush()
        if a.methods and not re.fullmatch(a.methods, "lora"):
            continue
        usual = 64 if task == "cifar10" else 16
        sizes = [usual // 4, usual // 2, usual, usual * 2]
        by_size = [
            f"{n}: {measure(task, 'lora', {'epochs': epochs, 'batch-size': n}, a):.1f}"
            for n in sizes
        ]
        by_epochs = [
            f"{n}: {measure(task, 'lora', {'epochs': n}, a):.1f}"
            for n in (epochs // 2, epochs, 2 * epochs)
        ]
        print(f"\n`lora`, batches of {', '.join(by_size)}; epochs {', '.join(by_epochs)}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
