"""Kills a suite at random instants until it is done, for kill_test.py: its ledger and its weights
must be those of a suite that nobody touched."""

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
TASKS = {"cifar": "shapes", "eurosat": "color", "clevr_count": "count"}


def check(done, what):
    if done.returncode:
        raise SystemExit(f"kill_test: {what} fails: {done.stderr.decode(errors='replace')}")


def units(suite):
    """What every unit came to, without times, with the bytes of its weights."""
    with sqlite3.connect(f"{suite}/ledger.sqlite") as ledger:
        rows = ledger.execute(
            "SELECT hash, state, score, metrics, trainable_parameters, run, error FROM units"
        ).fetchall()
    ledger.close()
    result = {}
    for hash, state, score, metrics, trainable, run, error in rows:
        measured = json.loads(metrics)
        measured.pop("seconds", None)
        weights = (Path(suite) / run / "last.safetensors").read_bytes()
        result[hash] = (state, score, measured, trainable, error, weights)
    return result


def kill_suite(graft, folder, kills, rng):
    """Returns what differs, a line each; prints a line."""
    data = f"{folder}/tasks"
    for name, task in TASKS.items():
        sizes = ["--size", "32", "--train", "48", "--val", "16", "--test", "24"]
        make = [graft, "data", "make", task, "--out", f"{data}/{name}", *sizes]
        check(subprocess.run(make, **QUIET), "data make")

    def command(out):
        return [
            graft, "bench", "vtab", "--quiet", "--model", "init:vit_nano_patch4_32", "--data", data,
            "--methods", "linear", "lora(r=2)", "ssf", "--epochs", "6", "--batch-size", "16",
            "--save-every", "3", "--seeds", "3", "--out", out,
        ]  # fmt: skip

    whole, killed = f"{folder}/whole", f"{folder}/killed"
    started = time.monotonic()
    check(subprocess.run(command(whole), **QUIET), "the suite")
    seconds = time.monotonic() - started
    hits = attempts = 0
    while hits < kills:
        process = subprocess.Popen(command(killed), **QUIET)
        # Long enough for a unit or so, planning included.
        time.sleep(rng.uniform(0, 1.5 * seconds / kills))
        if process.poll() is not None:
            check(process, "the killed suite") if process.returncode else None
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        hits += 1
    check(subprocess.run(command(killed), **QUIET), "the killed suite")
    a, b = units(whole), units(killed)
    differ = [f"suite: units {set(a) ^ set(b)}"] if set(a) != set(b) else []
    differ += [f"suite: unit {hash[:12]} differs" for hash in a if b.get(hash) != a[hash]]
    with sqlite3.connect(f"{killed}/ledger.sqlite") as ledger:
        attempts = ledger.execute("SELECT sum(attempts) FROM units").fetchone()[0]
    ledger.close()
    told = f"suite: {hits} kills, {len(a)} units in {attempts} attempts, of {seconds:.1f} s"
    print(told, flush=True)
    return hits, differ
