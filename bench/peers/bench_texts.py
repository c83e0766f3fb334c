"""MiniLM on real texts of unequal lengths: Graft (no padding) beside PyTorch (padded batches).

usage: python bench_texts.py --graft GRAFT --python PEERS_PYTHON --model MINILM_DIR --data TEXT_DIR
    [--rounds N] [--batch N] [--threads N] [--dtype f32,bf16] [--out FILE]

TEXT_DIR holds train.tsv and dev.tsv (sst2). As in bench_peers.py, a round starts one process of
each side in alternating order, and the ratio is taken inside a round. All sides report examples
per second of one epoch: LoRA (r=8, alpha=16, query and value) on train.tsv, inference on dev.tsv.
In bf16 PyTorch runs under autocast; it has no int8. --out writes cases as bench_peers.py does.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

from bench_peers import machine, own_precisions, run
from peers_table import spread

TASKS = {"lora": "LoRA, one epoch", "infer": "inference"}


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("graft", "python", "model", "data"):
        p.add_argument(f"--{name}", type=pathlib.Path, required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--dtype", default="f32", help="f32, bf16, int8, joined by commas")
    p.add_argument("--out", type=pathlib.Path, help="write what was measured here, as JSON")
    args = p.parse_args()
    args.dtype = ",".join(own_precisions(args.graft, args.dtype))
    return args


def in_graft(args, task, dtype, folder, i):
    """One epoch over all training texts (features are not cached, nothing is validated), or an
    evaluation of what the first round has trained."""
    run_of = folder / f"{dtype}-{i if task == 'lora' else 0}"
    words = ["--threads", args.threads, "--dtype", dtype, "--json", "--data", args.data]
    if task == "infer":
        return [args.graft, "eval", "--run", run_of, "--split", "dev", *words]
    words += ["--model", args.model, "--method", "lora(r=8,alpha=16)", "--batch-size", args.batch]
    words += ["--epochs", 1, "--val-split", "none", "--lr", "1e-3", "--out", run_of]
    return [args.graft, "train", *words]


def in_pytorch(args, task, dtype):
    words = [args.python, pathlib.Path(__file__).with_name("torch_texts.py"), task, args.model]
    words += [args.data / ("train.tsv" if task == "lora" else "dev.tsv"), "--batch", args.batch]
    return [*words, "--threads", args.threads, "--dtype", dtype]


def sides(args, task, folder, i):
    commands = {}
    for dtype in args.dtype.split(","):
        commands[f"graft:{dtype}"] = in_graft(args, task, dtype, folder, i)
        if dtype != "int8":
            commands[f"torch:{dtype}"] = in_pytorch(args, task, dtype)
    return {side: [str(word) for word in command] for side, command in commands.items()}


def measure(args, task, folder):
    """A round: side -> examples per second and the process's memory."""
    rounds = []
    for i in range(args.rounds):
        commands = sides(args, task, folder, i)
        order = list(commands) if i % 2 == 0 else list(reversed(commands))
        told = {side: run(commands[side]) for side in order}
        rounds.append(
            {
                side: {
                    "rate": t.get("examples_per_second") or t["n"] / t["seconds"],
                    "rss_bytes": t["rss_bytes"],
                }
                for side, t in told.items()
            }
        )
    return rounds


def summary(args, task, rounds):
    case = {"name": f"MiniLM, sst2's lengths, {TASKS[task]}, batch {args.batch}", "ratios": {}}
    case |= {"model": "minilm_l6", "task": task, "batch": args.batch, "rounds": len(rounds)}
    for side in rounds[0]:
        rate = statistics.median(r[side]["rate"] for r in rounds)
        case[side] = {
            "examples_per_second": rate,
            "rss_bytes": max(r[side]["rss_bytes"] for r in rounds),
            "shown": f"{rate:.0f} texts/s",
        }
    for dtype in args.dtype.split(","):
        own, peer = f"graft:{dtype}", f"torch:{dtype}"
        if peer in case:
            ratios = [r[own]["rate"] / r[peer]["rate"] for r in rounds]
            case["ratios"][f"{own} {peer}"] = spread(ratios)
    return case


def rows(case):
    for side in (k for k in case if ":" in k):
        told = [
            f"{r['median']:.2f} ({r['min']:.2f} .. {r['max']:.2f})"
            for pair, r in case["ratios"].items()
            if pair.endswith(side)
        ]
        memory = f"{case[side]['rss_bytes'] / 2**20:.0f}"
        cells = [case["name"], side, case[side]["shown"], memory, "".join(told)]
        yield f"| {' | '.join(cells)} |"


def main():
    args = parse()
    m = machine()
    what = f"{args.threads} threads, {args.rounds} rounds"
    print(f"{m['cpu']}, {' '.join(m['isa'])}; {what}\n")
    print("| work | side | rate | MB | Graft is faster by (min .. max) |\n|" + "---|" * 5)
    result = {"machine": m, "threads": args.threads, "cases": []}
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            case = summary(args, task, measure(args, task, pathlib.Path(folder)))
            result["cases"].append(case)
            print("\n".join(rows(case)), flush=True)
            if args.out:
                args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
