#!/usr/bin/env python3
"""Kills training runs at random instants until they are done: the weights must be those of a run
that nobody touched, bit for bit, whatever the threads of each part. So it goes with a suite.

usage: kill_test.py [--graft build/graft] [--kills 28] [--suite-kills 20] [--seed 1]
    [--case NAME]...
The kills are spread over the cases below: methods, a memory budget, kept features, texts, a base
that is a file, a trace. Half of them come at any instant, the other half soon after a checkpoint
began to be written (a file of the run directory appeared or changed), some within a millisecond.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kill_suite import kill_suite

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
THREADS = (1, 2, 3)


@dataclass
class Case:
    method: str
    model: str = "init:vit_nano_patch4_32"
    data: str = "images"
    options: dict = field(default_factory=dict)
    budget: bool = False  # one so tight that values are computed twice
    trace: bool = False


CASES = {
    "lora": Case("lora(r=4,dropout=0.1)", options={"--drop-path": "0.1"}),
    "budget": Case("lora(r=4,dropout=0.1)", options={"--drop-path": "0.1"}, budget=True),
    "full": Case("full", options={"--epochs": "2"}, budget=True),
    "bitfit": Case("bitfit", model="base", options={"--optimizer": "sgd", "--clip": "1"}),
    "features": Case("linear", model="base", options={"--epochs": "30", "--save-every": "20"}),
    "texts": Case(
        "lora(r=4,dropout=0.1)", "init:bert_tiny", "texts", {"--epochs": "2", "--limit": "160"}
    ),
    "trace": Case("lora(r=2,dropout=0.1)+ln", trace=True),
}


def write_texts(folder, rng):
    """Texts of 3 to 12 letters; the class is whether 'x' or 'y' stands among them."""
    os.mkdir(f"{folder}/texts")
    letters = "abcdefghijklmnopqrstuvw"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "x", "y"]
    Path(f"{folder}/vocab.txt").write_text("\n".join(words) + "\n")
    for split, count in (("train", 240), ("dev", 40)):
        lines = []
        for i in range(count):
            text = [rng.choice(letters) for _ in range(rng.randint(3, 12))]
            text[rng.randrange(len(text))] = "xy"[i % 2]
            lines.append(f"{' '.join(text)}\t{i % 2}\n")
        Path(f"{folder}/texts/{split}.tsv").write_text("".join(lines))


class Killer:
    """Runs of one case: one that nobody touches, and others that are killed."""

    def __init__(self, graft, folder, name, rng):
        self.graft, self.folder, self.rng = graft, folder, rng
        self.name, self.case = name, CASES[name]
        self.budget = ""
        self.hits = self.writes = self.resumes = self.runs = self.failures = 0

    def train(self, out):
        case = self.case
        options = {
            "--model": case.model.replace("base", f"{self.folder}/base.safetensors"),
            "--data": f"{self.folder}/{case.data}",
            "--method": case.method,
            "--out": out,
            "--epochs": "4",
            "--batch-size": "16",
            "--limit": "200",
            "--save-every": "5",
            "--seed": "7",
        }
        options.update(case.options)
        if case.data == "texts":
            options["--tokenizer"] = f"{self.folder}/vocab.txt"
        if self.budget:
            options["--memory-budget"] = self.budget
        if case.trace:
            options["--trace"] = f"{out}-trace"
        return [self.graft, "train", "--quiet", *(x for pair in options.items() for x in pair)]

    def run_whole(self):
        self.whole = f"{self.folder}/{self.name}-whole"
        if self.case.budget:
            free = f"{self.whole}-free"
            check(subprocess.run(self.train(free), **QUIET), "the run without a budget")
            plan = json.loads(Path(f"{free}/plan.json").read_text())
            tight = plan["needed_bytes"] - (plan["lanes"] - 1) * plan["lane_bytes"]
            self.budget = f"{tight - plan['arena_bytes'] // 20}B"
        started = time.monotonic()
        check(subprocess.run([*self.train(self.whole), "--threads", "1"], **QUIET), "the run")
        self.seconds = time.monotonic() - started
        if self.case.budget:
            plan = json.loads(Path(f"{self.whole}/plan.json").read_text())
            if plan["recomputed_nodes"] == 0:
                raise SystemExit(f"kill_test: {self.name}: the budget is not tight")

    def killed_run(self, kills):
        """Trains with at most so many interruptions."""
        self.runs += 1
        run = f"{self.folder}/{self.name}-{self.runs}"
        command, rng = self.train(run), self.rng
        hits = 0
        while True:
            threads = str(rng.choice(THREADS))
            process = subprocess.Popen([*command, "--threads", threads], **QUIET)
            during_write = hits < kills and hits % 2 == 1
            if hits < kills:
                # Long enough that a few steps pass on average, so the run moves on between kills.
                time.sleep(rng.uniform(0, self.seconds / 4))
                if during_write and wait_for_write(process, run, self.seconds):
                    time.sleep(rng.choice([0, 0.0005, 0.002, rng.uniform(0, 0.02)]))
                    self.writes += process.poll() is None
                if process.poll() is None:
                    hits += 1
                    process.send_signal(signal.SIGKILL)
            error = process.stderr.read().decode(errors="replace")
            code = process.wait()
            if code == 0:
                self.hits += hits
                return self.compare(run)
            if code != -signal.SIGKILL:
                raise SystemExit(
                    f"kill_test: {self.name}: exit code {code} after {hits} kills: {error}"
                )
            check_files(run)
            # Killed before the run could be resumed: the same command again, into what is there.
            if (Path(run) / "config.json").exists():
                command = [self.graft, "train", "--resume", run, "--quiet"]
                self.resumes += 1

    def compare(self, run):
        def differ(what):
            self.failures += 1
            print(f"{self.name}, run {self.runs}: {what}")

        names = ["last.safetensors", "best.safetensors", "plan.json"]
        pairs = [(Path(run) / n, Path(self.whole) / n) for n in names]
        trace = Path(f"{run}-trace/final.safetensors")
        if trace.exists():  # otherwise it was resumed after a checkpoint
            pairs.append((trace, Path(f"{self.whole}-trace/final.safetensors")))
        for ours, theirs in pairs:
            if ours.read_bytes() != theirs.read_bytes():
                differ(f"{ours.name} differs")
        lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(l).get("step") for l in lines]
        numbered = [s for s in steps if s is not None]
        if numbered != sorted(set(numbered)):
            differ(f"metrics.jsonl repeats steps: {numbered}")


def check(done, what):
    if done.returncode:
        raise SystemExit(f"kill_test: {what} fails: {done.stderr.decode(errors='replace')}")


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
    parser.add_argument("--kills", type=int, default=28)
    parser.add_argument("--suite-kills", type=int, default=20, help="0: no suite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    args = parser.parse_args()
    graft = str(Path(args.graft).resolve())
    rng = random.Random(args.seed)
    names = args.case or list(CASES)
    each = math.ceil(args.kills / len(names))
    killers, started = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="graft-kill-") as folder:
        data = f"{folder}/images"
        make = [graft, "data", "make", "shapes", "--out", data]
        check(subprocess.run(make, **QUIET), "data make")
        write_texts(folder, rng)
        first = Killer(graft, folder, "lora", rng)
        first.run_whole()
        fuse = [graft, "fuse", "--run", first.whole, "--out", f"{folder}/base.safetensors"]
        check(subprocess.run(fuse, **QUIET), "fuse")
        shutil.rmtree(first.whole)
        for name in names:
            killer = Killer(graft, folder, name, rng)
            killers.append(killer)
            killer.run_whole()
            while killer.hits < each and killer.runs < 4 * each:
                killer.killed_run(each - killer.hits)
            print(
                f"{name}: {killer.hits} kills ({killer.writes} just after a write began), "
                f"{killer.resumes} resumes, {killer.runs} runs of {killer.seconds:.1f} s",
                flush=True,
            )
    hits, failures = sum(k.hits for k in killers), sum(k.failures for k in killers)
    too_few = any(k.hits < each for k in killers)
    if args.suite_kills:
        with tempfile.TemporaryDirectory(prefix="graft-kill-") as folder:
            more, differ = kill_suite(graft, folder, args.suite_kills, rng)
        print(*differ, sep="\n", end="\n" if differ else "")
        hits, failures = hits + more, failures + len(differ)
        too_few = too_few or more < args.suite_kills
    verdict = f"{failures} FAILED" if failures else "all equal what nobody killed"
    print(f"{hits} kills in {time.monotonic() - started:.0f} s: {verdict}")
    return 1 if failures or too_few else 0


if __name__ == "__main__":
    sys.exit(main())
