#!/usr/bin/env python3
"""What inference in a lower precision changes, over many runs: graft eval --against f32 of each.

usage: precision_of_runs.py --graft GRAFT --data DIR --runs FOLDER [--dtype int8] [--task sst2]

FOLDER holds runs as accuracy_of_methods.py makes them (--out), named TASK_METHOD_SEED. Prints for
each the largest difference of a logit and the root mean square, in percent of the range of f32's
logits, the share of examples with the same class, and the change of accuracy in points; then what
all have in common. Images are the first 1,000 of test.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

DATA = {
    "sst2": ("data/text/sst2", ["--split", "dev"]),
    "cifar10": ("data/vtab-1k/cifar10", ["--split", "test", "--limit", "1000"]),
    "eurosat": ("data/vtab-1k/eurosat", ["--split", "test", "--limit", "1000"]),
}


def measure(args, run):
    where, options = DATA[args.task]
    command = [args.graft, "eval", "--run", run, "--data", args.data / where, *options]
    command += ["--dtype", args.dtype, "--against", "f32", "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    against = result["against"]
    percent = 100 / against["logit_range"]
    return {
        "largest": percent * against["max_logit_difference"],
        "rms": percent * against["rms_logit_difference"],
        "same": 100 * against["agreement"],
        "accuracy": 100 * (result["accuracy"] - against["accuracy"]),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("graft", "data", "runs"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--task", default="sst2", choices=DATA)
    args = parser.parse_args()
    rows = {}
    for config in sorted(args.runs.glob(f"{args.task}_*/config.json")):
        rows[config.parent.name] = measure(args, config.parent)
    for name, r in sorted(rows.items(), key=lambda row: row[1]["largest"]):
        print(
            f"{r['largest']:5.2f} {r['rms']:5.2f} {r['same']:6.1f} {r['accuracy']:+6.2f}  {name}"
        )
    of = {key: [r[key] for r in rows.values()] for key in ("largest", "rms", "same", "accuracy")}
    print(
        f"{len(rows)} runs: largest {statistics.median(of['largest']):.2f} in the median, "
        f"{sum(x <= 1 for x in of['largest'])} within 1 and {sum(x <= 3 for x in of['largest'])} "
        f"within 3, at most {max(of['largest']):.2f}; root mean square "
        f"{statistics.median(of['rms']):.2f}, at most {max(of['rms']):.2f}; same class "
        f"{statistics.median(of['same']):.1f}, at least {min(of['same']):.1f}; accuracy "
        f"{statistics.mean(of['accuracy']):+.2f} ({min(of['accuracy']):+.2f} to "
        f"{max(of['accuracy']):+.2f})"
    )


if __name__ == "__main__":
    main()
