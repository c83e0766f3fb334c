#!/usr/bin/env python3
"""What training in bf16 and int8 costs in accuracy: methods trained by one recipe in each
precision, three seeds each, and the mean difference to f32 in points. A bf16 mean may lie 0.5
points below that of f32, an int8 mean 1.0. What is finished is kept in OUT and not trained again.

usage: accuracy_of_precisions.py --graft BINARY --data DIR --minilm DIR --out OUT
       [--tasks REGEX] [--methods REGEX] [--seeds 0,1,2] [--threads N]
REGEXes are of whole names.
DIR holds weights/deit_tiny_patch16_224.safetensors, data/vtab-1k and data/text.

cifar10, eurosat: DeiT-Ti at 96 x 96 pixels, the first 400 of train800, 10 epochs in batches of 32,
the first 4,000 of test. sst2, trec6: MiniLM, the first 1,000 of train, 4 epochs in batches of 16,
all of dev. All else by default. Evaluated in the precision of the training. Exit 1 if a mean lies
lower.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys

from accuracy_of_methods import call

TASKS = ("cifar10", "eurosat", "sst2", "trec6")
METHODS = ("lora", "ssf", "adaptformer", "bitfit")
POINTS = {"bf16": 0.5, "int8": 1.0}
IMAGES = "resize=96,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"


def recipe(task, a):
    """(words of train, words of eval)"""
    data = pathlib.Path(a.data)
    if task in ("sst2", "trec6"):
        where = ["--data", data / "data/text" / task]
        model, limit, epochs, batch = a.minilm, 1000, 4, 16
        split, held = [*where, "--train-split", "train"], [*where, "--split", "dev"]
    else:
        where = ["--data", data / "data/vtab-1k" / task]
        model = data / "weights/deit_tiny_patch16_224.safetensors"
        limit, epochs, batch = 400, 10, 32
        split = [*where, "--train-split", "train800", "--preprocess", IMAGES]
        held = [*where, "--split", "test", "--limit", "4000"]
    return [
        "--model", model, *split, "--val-split", "none", "--limit", limit, "--epochs", epochs,
        "--batch-size", batch,
    ], held  # fmt: skip


def measure(task, method, dtype, seed, a):
    """Accuracy in percent, from OUT if it is there."""
    name = f"{task}_{method}_{dtype}_{seed}"
    file, run = pathlib.Path(a.out) / f"{name}.json", pathlib.Path(a.out) / name
    if not file.exists():
        common = ["--json", "--quiet", "--dtype", dtype, "--threads", a.threads]
        train, held = recipe(task, a)
        given = ["--method", method, "--seed", seed, "--out", run, "--force"]
        call([a.graft, "train", *train, *given, *common])
        told = call([a.graft, "eval", "--run", run, *held, *common])
        file.write_text(json.dumps(told["accuracy"]))
        for left in run.glob("*.safetensors"):
            left.unlink()
    return 100 * json.loads(file.read_text())


def row(task, method, found):
    """The table's line, and whether both means are near that of f32."""
    means = {dtype: statistics.mean(values) for dtype, values in found.items()}
    cells, good = [f"{means['f32']:.2f}"], True
    for dtype, points in POINTS.items():
        apart = [low - full for low, full in zip(found[dtype], found["f32"])]
        good = good and statistics.mean(apart) >= -points
        by_seed = ", ".join(f"{x:+.1f}" for x in apart)
        cells.append(f"{means[dtype]:.2f} ({statistics.mean(apart):+.2f}: {by_seed})")
    return f"| {task} | `{method}` | {' | '.join(cells)} | {'yes' if good else 'NO'} |", good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graft", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minilm", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", default=".*")
    parser.add_argument("--methods", default=".*")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", default="2")
    a = parser.parse_args()
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    print("| task | method | f32 | bf16 (apart: by seed) | int8 (apart: by seed) | near |")
    print("|---" * 6 + "|")
    good = True
    for task in (t for t in TASKS if re.fullmatch(a.tasks, t)):
        for method in (m for m in METHODS if re.fullmatch(a.methods, m)):
            found = {
                dtype: [measure(task, method, dtype, seed, a) for seed in a.seeds.split(",")]
                for dtype in ("f32", *POINTS)
            }
            line, near = row(task, method, found)
            print(line, flush=True)
            good = good and near
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
