#!/usr/bin/env python3
"""Memory of `graft predict` with 1, 2, ... adapters on one base.

  python bench/many_adapters.py --graft build/graft --model deit_tiny_patch16_224.safetensors \\
      [--adapter peft-lora-deit-tiny-cifar10] [--counts 1,2,8]

Trains as many small adapters as are missing (LoRA r=8 on q and v, a head of eight classes; each has
its own seed) and prints for each count the peak of resident memory, the adapters' own weights, and
the nodes of the graph that are shared.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path


def run(command):
    """Standard output and peak resident bytes."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
        out.seek(0)
        return out.read().decode(), used.ru_maxrss * 1024


def train(graft, model, count, folder):
    data = folder / "data"
    sizes = ["--size", "32", "--train", "16", "--val", "8", "--test", "8"]
    run([graft, "data", "make", "shapes", "--out", str(data), *sizes, "--quiet"])
    runs = [folder / f"run{i}" for i in range(count)]
    for seed, out in enumerate(runs):
        what = ["--model", model, "--data", str(data), "--method", "lora(r=8)"]
        how = ["--epochs", "1", "--batch-size", "16", "--seed", str(seed), "--quiet"]
        run([graft, "train", *what, *how, "--out", str(out)])
    return [str(r) for r in runs], data


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graft", default="build/graft")
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", action="append", default=[], help="one that is there already")
    parser.add_argument("--counts", default="1,2,8")
    o = parser.parse_args()
    counts = [int(n) for n in o.counts.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        missing = max(1, max(counts) - len(o.adapter))
        runs, data = train(o.graft, o.model, missing, Path(folder))
        adapters = o.adapter + runs
        image = str(next((data / "images").rglob("*.png")))
        print("| adapters | peak MB | own weights MB | nodes | shared |\n|---|---|---|---|---|")
        for n in counts:
            args = [x for a in adapters[:n] for x in ("--adapter", a)]
            command = [o.graft, "predict", "--model", o.model, *args, image, "--json", "--quiet"]
            # All with one transform: an adapter of peft and a run on a data set have others.
            text, peak = run([*command, "--preprocess", "imagenet"])
            result = json.loads(text)
            own = 4 * sum(a["own_parameters"] for a in result.get("adapters", []))
            cells = [n, f"{peak / 1e6:.1f}", f"{own / 1e6:.2f}" if own else ""]
            cells += [result.get(key, "") for key in ("nodes", "shared_nodes")]
            print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
