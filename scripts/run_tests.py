#!/usr/bin/env python3
"""Runs the test binaries of a build folder, three at a time, and adds up their gtest results.

A binary that is missing, crashes or runs into the time limit is a failed test of its own name, and
what it passed before that counts. The checks of the sources (check_*.py) count as one test each,
library_test.py as many as it prints.
The last line is "N passed, N failed" or, if a test said what it could not find, "..., N skipped".
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = [
    "check_includes.py",
    "check_style.py",
    "planted_bugs.py --check",
    "method_pages.py --check --build {build}",
]
LIBRARY_TEST = "library_test"
# What counts pages of files, and what is interrupted while it writes.
NEED_A_DISK = ("mapped_file_test", "cli_overwrite_test")

# Those that run longest, where no earlier run has told.
LONGEST = ("cli_methods_test", "cli_mpi_test", "ops_test", "train_plan_test", "threads_test")


class Result:
    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = []  # names
        self.unavailable = []  # (name, reason)
        self.output = ""  # shown if something failed
        self.seconds = 0.0


def read_report(result, report):
    """A test that skips without a reason is one that its parameters leave out: not counted."""
    for case in xml.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None:
            result.failed.append(f"{result.name}: {name}")
        elif case.get("result") == "skipped":
            skipped = case.find("skipped")
            reason = (skipped.get("message") or "") if skipped is not None else ""
            reason = reason.strip().splitlines()[-1] if reason.strip() else ""
            if reason and not re.fullmatch(r"\S+:\d+", reason):
                result.unavailable.append((f"{result.name}: {name}", reason))
        elif case.get("status") == "run":
            result.passed += 1


def where_files_lie(name):
    """Memory if there is room: runs are synced to the disk at every save, which takes a test longer
    than what it tests. None: where the system has them."""
    memory = Path("/dev/shm")
    if name in NEED_A_DISK or not os.access(memory, os.W_OK):
        return None
    return memory if shutil.disk_usage(memory).free > 4 << 30 else None


def run_binary(name, build, limit):
    result = Result(name)
    binary = build / name
    started = time.monotonic()
    if not binary.exists():
        result.failed.append(f"{name} (not built)")
        return result
    with tempfile.TemporaryDirectory(prefix="graft-test-", dir=where_files_lie(name)) as folder:
        report = Path(folder) / "report.xml"
        # Waiting OpenMP threads that spin would take the processor from the other binary.
        # The images of tests are not for the user's cache.
        env = dict(os.environ, OMP_WAIT_POLICY="passive", TMPDIR=folder, GRAFT_IMAGE_CACHE="0")
        broken = ""
        try:
            done = subprocess.run(
                [binary, f"--gtest_output=xml:{report}", "--gtest_color=no"],
                cwd=ROOT,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
            )
            result.output = done.stdout.decode(errors="replace")
            if done.returncode < 0:
                broken = f"killed by signal {-done.returncode}"
            elif not report.exists():
                broken = f"exit code {done.returncode} without a report"
        except subprocess.TimeoutExpired as late:
            result.output = (late.stdout or b"").decode(errors="replace")
            broken = f"longer than {limit} s"
        result.seconds = time.monotonic() - started
        if report.exists() and not broken:
            read_report(result, report)
            # Sanitizers may fail a program whose tests all passed; and what fails before the first
            # test of a suite skips the suite, with exit code 0.
            if done.returncode != 0 and not result.failed:
                result.failed.append(f"{name} (exit code {done.returncode})")
            elif not result.failed and re.search(r"^\S+:\d+: Failure$", result.output, re.M):
                result.failed.append(f"{name} (before its tests)")
        else:
            result.passed = result.output.count("[       OK ]")
            running = re.findall(r"\[ RUN      \] (\S+)", result.output)
            where = f", in {running[-1]}" if running else ""
            result.failed.append(f"{name} ({broken}{where})")
    return result


def run_test(name, build, limit):
    if name in CHECKS:
        return run_check(name, build)
    if name == LIBRARY_TEST:
        return run_library_test(build, limit)
    return run_binary(name, build, limit)


def run_check(command, build):
    result = Result(command)
    script, *arguments = [word.format(build=build) for word in command.split()]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
    )
    result.output = done.stdout.decode(errors="replace")
    if done.returncode == 0:
        result.passed = 1
    else:
        result.failed.append(command)
    result.seconds = time.monotonic() - started
    return result


def run_library_test(build, limit):
    """The installed library, as a program of a user's own finds it."""
    result = Result(LIBRARY_TEST)
    started = time.monotonic()
    broken = ""
    try:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "library_test.py", build],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
        )
        result.output = done.stdout.decode(errors="replace")
        broken = f"exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        result.output = (late.stdout or b"").decode(errors="replace")
        broken = f"longer than {limit} s"
    result.passed = len(re.findall(r"^passed test_", result.output, re.M))
    failed = re.findall(r"^FAILED (test_\w+)", result.output, re.M)
    result.failed = [f"{result.name}: {name}" for name in failed]
    if not failed and (broken or not result.passed):
        result.failed.append(f"{result.name} ({broken or 'no test'})")
    result.seconds = time.monotonic() - started
    return result


def tail(text, lines=40):
    """What failed, without the tests that passed."""
    kept = [l for l in text.splitlines() if not re.match(r"\[( *(RUN|OK|SKIPPED) *|[-=]+)\]", l)]
    return "\n".join(kept[:lines] + (["  ..."] if len(kept) > lines else []))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, type=Path)
    parser.add_argument("--build-failed", type=int, default=0)
    parser.add_argument("--build-seconds", type=int, default=0)
    parser.add_argument(
        "--limit",
        type=int,
        default=int(os.environ.get("GRAFT_TEST_LIMIT", 600)),
        help="seconds for one binary",
    )
    # One more than processors: tests wait for processes that end and files that are written.
    parser.add_argument("--jobs", type=int, default=min(3, 1 + (os.cpu_count() or 1)))
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    build = args.build.resolve()
    names = args.names or sorted(p.stem for p in (ROOT / "tests").glob("*_test.cc"))

    # The slowest of the last time first, so that it does not run alone at the end.
    times_file = build / "test_seconds.json"
    times = json.loads(times_file.read_text()) if times_file.exists() else {}
    names.sort(key=lambda name: (-times.get(name, 1e9), name not in LONGEST))

    started = time.monotonic()
    results = []
    if not args.names:
        names[:0] = [LIBRARY_TEST, *CHECKS]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for result in pool.map(lambda n: run_test(n, build, args.limit), names):
            results.append(result)
            times[result.name] = result.seconds
    if build.exists():
        times_file.write_text(json.dumps(times))

    failed = [name for r in results for name in r.failed]
    for r in results:
        if r.failed:
            print(f"=== {r.name}\n{tail(r.output)}")
    print("seconds  passed  failed  test")
    for r in sorted(results, key=lambda r: -r.seconds):
        print(f"{r.seconds:7.1f}  {r.passed:6}  {len(r.failed):6}  {r.name}")
    print(f"built in {args.build_seconds} s, tested in {time.monotonic() - started:.0f} s")
    if args.build_failed:
        failed.append("build")
    if failed:
        print("failed: " + "\n        ".join(failed))
    unavailable = [u for r in results for u in r.unavailable]
    for reason in sorted({reason for _, reason in unavailable}):
        names = [name for name, why in unavailable if why == reason]
        print(f"not available: {reason} ({len(names)}): " + ", ".join(names))
    passed = sum(r.passed for r in results)
    skipped = f", {len(unavailable)} skipped" if unavailable else ""
    print(f"{passed} passed, {len(failed)} failed{skipped}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
