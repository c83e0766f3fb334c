"""Graft beside PyTorch on one machine: alternating processes, median ratio, a markdown table.

usage: python bench_peers.py --graft GRAFT --python PEERS_PYTHON [--rounds N] [--only TEXT]
    [--out FILE]

Each round starts one process of each side, in alternating order, so that a neighbour's load
falls on both; the ratio is taken inside a round, and the median ratio of the rounds is reported
with the least and the largest. GF/s is nominal work over time, the same work for both sides.
Memory is the process's peak resident size, as the system counted it.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch_step

# (model, task, Graft's method or None, batch)
CASES = (
    ("vit_base_patch16_224", "lora", "lora(r=8)", 16),
    ("deit_tiny_patch16_224", "lora", "lora(r=8)", 64),
    ("vit_base_patch16_224", "infer", None, 1),
    ("vit_base_patch16_224", "infer", None, 8),
    ("deit_tiny_patch16_224", "infer", None, 1),
    ("deit_tiny_patch16_224", "infer", None, 32),
)


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True)
    p.add_argument(
        "--python", type=pathlib.Path, required=True, help="the peers' environment's bin/python"
    )
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=4, help="PyTorch steps measured in a process")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--only", default="", help="run the cases whose description contains this")
    p.add_argument("--out", type=pathlib.Path, help="write everything measured here, as JSON")
    return p.parse_args()


def machine():
    """What the figures depend on."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^flags\s*: (.*)$", text, re.M)[1].split()) if "flags" in text else set()
    name = re.search(r"^model name\s*: (.*)$", text, re.M)
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "cpu": name[1] if name else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "isa": [
            f
            for f in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
            if f in flags
        ],
        "memory_gib": round(int(memory[1]) / 2**20, 1),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
    }


def run(command):
    """The JSON object that a command prints, with the peak resident size of its process."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(
                f"{' '.join(map(str, command))}: exit {process.returncode}\n{errors.read()[-2000:]}"
            )
        return {**json.loads(output.read()), "rss_bytes": usage.ru_maxrss * 1024}


def commands(args, case):
    model, task, method, batch = case
    graft = [args.graft, "profile", "--model", f"init:{model}", "--batch-size", str(batch)]
    graft += ["--threads", str(args.threads), "--dtype", "f32", "--json"]
    graft += ["--method", method] if method else []
    torch = [
        args.python,
        pathlib.Path(__file__).with_name("torch_step.py"),
        model,
        task,
        str(batch),
        "--threads",
        str(args.threads),
        "--steps",
        str(args.steps),
    ]
    return {"graft": graft, "torch": torch}


def measure(args, case):
    sides, rounds = commands(args, case), []
    for i in range(args.rounds):
        order = ("graft", "torch") if i % 2 == 0 else ("torch", "graft")
        rounds.append({side: run(sides[side]) for side in order})
        rounds[-1]["graft"].pop("nodes", None)
        print(
            f"  round {i + 1}: graft {rounds[-1]['graft']['step_ms']:.1f} ms,"
            f" torch {rounds[-1]['torch']['step_ms']:.1f} ms",
            file=sys.stderr,
            flush=True,
        )
    return rounds


def summary(case, rounds):
    model, task, method, batch = case
    ratios = [r["torch"]["step_ms"] / r["graft"]["step_ms"] for r in rounds]
    out = {
        "model": model,
        "task": task,
        "method": method,
        "batch": batch,
        "rounds": len(rounds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }
    for side in ("graft", "torch"):
        ms = statistics.median(r[side]["step_ms"] for r in rounds)
        out[side] = {
            "step_ms": ms,
            "examples_per_second": batch / ms * 1e3,
            "gflops": torch_step.flops(model, task) * batch / ms * 1e-6,
            "rss_bytes": statistics.median(r[side]["rss_bytes"] for r in rounds),
        }
    own = [r["graft"] for r in rounds]
    out["graft"]["reported"] = {
        k: statistics.median(o[k] for o in own)
        for k in ("gflops", "peak_gflops", "share_of_peak", "planned_bytes", "peak_memory_bytes")
        if k in own[0]
    }
    return out


HEADER = (
    "| work | Graft ms | PyTorch ms | faster by (min .. max) | Graft ex/s | PyTorch ex/s "
    "| Graft GF/s | "
    "PyTorch GF/s | Graft MB | PyTorch MB |\n|" + "---|" * 10
)


def describe(case):
    return f"{case[0]} {case[2] or 'inference'} batch {case[3]}"


def row(case, s):
    g, t = s["graft"], s["torch"]
    return (
        f"| {describe(case)} | {g['step_ms']:.1f} | {t['step_ms']:.1f} | "
        f"{s['ratio']:.2f} ({s['ratio_min']:.2f} .. {s['ratio_max']:.2f}) | "
        f"{g['examples_per_second']:.2f} | {t['examples_per_second']:.2f} | "
        f"{g['gflops']:.0f} | {t['gflops']:.0f} | "
        f"{g['rss_bytes'] / 2**20:.0f} | {t['rss_bytes'] / 2**20:.0f} |"
    )


def main():
    args = parse()
    cases = [c for c in CASES if args.only in describe(c)]
    if not cases:
        sys.exit(f"no case contains '{args.only}': {', '.join(map(describe, CASES))}")
    result = {
        "machine": machine(),
        "threads": args.threads,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "cases": [],
    }
    rows = []
    for case in cases:
        print(describe(case), file=sys.stderr, flush=True)
        rounds = measure(args, case)
        result["torch"], result["isa"] = rounds[0]["torch"]["torch"], rounds[0]["graft"].get("isa")
        result["cases"].append({**summary(case, rounds), "each_round": rounds})
        rows.append(row(case, result["cases"][-1]))
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + "\n")
    m = result["machine"]
    print(
        f"{m['cpu']}, {m['cpus']} CPUs, {m['memory_gib']} GiB, {' '.join(m['isa'])}; "
        f"{args.threads} threads, {args.rounds} rounds, PyTorch {result['torch']} eager, f32; "
        f"load at start {m['load']:.1f}\n"
    )
    print("\n".join([HEADER, *rows]))


if __name__ == "__main__":
    main()
