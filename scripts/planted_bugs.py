#!/usr/bin/env python3
"""Tests of the tests: plants known bugs, one at a time, and requires that named tests turn red.

usage: planted_bugs.py [--work FOLDER | --here] [--only TEXT]... [--shard I/N] [--release] [--list]
                       [--check]
The bugs are in tests/planted_bugs.toml. Works in a clone of HEAD with a build folder of its own
(kept in FOLDER; ccache is used if there) and never in this tree, unless --here says so: then it is
built in build/, git must find it unchanged, and it is restored after each bug. A test must be green
without the bug and red with it: a failure, a crash, or ten times its processor time. Bugs in files
that are compiled for every SIMD target take longest and come last; --shard 2/3 takes the second
third of what --only leaves; --check only looks whether each bug can still be planted. Exit code 1
when a bug is green or cannot be planted.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of one test: a bug may loop or allocate without end. Processor time, so that a busy machine makes
# no test red; a test that waits for ever is ended by the clock.
LEAST_SECONDS, WAITING_SECONDS, MEMORY_BYTES = 60, 1800, 8 << 30


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    old: str
    new: str
    tests: tuple  # "binary" or "binary:gtest filter"

    def slow(self):
        """Compiled once per SIMD target."""
        return "foreach_target.h" in (ROOT / self.file).read_text()


def read_bugs():
    with (ROOT / "tests/planted_bugs.toml").open("rb") as f:
        return [Bug(**{**b, "tests": tuple(b["tests"])}) for b in tomllib.load(f)["bug"]]


def binary_of(test):
    return test.partition(":")[0]


def what_is_wrong(bug, root):
    """Why the bug cannot be planted in the tree, or nothing. A list of bugs rots in silence."""
    path = root / bug.file
    count = path.read_text().count(bug.old) if path.exists() else 0
    if count != 1:
        return f"old text found {count} times"
    missing = [b for b in map(binary_of, bug.tests) if not (root / f"tests/{b}.cc").exists()]
    return "no test " + ", ".join(missing) if missing else ""


def cpu_seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Workshop:
    """A tree in which bugs are planted, and its build: a clone of HEAD, or this one."""

    def __init__(self, folder, source, jobs):
        self.source, self.build = source, source / "build"
        self.log, self.jobs = folder / "log.txt", jobs
        self.seconds = {}  # of each test without a bug
        folder.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def clone(self, release):
        head = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
        if not self.source.exists():
            subprocess.run(["git", "clone", "-q", ROOT, self.source], check=True)
        git = ["git", "-C", self.source]
        subprocess.run([*git, "fetch", "-q", "origin", "HEAD"], check=True)
        # A bug of a run that was killed may still be in there.
        subprocess.run([*git, "checkout", "-q", "--force", "--detach", head], check=True)
        # -O1: half of the compile time, and the same bugs.
        flags = ["-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"]
        flags = [] if release else flags
        if self.run(["cmake", "-G", "Ninja", "-S", self.source, "-B", self.build, *flags]):
            raise SystemExit(f"planted_bugs: cmake failed, see {self.log}")

    def run(self, command, cpu_seconds=resource.RLIM_INFINITY, clock_seconds=None):
        """The exit code; None if it took longer. The whole process group ends with it."""

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))

        with self.log.open("ab") as out:
            child = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.source,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if k != "GRAFT_DATA"},
                preexec_fn=limit,
            )
            try:
                code = child.wait(clock_seconds)
                return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
            except subprocess.TimeoutExpired:
                return None
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()

    def compile(self, tests):
        targets = sorted({binary_of(t) for t in tests})
        # The tests of the command start it, whatever they are called.
        sources = [self.source / "tests" / f"{target}.cc" for target in targets]
        if any('"tests/cli_' in source.read_text(encoding="utf-8") for source in sources):
            targets.append("graft")
        return self.run(["ninja", "-C", self.build, f"-j{self.jobs}", *targets]) == 0

    def verdict(self, test):
        """ "green", "red", "red (time)" or, of a filter that leaves no test, "no test"."""
        name, _, pattern = test.partition(":")
        command = [self.build / name] + ([f"--gtest_filter={pattern}"] if pattern else [])
        limit = max(LEAST_SECONDS, 10 * self.seconds.get(test, 60))
        before, said = cpu_seconds_of_children(), self.log.stat().st_size
        code = self.run(command, int(limit), WAITING_SECONDS)
        self.seconds.setdefault(test, cpu_seconds_of_children() - before)
        if code == 0 and b"[  PASSED  ] 0 tests" in self.log.read_bytes()[said:]:
            return "no test"
        return "red (time)" if code is None else "green" if code == 0 else "red"

    def plant(self, bug):
        """The verdict with the bug in the tree; all named tests must be red."""
        path = self.source / bug.file
        clean = path.read_text()
        try:
            path.write_text(clean.replace(bug.old, bug.new))
            if not self.compile(bug.tests):
                return "does not compile"
            verdicts = {t: self.verdict(t) for t in bug.tests}
            green = [t for t, v in verdicts.items() if v == "green"]
            return "GREEN: " + ", ".join(green) if green else max(verdicts.values())
        finally:
            path.write_text(clean)


def choose(args):
    bugs = [b for b in read_bugs() if any(t in b.name or t in b.file for t in args.only or [""])]
    bugs.sort(key=lambda b: (b.slow(), b.file))  # stable: bugs of one file stay together
    index, _, count = args.shard.partition("/")
    index, count = int(index), int(count or 1)
    if not 1 <= index <= count:
        raise SystemExit(f"planted_bugs: --shard {args.shard}: expected I/N with 1 <= I <= N")
    return bugs[len(bugs) * (index - 1) // count : len(bugs) * index // count]


def try_all(bugs, shop):
    """Returns how many bugs are red, how many green."""
    tests = sorted({t for b in bugs for t in b.tests})
    started = time.monotonic()
    if not shop.compile(tests):
        print(shop.log.read_text(errors="replace")[-4000:])
        raise SystemExit("planted_bugs: the clean tree does not build")
    print(f"{time.monotonic() - started:6.1f} s  clean tree built", flush=True)
    started = time.monotonic()
    clean = {t: shop.verdict(t) for t in tests}
    print(f"{time.monotonic() - started:6.1f} s  {len(tests)} tests without a bug", flush=True)
    red = green = 0
    for bug in bugs:
        started = time.monotonic()
        verdict = what_is_wrong(bug, shop.source)
        for test in [t for t in bug.tests if not verdict and clean[t] != "green"]:
            verdict = f"{clean[test].upper()} WITHOUT THE BUG: {test}"
        verdict = verdict or shop.plant(bug)
        red += verdict.startswith("red")
        green += verdict.startswith("GREEN")
        seconds = time.monotonic() - started
        print(f"{seconds:6.1f} s  {verdict:10}  {bug.file}: {bug.name}", flush=True)
    return red, green


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder to keep (default: a temporary one)")
    parser.add_argument("--here", action="store_true", help="in this tree and its build/")
    parser.add_argument(
        "--only", action="append", help="bugs whose name or file contains this; may be repeated"
    )
    parser.add_argument("--shard", default="1/1", help="I/N: the I-th of N parts")
    parser.add_argument(
        "--release", action="store_true", help="compile as for release, which ccache may know"
    )
    parser.add_argument("--list", action="store_true", help="only print the bugs")
    parser.add_argument("--check", action="store_true", help="only look for the old texts")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args()
    # So that the file is restored and the temporary folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bugs = choose(args)
    if args.list or args.check:
        wrong = {b: what_is_wrong(b, ROOT) for b in bugs}
        for bug in bugs:
            if args.list or wrong[bug]:
                print(f"{bug.file}: {bug.name}" + (f": {wrong[bug]}" if wrong[bug] else ""))
        bad = sum(map(bool, wrong.values()))
        print(f"{len(bugs) - bad} of {len(bugs)} bugs can be planted")
        return 1 if bad else 0
    with tempfile.TemporaryDirectory(prefix="graft-bugs-") as temporary:
        folder = (args.work or Path(temporary)).resolve()
        shop = Workshop(folder, ROOT if args.here else folder / "source", args.jobs)
        if not args.here:
            shop.clone(args.release)
        elif subprocess.check_output(["git", "-C", ROOT, "status", "--porcelain", "-uno"]):
            raise SystemExit("planted_bugs: --here: git finds changes in this tree; commit them")
        red, green = try_all(bugs, shop)
    other = len(bugs) - red - green
    print(f"{len(bugs)} bugs, {red} red, {green} green" + (f", {other} not tried" if other else ""))
    return 0 if red == len(bugs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("planted_bugs: interrupted; the tree that it works in is clean")
