#!/usr/bin/env python3
"""Trains every method by one fixed recipe and prints a table: accuracy on examples that were not
trained on, trained numbers, seconds, peak memory, whether it folds. What is finished is kept in
OUT and not trained again; what was interrupted goes on.

usage: accuracy_of_methods.py --graft BINARY --data DIR [--minilm DIR] --out OUT
       [--tasks REGEX] [--methods REGEX] [--threads N] [--seed N] [--dtype f32|bf16|int8]
DIR holds weights/deit_tiny_patch16_224.safetensors, data/vtab-1k and data/text.

cifar10, eurosat: DeiT-Ti at 112 x 112 pixels, the 1,000 images of train800val200, 6 epochs in
batches of 32, the first 1,000 images of test. sst2: MiniLM, 1,000 texts, 4 epochs in batches of 16,
all of dev. AdamW with weight decay 1e-4, a cosine with a tenth of warm-up, and the rate that the
method has where none is given. Trained and evaluated with --dtype.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

METHODS = (
    "linear", "full", "ln", "bitfit", "last", "lora", "houlsby", "pfeiffer", "adaptformer",
    "parallel", "mam", "prefix", "ptuning2", "prompt", "vpt", "vpt-deep", "ssf", "fact",
    "fact(form=tk)", "repadapter", "glora", "unified", "nf4+lora(r=8,targets=*)", "childtuning",
    "childtuning(mode=d)", "noisytune+lora", "lora+calibration",
    "lora+calibration-layer", "forget(run=@lora)+lora", "ssf+lora(r=4)",
)  # fmt: skip
IMAGES = "resize=112,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"
TASKS = ("cifar10", "eurosat", "sst2")


def recipe(task, a):
    """(words of train, words of eval)"""
    data, shared = pathlib.Path(a.data), ["--weight-decay", "1e-4", "--warmup", "0.1"]
    if task == "sst2":
        where = ["--data", data / "data/text/sst2"]
        return [
            "--model", a.minilm, *where, "--train-split", "train", "--val-split", "none",
            "--limit", "1000", "--epochs", "4", "--batch-size", "16", *shared,
        ], [*where, "--split", "dev"]  # fmt: skip
    where = ["--data", data / "data/vtab-1k" / task]
    return [
        "--model", data / "weights/deit_tiny_patch16_224.safetensors", *where, "--train-split",
        "train800val200", "--epochs", "6", "--batch-size", "32", "--preprocess", IMAGES, *shared,
    ], [*where, "--split", "test", "--limit", "1000"]  # fmt: skip


def call(words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return json.loads(done.stdout)


def name_of(task, method, a):
    low = "" if a.dtype == "f32" else a.dtype
    return re.sub(r"[^a-z0-9]+", "_", f"{task} {method} {a.seed} {low}").strip("_")


def measure(task, method, a):
    """The unit's result, from OUT if it is there."""
    name = name_of(task, method, a)
    file, run = pathlib.Path(a.out) / f"{name}.json", pathlib.Path(a.out) / name
    if file.exists():
        return json.loads(file.read_text())
    common = ["--json", "--threads", a.threads]
    train, evaluate = recipe(task, a)
    if (run / "config.json").exists():
        trained = call([a.graft, "train", "--resume", run, *common])
    else:
        # @lora is the run of that method.
        typed = method.replace("@lora", str(pathlib.Path(a.out) / name_of(task, "lora", a)))
        given = ["--method", typed, "--seed", a.seed, "--out", run, "--dtype", a.dtype]
        trained = call([a.graft, "train", *train, *given, *common])
    result = call([a.graft, "eval", "--run", run, *evaluate, "--dtype", a.dtype, *common])
    told = {"task": task, "method": method, "train": trained, "eval": result}
    fresh = file.with_suffix(".tmp")
    fresh.write_text(json.dumps(told))
    fresh.rename(file)
    (run / "state.safetensors").unlink(missing_ok=True)  # three times the model
    return told


def folds(method, records):
    """Whether merging leaves a plain model: yes, in part or no."""
    found = {records[re.match(r"[a-z0-9-]+", term)[0]] for term in method.split("+")}
    return "yes" if found == {"yes"} else "no" if found == {"no"} else "in part"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graft", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minilm", default="")
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", default="")
    parser.add_argument("--methods", default="")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--dtype", choices=("f32", "bf16", "int8"), default="f32")
    a = parser.parse_args()
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    listed = call([a.graft, "inspect", "--methods", "--json"])["methods"]
    records = {m["name"]: m["folds"] for m in listed}
    for task in TASKS:
        if not re.search(a.tasks, task) or (task == "sst2" and not a.minilm):
            continue
        print(f"\n{task}:\n")
        print("| method | trained numbers | accuracy | train seconds | peak MiB | folds |")
        print("|---|---|---|---|---|---|")
        for method in METHODS:
            if not re.search(a.methods, method):
                continue
            told = measure(task, method, a)
            t, right = told["train"], 100 * told["eval"]["accuracy"]
            print(
                f"| `{method}` | {t['trainable_parameters']:,} | {right:.1f} | {t['seconds']:.0f} "
                f"| {t['peak_memory_bytes'] >> 20} | {folds(method, records)} |"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
