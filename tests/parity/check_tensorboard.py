"""Checks that the `tensorboard` package reads the events file of a run as metrics.jsonl: every
number of every line, in float32, under its tag and at its step, and nothing besides; also after the
run was interrupted and resumed.

usage: python check_tensorboard.py --graft GRAFT [--threads 1]

Exit 1 for a difference.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

EPOCHS = 4


def graft(args, *words):
    done = subprocess.run([args.graft, *map(str, words), "--quiet"], capture_output=True)
    if done.returncode:
        sys.exit(f"graft {words[0]} failed: {done.stderr.decode()}")


def train(args, folder, name, *more):
    run = folder / name
    graft(args, "train", "--model", "init:vit_nano_patch8_32", "--data", folder / "data",
          "--method", "lora(r=2)", "--epochs", EPOCHS, "--batch-size", 16, "--threads",
          args.threads, "--out", run, *more)
    return run


def tag_of(key):
    for group in ("train_", "val_"):
        if key.startswith(group):
            return group[:-1] + "/" + key[len(group):]
    return key


def differences(run):
    """What the file says otherwise than metrics.jsonl, and how many numbers were compared."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    expected = {}
    for line in lines:
        for key, value in line.items():
            if key != "step":
                expected.setdefault(tag_of(key), []).append((line["step"], np.float32(value)))
    wrong = sorted(set(found.Tags()["scalars"]) ^ set(expected))
    for tag, points in expected.items():
        if tag in wrong:
            continue
        read = [(e.step, np.float32(e.value)) for e in found.Scalars(tag)]
        if read != points:
            wrong.append(f"{tag}: {read}, expected {points}")
    # The accumulator forgives what is torn; the reader beneath does not.
    reader = PyRecordReader_New(str(next(run.glob("*tfevents*"))))
    records = 0
    while True:
        try:
            reader.GetNext()
        except Exception as end:  # an OutOfRangeError of the package
            if "OutOfRange" not in type(end).__name__:
                wrong.append(str(end))
            break
        Event.FromString(reader.record())
        records += 1
    if records != len(lines) + 1:
        wrong.append(f"{records} records of {len(lines)} lines")
    return wrong, sum(map(len, expected.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graft", required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.graft = str(pathlib.Path(args.graft).resolve())
    failed = compared = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        graft(args, "data", "make", "shapes", "--out", folder / "data", "--size", 32, "--train", 48,
              "--val", 16, "--test", 16)
        runs = {"validated": train(args, folder, "a"),
                "without validation": train(args, folder, "b", "--val-split", "none"),
                "resumed": train(args, folder, "c", "--schedule", "constant")}
        graft(args, "train", "--resume", runs["resumed"], "--epochs", 2 * EPOCHS)
        for label, run in runs.items():
            wrong, numbers = differences(run)
            compared += numbers
            failed += bool(wrong)
            print(f"| {label} | {numbers} numbers | {'; '.join(wrong) or 'equal'} |")
    print(f"tensorboard reads {compared} numbers of {len(runs)} runs, {failed} runs differ")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
