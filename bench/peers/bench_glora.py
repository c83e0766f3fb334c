"""GLoRA's supernet step and the evaluation of candidates: Graft beside the authors' form, PyTorch.

usage: python bench_glora.py --bench build/path_bench --python PEERS_PYTHON [--rounds N]
    [--images 16] [--dtype f32] [--threads N] [--out FILE]

Both sides stay alive and take turns: each round asks both for one step and both for one candidate,
in alternating order, so that a neighbour's load falls on both. Ratios are taken inside a round; the
median over the rounds is reported with the quartiles, the least and the largest. DeiT-Ti, 224
pixels, random weights, noise images, ranks of 4. A step of Graft includes the compilation of its
path, a candidate its cutting, folding and compilation; --dtype is that of Graft's candidates.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


class Side:
    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{command[0]} does not answer")

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def spread(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return {
        "median": middle, "quartiles": [low, high], "min": min(values), "max": max(values)
    }  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--bench", type=pathlib.Path, required=True, help="build/path_bench")
    p.add_argument("--python", type=pathlib.Path, required=True)
    p.add_argument("--rounds", type=int, default=15, help="at least 2")
    p.add_argument("--images", type=int, default=16)
    p.add_argument("--dtype", default="f32", choices=("f32", "bf16", "int8"))
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--out", type=pathlib.Path)
    o = p.parse_args()
    here = pathlib.Path(__file__)
    ours = {**os.environ, "OMP_NUM_THREADS": str(o.threads), "GOMP_SPINCOUNT": "20000"}
    sides = {
        "graft": Side(
            [o.bench.resolve(), "--serve", "glora", o.images, o.dtype], ours
        ),
        "torch": Side(
            [o.python, here.with_name("torch_glora.py"), o.images, "--threads", o.threads]
        ),
    }
    load = [os.getloadavg()[0]]
    rounds = []
    for i in range(o.rounds + 1):
        order = list(sides) if i % 2 == 0 else list(reversed(sides))
        told = {w: {s: sides[s].ask(w) for s in order} for w in ("step", "candidate")}
        if i > 0:  # the first warms both up
            rounds.append(told)
        words = (f"{w} {told[w]['graft']:.0f} {told[w]['torch']:.0f}" for w in told)
        print(f"round {i} of {o.rounds}: {', '.join(words)} ms", file=sys.stderr)
    load.append(os.getloadavg()[0])
    for side in sides.values():
        side.end()
    result = {"images": o.images, "dtype": o.dtype, "threads": o.threads, "load": load}
    result["rounds"] = rounds
    print(
        f"{o.images} images, {o.threads} threads, {o.rounds} rounds, "
        f"load {load[0]:.1f} to {load[1]:.1f}"
    )
    print("| | Graft ms | PyTorch ms | ratio | quartiles | least .. largest |\n" + "|---" * 6 + "|")
    for what in ("step", "candidate"):
        ms = {s: statistics.median(r[what][s] for r in rounds) for s in sides}
        ratio = spread([r[what]["torch"] / r[what]["graft"] for r in rounds])
        result[what] = {"ms": ms, "ratio": ratio}
        low, high = ratio["quartiles"]
        print(
            f"| {what} | {ms['graft']:.0f} | {ms['torch']:.0f} | {ratio['median']:.2f} | "
            f"{low:.2f} .. {high:.2f} | {ratio['min']:.2f} .. {ratio['max']:.2f} |"
        )
    if o.out:
        o.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
