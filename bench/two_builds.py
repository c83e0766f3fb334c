#!/usr/bin/env python3
"""Which of two builds of graft is faster: profiles of both in turn, each a process of its own.

usage: two_builds.py [--rounds N] OLD NEW PROFILE-OPTION...

OLD and NEW are binaries, the options those of `graft profile`. Prints the median milliseconds of a
step of each and the median, least and largest of the ratios within a round, above 1 where NEW is
faster. Times of one process differ from those of the next by more than steps differ within one,
so that several pairs say more than `graft profile --compare` of one.

example: two_builds.py before/graft build/graft --model init:minilm_l6 --batch-size 32 --length 128
"""

import argparse
import json
import statistics
import subprocess


def step_ms(binary, options):
    profile = subprocess.run(
        [binary, "profile", "--json", *options], check=True, capture_output=True, text=True
    )
    return json.loads(profile.stdout)["step_ms"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("old")
    parser.add_argument("new")
    args, options = parser.parse_known_args()
    old, new = [], []
    for i in range(args.rounds):
        for binary, times in [(args.old, old), (args.new, new)][:: 1 if i % 2 == 0 else -1]:
            times.append(step_ms(binary, options))
    ratios = [a / b for a, b in zip(old, new)]
    print(
        f"{statistics.median(old):.1f} and {statistics.median(new):.1f} ms; faster by "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
