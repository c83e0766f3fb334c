"""What a suite costs beyond its runs: `graft bench vtab` beside the same `graft train` and `graft
eval` by themselves, in turn.

usage: GRAFT_DATA=DIR python bench/suite_overhead.py [--graft build/graft] [--rounds 3]
    [--threads 2]

DeiT-Ti, LoRA of rank 8, three tasks of DIR/data/vtab-1k with one seed each, 2 epochs of 1,000
images and 500 test images. Caches on disk are off on both sides. Prints the median of the ratios of
the wall times.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

TASKS = ("cifar", "eurosat", "mnist")
COMMON = ("--epochs", "2", "--batch-size", "64", "--lr", "1e-3")


def run(command, environment):
    started = time.monotonic()
    words = [str(word) for word in command]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.monotonic() - started


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--graft", type=Path, default=Path("build/graft"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", default="2")
    o = p.parse_args()
    data = Path(os.environ["GRAFT_DATA"])
    model = data / "weights/deit_tiny_patch16_224.safetensors"
    environment = {**os.environ, "GRAFT_FEATURE_CACHE": "0", "GRAFT_IMAGE_CACHE": "0"}
    ratios = []
    for i in range(o.rounds):
        with tempfile.TemporaryDirectory() as folder:

            def suite():
                return run(
                    [o.graft, "bench", "vtab", "--model", model, "--data", data / "data/vtab-1k",
                     "--tasks", ",".join(TASKS), "--methods", "lora(r=8)", "--test-limit", "500",
                     *COMMON, "--threads", o.threads, "--out", f"{folder}/suite"], environment,
                )  # fmt: skip

            def bare():
                seconds = 0
                for task in TASKS:
                    of_task = ["--data", data / "data/vtab-1k" / task, "--threads", o.threads]
                    seconds += run(
                        [o.graft, "train", "--model", model, *of_task, "--method", "lora(r=8)",
                         "--train-split", "train800val200", "--val-split", "none", *COMMON,
                         "--out", f"{folder}/{task}"], environment,
                    )  # fmt: skip
                    seconds += run(
                        [o.graft, "eval", "--run", f"{folder}/{task}", *of_task, "--split", "test",
                         "--limit", "500"], environment,
                    )  # fmt: skip
                return seconds

            sides = (suite, bare) if i % 2 == 0 else (bare, suite)
            seconds = {side.__name__: side() for side in sides}
        ratios.append(seconds["suite"] / seconds["bare"])
        print(f"suite {seconds['suite']:.1f} s, bare {seconds['bare']:.1f} s: {ratios[-1]:.3f}")
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
