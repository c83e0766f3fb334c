"""A linear probe of 10 epochs: Graft, which computes the frozen trunk's features once, beside
PyTorch without a cache, which computes them in every epoch.

usage: python bench_probe.py --graft GRAFT [--python PEERS_PYTHON] --data DIR --model FILE
    [--epochs N] [--limit N] [--rounds N] [--threads N] [--out FILE]

DIR has the VTAB-1k layout; all images of train800val200 unless --limit says fewer. FILE is DeiT-Ti.
Graft's seconds are those of the whole command, from the start of the process, with decoding, into
an empty cache. PyTorch's are the steps alone, on pixels that are there: the median step of
peer_step.py times the number of steps. Each round runs both; the order alternates. --out writes a
case as bench_peers.py does.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from bench_peers import HERE, environment, machine, run
from peers_table import spread

BATCH = 64


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True)
    p.add_argument("--python", type=pathlib.Path)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--model", type=pathlib.Path, required=True)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--limit", type=int, default=0)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--out", type=pathlib.Path, help="write what was measured here, as JSON")
    args = p.parse_args()
    args.python = args.python or environment()
    return args


def images_of(args):
    lines = (args.data / "train800val200.txt").read_text().splitlines()
    return min(args.limit or len(lines), len(lines))


def in_graft(args):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        start = time.perf_counter()
        run(
            [args.graft, "train", "--model", args.model, "--data", args.data, "--method", "linear"]
            + ["--train-split", "train800val200", "--val-split", "none", "--batch-size", str(BATCH)]
            + ["--epochs", str(args.epochs), "--limit", str(args.limit), "--json", "--quiet"]
            + ["--threads", str(args.threads), "--out", pathlib.Path(folder) / "run"]
        )
        return time.perf_counter() - start


def in_pytorch(args):
    told = run(
        [args.python, HERE / "peer_step.py", "deit_tiny_patch16_224", "linear", str(BATCH)]
        + ["--threads", str(args.threads)]
    )
    return args.epochs * images_of(args) / told["examples_per_second"]


def main():
    args, rounds = parse(), []
    for i in range(args.rounds):
        order = (in_graft, in_pytorch) if i % 2 == 0 else (in_pytorch, in_graft)
        rounds.append({side: side(args) for side in order})
        told = ", ".join(f"{s.__name__} {t:.2f} s" for s, t in rounds[-1].items())
        print(f"  round {i + 1}: {told}", file=sys.stderr, flush=True)
    ratios = spread([r[in_pytorch] / r[in_graft] for r in rounds])
    own, peer = (statistics.median(r[side] for r in rounds) for side in (in_graft, in_pytorch))
    print(
        f"{args.epochs} epochs of {images_of(args)} images: Graft {own:.2f} s, PyTorch {peer:.2f} "
        f"s, faster by {ratios['median']:.1f} ({ratios['min']:.1f} .. {ratios['max']:.1f})"
    )
    if args.out:
        case = {"name": f"DeiT-Ti, linear probe, {args.epochs} epochs of {images_of(args)} images"}
        case |= {"graft:f32": {"seconds": own, "shown": f"{own:.2f} s"}}
        case |= {"torch:f32": {"seconds": peer, "shown": f"{peer:.2f} s"}}
        case |= {"ratios": {"graft:f32 torch:f32": ratios}}
        result = {"machine": machine(), "threads": args.threads, "cases": [case]}
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
