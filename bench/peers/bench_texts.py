"""MiniLM on real texts of unequal lengths: Graft (no padding) beside PyTorch (padded batches).

usage: python bench_texts.py --graft GRAFT --python PEERS_PYTHON --model MINILM_DIR --data TEXT_DIR
    [--rounds N] [--batch N] [--threads N] [--dtype f32|bf16]

TEXT_DIR holds train.tsv and dev.tsv (sst2). As in bench_peers.py, a round starts one process of
each side in alternating order, and the ratio is taken inside a round. Both sides report examples
per second of one epoch: LoRA (r=8, alpha=16, query and value) on train.tsv, inference on dev.tsv.
In bf16 PyTorch runs under autocast.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile

from bench_peers import machine, run


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("graft", "python", "model", "data"):
        p.add_argument(f"--{name}", type=pathlib.Path, required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    return p.parse_args()


def train(args, out):
    """One epoch over all training texts; features are not cached, nothing is validated."""
    command = [args.graft, "train", "--model", args.model, "--data", args.data, "--out", out]
    command += ["--method", "lora(r=8,alpha=16)", "--batch-size", args.batch, "--epochs", 1]
    command += ["--val-split", "none", "--lr", "1e-3", "--threads", args.threads, "--json"]
    command += ["--dtype", args.dtype]
    return [str(word) for word in command]


def commands(args, folder, case, i):
    torch = [args.python, pathlib.Path(__file__).with_name("torch_texts.py"), case, args.model]
    torch += [args.data / ("train.tsv" if case == "lora" else "dev.tsv"), "--batch", args.batch]
    torch = [str(word) for word in [*torch, "--threads", args.threads, "--dtype", args.dtype]]
    if case == "lora":
        return {"graft": train(args, folder / f"run{i}"), "torch": torch}
    graft = [args.graft, "eval", "--run", folder / "run0", "--data", args.data, "--split", "dev"]
    graft += ["--threads", args.threads, "--dtype", args.dtype, "--json"]
    graft = [str(word) for word in graft]
    return {"graft": graft, "torch": torch}


def rate(side, result):
    if side == "torch" or "examples_per_second" in result:
        return result["examples_per_second"]
    return result["n"] / result["seconds"]


def main():
    args = parse()
    m = machine()
    what = f"{args.threads} threads, {args.rounds} rounds, {args.dtype}"
    print(f"{m['cpu']}, {' '.join(m['isa'])}; {what}\n")
    columns = ("work", "Graft texts/s", "PyTorch texts/s", "faster by (min .. max)")
    print("| " + " | ".join([*columns, "Graft MB", "PyTorch MB"]) + " |\n|" + "---|" * 6)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for case in ("lora", "infer"):
            rounds = []
            for i in range(args.rounds):
                sides = commands(args, folder, case, i)
                order = ("graft", "torch") if i % 2 == 0 else ("torch", "graft")
                rounds.append({side: run(sides[side]) for side in order})
            rates = {s: [rate(s, r[s]) for r in rounds] for s in ("graft", "torch")}
            ratios = [a / b for a, b in zip(rates["graft"], rates["torch"])]
            memory = {s: max(r[s]["rss_bytes"] for r in rounds) / 2**20 for s in rates}
            print(
                f"| {case} batch {args.batch} | {statistics.median(rates['graft']):.1f} | "
                f"{statistics.median(rates['torch']):.1f} | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} .. {max(ratios):.2f}) | {memory['graft']:.0f} | "
                f"{memory['torch']:.0f} |"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
