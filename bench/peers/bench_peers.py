"""Graft beside its peers on one machine: alternating processes, median ratios, a markdown table.

usage: python bench_peers.py --graft GRAFT [--python PEERS_PYTHON] [--rounds N] [--only TEXT]
    [--dtype f32,bf16,int8] [--peers torch:f32,torch:bf16,openvino:bf16,...] [--out FILE]
    [--isa avx2] [--readme FILE]

Without --python the peers' environment is made in build/peers (make_environment.sh) and used again.
With --readme, the lines of FILE between <!-- peers --> and <!-- /peers --> become a table of every
precision beside the fastest peer of that precision.

Each round starts one process of each side, Graft in each --dtype and every peer that can do the
work, in alternating order, so that a neighbour's load falls on all; ratios are taken inside a
round, and the median over the rounds is reported with the least and the largest. GF/s is nominal
work over time, the same work for both sides.
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

import peer_step
import peers_table

# (model, task, Graft's method or None, batch)
CASES = (
    ("vit_base_patch16_224", "lora", "lora(r=8)", 16),
    ("deit_tiny_patch16_224", "lora", "lora(r=8)", 64),
    ("minilm_l6", "lora", "lora(r=8)", 32),
    ("vit_base_patch16_224", "full", "full", 16),
    ("deit_tiny_patch16_224", "full", "full", 64),
    ("vit_base_patch16_224", "infer", None, 1),
    ("vit_base_patch16_224", "infer", None, 8),
    ("deit_tiny_patch16_224", "infer", None, 1),
    ("deit_tiny_patch16_224", "infer", None, 32),
    ("minilm_l6", "infer", None, 1),
    ("minilm_l6", "infer", None, 32),
)


HERE = pathlib.Path(__file__).resolve().parent
# What keeps a peer to fewer instructions: of oneDNN (OpenVINO has a copy), ATen and MKL. ONNX
# Runtime has no such switch.
PEER_ISA = {
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True)
    p.add_argument("--python", type=pathlib.Path, help="the peers' environment's bin/python")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=4, help="a peer's steps measured in a process")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--dtype", default="f32", help="of Graft: f32, bf16, int8, joined by commas")
    p.add_argument(
        "--peers",
        default="torch:f32",
        help="ENGINE:DTYPE joined by commas; engines torch, openvino, onnxruntime",
    )
    p.add_argument("--only", default="", help="run the cases whose description contains this")
    p.add_argument("--isa", choices=tuple(PEER_ISA), help="of Graft and, by their switches, peers")
    p.add_argument("--out", type=pathlib.Path, help="write everything measured here, as JSON")
    p.add_argument("--readme", type=pathlib.Path, help="write the table into this text")
    args = p.parse_args()
    args.python = args.python or environment()
    args.dtype = ",".join(own_precisions(args.graft, args.dtype, args.isa))
    return args


def own_precisions(graft, dtypes, isa=None):
    """Those of the names, joined by commas, that Graft has on this CPU: in the others it would
    run in f32, and the figures have a wrong name."""
    peaks = run([graft, "profile", "--machine", "--json"])
    peaks["peak_gflops_f32"] = peaks["peak_gflops"]
    if isa == "avx2":
        peaks["peak_gflops_bf16"] = peaks["peak_gflops_int8"] = 0
    asked = dtypes.split(",")
    if wrong := [d for d in asked if f"peak_gflops_{d}" not in peaks]:
        sys.exit(f"--dtype: no precision '{wrong[0]}': expected f32, bf16 or int8")
    had = [d for d in asked if peaks[f"peak_gflops_{d}"]]
    for dtype in sorted(set(asked) - set(had)):
        print(f"left out: {dtype}, for which this CPU has no instruction", file=sys.stderr)
    if not had:
        sys.exit("--dtype: nothing is left to measure")
    return had


def environment():
    folder = HERE.parent.parent / "build/peers"
    subprocess.run([HERE / "make_environment.sh", folder], check=True, stdout=sys.stderr)
    return folder / "bin/python"


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


def run(command, isa=None):
    """The JSON object that a command prints, with the peak resident size of its process."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        around = os.environ | PEER_ISA.get(isa, {})
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=around)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(
                f"{' '.join(map(str, command))}: exit {process.returncode}\n{errors.read()[-2000:]}"
            )
        return {**json.loads(output.read()), "rss_bytes": usage.ru_maxrss * 1024}


def weights_file(args, model):
    """Weights as users have them, in a file: what is drawn anew lies in memory of the process."""
    out = pathlib.Path(args.models) / model
    if not out.exists():
        form = "hf" if model in peer_step.BERTS else "timm"
        subprocess.run(
            [args.graft, "export", "--model", f"init:{model}", "--format", form, "--out", out],
            check=True, capture_output=True,
        )  # fmt: skip
    return out if model in peer_step.BERTS else out / "model.safetensors"


def sides(args, case):
    """The command of each side by its name: graft:f32, torch:bf16, ..."""
    model, task, method, batch = case
    file = weights_file(args, model)
    commands = {}
    for dtype in args.dtype.split(","):
        graft = [args.graft, "profile", "--model", file, "--batch-size", str(batch)]
        graft += ["--threads", str(args.threads), "--dtype", dtype, "--json"]
        graft += ["--method", method] if method else []
        graft += ["--isa", args.isa] if args.isa else []
        graft += ["--length", str(peer_step.TEXT_TOKENS)] if model in peer_step.BERTS else []
        commands[f"graft:{dtype}"] = graft
    for peer in args.peers.split(","):
        engine, dtype = peer.split(":")
        if engine != "torch" and task != "infer":
            continue
        commands[peer] = [
            args.python, HERE / "peer_step.py", model, task, str(batch),
            "--engine", engine, "--dtype", dtype, "--threads", str(args.threads),
            "--steps", str(args.steps), "--folder", args.models,
        ]  # fmt: skip
    return commands


def measure(args, case):
    commands, rounds = sides(args, case), []
    for i in range(args.rounds):
        order = list(commands) if i % 2 == 0 else list(reversed(commands))
        rounds.append({side: run(commands[side], args.isa) for side in order})
        for result in rounds[-1].values():
            result.pop("nodes", None)
        told = ", ".join(f"{side} {r['step_ms']:.1f} ms" for side, r in rounds[-1].items())
        print(f"  round {i + 1}: {told}", file=sys.stderr, flush=True)
    return rounds


def summary(case, rounds):
    model, task, method, batch = case
    out = {"model": model, "task": task, "method": method, "batch": batch, "rounds": len(rounds)}
    for side in rounds[0]:
        ms = statistics.median(r[side]["step_ms"] for r in rounds)
        out[side] = {
            "step_ms": ms,
            "examples_per_second": batch / ms * 1e3,
            "gflops": peer_step.flops(model, task) * batch / ms * 1e-6,
            "rss_bytes": statistics.median(r[side]["rss_bytes"] for r in rounds),
        }
    out["ratios"] = {}
    for own in (side for side in rounds[0] if side.startswith("graft:")):
        for peer in (side for side in rounds[0] if not side.startswith("graft:")):
            ratios = [r[peer]["step_ms"] / r[own]["step_ms"] for r in rounds]
            out["ratios"][f"{own} {peer}"] = peers_table.spread(ratios)
    return out


HEADER = "| work | side | ms | examples/s | GF/s | MB | Graft is faster by (min .. max) |\n" + (
    "|---" * 7 + "|"
)


def describe(case):
    return f"{case[0]} {case[2] or 'inference'} batch {case[3]}"


def rows(case, s):
    """One row for each side; a peer's says by how much Graft in each precision is faster."""
    for side in (k for k in s if ":" in k):
        told = [
            f"{own.removeprefix('graft:')} {r['median']:.2f} ({r['min']:.2f} .. {r['max']:.2f})"
            for own, peer, r in ((*pair.split(" "), r) for pair, r in s["ratios"].items())
            if peer == side
        ]
        yield (
            f"| {describe(case)} | {side} | {s[side]['step_ms']:.1f} | "
            f"{s[side]['examples_per_second']:.2f} | {s[side]['gflops']:.0f} | "
            f"{s[side]['rss_bytes'] / 2**20:.0f} | {'; '.join(told)} |"
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
    lines = []
    for case in cases:
        print(describe(case), file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as args.models:
            rounds = measure(args, case)
        result["versions"] = {k: r["version"] for k, r in rounds[0].items() if "version" in r}
        result["cases"].append({**summary(case, rounds), "each_round": rounds})
        lines += rows(case, result["cases"][-1])
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + "\n")
    m = result["machine"]
    versions = ", ".join(f"{side} {version}" for side, version in result["versions"].items())
    print(
        f"{m['cpu']}, {m['cpus']} CPUs, {m['memory_gib']} GiB, {' '.join(m['isa'])}; "
        f"{args.threads} threads, {args.rounds} rounds; {versions}; "
        f"load at start {m['load']:.1f}\n"
    )
    print("\n".join([HEADER, *lines]))
    if args.readme:
        peers_table.write_table(args.readme, [result])


if __name__ == "__main__":
    main()
