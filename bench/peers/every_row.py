"""Every row of the table in Graft's README, beside every peer in each precision, in one command.

usage: python every_row.py --graft GRAFT --data DIR --out FOLDER [--python PEERS_PYTHON]
    [--minilm DIR] [--rounds N] [--readme FILE]

Runs bench_peers.py in all precisions that the CPU has instructions for, bench_texts.py (with
--minilm, a directory with all-MiniLM-L6-v2) and bench_probe.py, each with its peers in alternation;
their results go into FOLDER, and what is there is not measured again. With --readme the table is
written into FILE (peers_table.py). DIR holds data/vtab-1k/cifar10, data/text/sst2 and
weights/deit_tiny_patch16_224.safetensors. An hour and a half for five rounds on two cores.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import peers_table
from bench_peers import HERE, environment, own_precisions

DTYPES = "f32,bf16,int8"
PEERS = (
    "torch:f32", "torch:bf16", "openvino:f32", "openvino:bf16", "openvino:int8-static",
    "onnxruntime:f32", "onnxruntime:int8", "onnxruntime:int8-static",
)  # fmt: skip


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("graft", "data", "out"):
        p.add_argument(f"--{name}", type=pathlib.Path, required=True)
    p.add_argument("--python", type=pathlib.Path, help="the peers' environment's bin/python")
    p.add_argument("--minilm", type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--readme", type=pathlib.Path, help="write the table into this text")
    args = p.parse_args()
    args.python = args.python or environment()
    return args


def parts(args):
    """name -> the script and its words"""
    dtypes = own_precisions(args.graft, DTYPES)
    peers = [p for p in PEERS if p.split(":")[1].split("-")[0] in dtypes]
    told = {
        "peers": ["bench_peers.py", "--dtype", ",".join(dtypes), "--peers", ",".join(peers)],
        "probe": [
            "bench_probe.py", "--data", args.data / "data/vtab-1k/cifar10",
            "--model", args.data / "weights/deit_tiny_patch16_224.safetensors",
        ],
    }  # fmt: skip
    if args.minilm:
        told["texts"] = ["bench_texts.py", "--dtype", ",".join(dtypes), "--model", args.minilm]
        told["texts"] += ["--data", args.data / "data/text/sst2"]
    return told


def main():
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name, (script, *words) in parts(args).items():
        file = args.out / f"{name}.json"
        words += ["--graft", args.graft, "--python", args.python, "--rounds", args.rounds]
        # A part that was interrupted has no file of this name.
        unfinished = args.out / f"{name}.unfinished"
        command = [sys.executable, HERE / script, *words, "--out", unfinished]
        if not file.exists():
            print(f"== {script}", file=sys.stderr, flush=True)
            subprocess.run([str(word) for word in command], check=True)
            unfinished.rename(file)
        results.append(json.loads(file.read_text()))
    if args.readme:
        peers_table.write_table(args.readme, results)
    else:
        print("\n".join(peers_table.table(results)))


if __name__ == "__main__":
    main()
