#!/usr/bin/env python3
"""Kills a training run at random instants until it is done: the weights must be those of a run that
nobody touched, bit for bit.

usage: kill_test.py [--graft build/graft] [--kills 20] [--seed 1]
Half of the kills come at any instant, the other half soon after a checkpoint began to be written
(a file of the run directory appeared or changed), some within a millisecond.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


def train(graft, data, out):
    return [
        graft,
        "train",
        "--model",
        "init:vit_nano_patch4_32",
        "--data",
        data,
        "--method",
        "lora(r=4,dropout=0.1)",
        "--out",
        out,
        "--epochs",
        "4",
        "--batch-size",
        "16",
        "--limit",
        "200",
        "--drop-path",
        "0.1",
        "--save-every",
        "5",
        "--threads",
        "1",
        "--seed",
        "7",
        "--quiet",
    ]


def stamps(run):
    """What a write changes: also temporary files that live for a moment."""
    try:
        return {e.name: e.stat().st_mtime_ns for e in os.scandir(run)}
    except FileNotFoundError:
        return {}


def wait_for_write(process, run, limit):
    before, end = stamps(run), time.monotonic() + limit
    while process.poll() is None and time.monotonic() < end:
        try:
            if stamps(run) != before:
                return True
        except OSError:
            return True
        time.sleep(0.0002)
    return False


def killed_run(graft, data, run, kills, whole, rng):
    """Trains with interruptions. Returns how many kills hit, how many of them a write."""
    hits = in_write = resumes = 0
    command = train(graft, data, run)
    while True:
        process = subprocess.Popen(command, **QUIET)
        during_write = hits < kills and hits % 2 == 1
        if hits < kills:
            # Long enough that a few steps pass on average, so the run moves on between kills.
            time.sleep(rng.uniform(0, whole / 4))
            if during_write and wait_for_write(process, run, whole):
                time.sleep(rng.choice([0, 0.0005, 0.002, rng.uniform(0, 0.02)]))
                in_write += process.poll() is None
            if process.poll() is None:
                hits += 1
                process.send_signal(signal.SIGKILL)
        error = process.stderr.read().decode(errors="replace")
        code = process.wait()
        if code == 0:
            return hits, in_write, resumes
        if code != -signal.SIGKILL:
            raise SystemExit(f"kill_test: exit code {code} after {hits} kills: {error}")
        check_files(run)
        # Killed before the run directory was made: start again; else go on.
        if (Path(run) / "config.json").exists():
            command = [graft, "train", "--resume", run, "--threads", "1", "--quiet"]
            resumes += 1
        elif Path(run).exists():
            shutil.rmtree(run)


def check_files(run):
    """Whatever the instant, a file under its own name is whole."""
    for name in ("last.safetensors", "best.safetensors", "state.safetensors"):
        path = Path(run) / name
        if not path.exists():
            continue
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        end = max(
            (t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0
        )
        if 8 + size + end != len(data):
            raise SystemExit(f"kill_test: {name} is incomplete")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graft", default=str(ROOT / "build" / "graft"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    graft = str(Path(args.graft).resolve())
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="graft-kill-") as folder:
        data = f"{folder}/data"
        subprocess.run([graft, "data", "make", "shapes", "--out", data], check=True, **QUIET)
        whole_run = f"{folder}/whole"
        started = time.monotonic()
        done = subprocess.run(train(graft, data, whole_run), **QUIET)
        if done.returncode:
            raise SystemExit(f"kill_test: the run itself fails: {done.stderr.decode()}")
        whole = time.monotonic() - started
        want = (Path(whole_run) / "last.safetensors").read_bytes()

        failures = hits = writes = resumes = rounds = 0
        while hits < args.kills and rounds < 4 * args.kills:
            rounds += 1
            run = f"{folder}/killed-{rounds}"
            h, w, r = killed_run(graft, data, run, args.kills - hits, whole, rng)
            hits, writes, resumes = hits + h, writes + w, resumes + r
            if (Path(run) / "last.safetensors").read_bytes() != want:
                failures += 1
                print(f"run {rounds}: the weights differ")
            lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
            steps = [json.loads(l).get("step") for l in lines]
            numbered = [s for s in steps if s is not None]
            if numbered != sorted(numbered):
                failures += 1
                print(f"run {rounds}: metrics.jsonl repeats steps: {numbered}")
    verdict = f"{failures} FAILED" if failures else "all equal the whole run"
    print(
        f"{hits} kills ({writes} just after a write began), {resumes} resumes, {rounds} runs of "
        f"{whole:.1f} s: {verdict}"
    )
    return 1 if failures or hits < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
