"""Tables as pandas reads them and folders as torchvision's ImageFolder does: `graft data split`
writes what it has read, and that must be the same.

usage: python check_data.py --graft build/graft [--tables 60]
Needs pandas and torchvision. Exit 1 if anything differs.
"""

import argparse
import csv
import itertools
import pathlib
import random
import subprocess
import tempfile

import torchvision_shim  # noqa: F401  (before torchvision)
import numpy
import pandas
from PIL import Image
from torchvision.datasets import ImageFolder

PIECES = [
    "a film", "so, so", 'he said "no"', "l1\nl2", "äöü €", "x;y", " blanks ", "1.5", "it's"
]  # fmt: skip


def split(graft, data, out):
    command = [graft, "data", "split", data, "--holdout", "0.3", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")


def table(rng, separator):
    pieces = [p for p in PIECES if separator == "," or "\n" not in p]
    texts = [" ".join(rng.choices(pieces, k=rng.randint(1, 4))) + f" {i}" for i in range(24)]
    labels = [("good", "bad", "so-so")[i % 3] for i in range(24)]
    return pandas.DataFrame({"text": texts, "label": labels})


def check_tables(graft, folder, count):
    rng, wrong = random.Random(1), 0
    quoting = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)
    ends, encodings = ("\n", "\r\n"), ("utf-8", "utf-8-sig")
    forms = itertools.cycle(itertools.product(quoting, ends, encodings, (",", ";")))
    for i in range(count):
        q, end, encoding, separator = next(forms)
        path, out = folder / f"t{i}.csv", folder / f"out{i}"
        table(rng, separator).to_csv(
            path, sep=separator, quoting=q, lineterminator=end, encoding=encoding, index=False
        )
        read = {"dtype": str, "keep_default_na": False}
        expected = pandas.read_csv(path, sep=separator, encoding=encoding, **read)
        split(graft, path, out)
        found = pandas.concat(pandas.read_csv(out / f"{s}.csv", **read) for s in ("train", "val"))
        rows = [sorted(map(tuple, frame[["text", "label"]].values)) for frame in (expected, found)]
        if rows[0] != rows[1]:
            wrong += 1
            print(f"table {i} ({q}, {end!r}, {encoding}, {separator!r}) differs")
    return wrong


def check_folders(graft, folder):
    names, wrong = ["b", "a", "10", "2", "Z", "ä", "two words", "_x"], 0
    root = folder / "photos"
    for k, name in enumerate(names):
        (root / name / ("deep" if k % 2 else "")).mkdir(parents=True)
        for i in range(4):
            pixels = numpy.full((8, 8, 3), 10 * k + i, numpy.uint8)
            place = root / name / ("deep" if k % 2 and i == 3 else "")
            Image.fromarray(pixels).save(place / f"{i}.{('png', 'jpg', 'webp', 'bmp')[i]}")
    expected = ImageFolder(root)
    out = folder / "lists"
    split(graft, root, out)
    if (out / "classes.txt").read_text().splitlines() != expected.classes:
        wrong += 1
        print("the classes differ")
    found = []
    for part in ("train", "val"):
        for line in (out / f"{part}.txt").read_text().splitlines():
            path, label = line.rsplit(" ", 1)
            found.append((path, int(label)))
    if sorted(found) != sorted(expected.samples):
        wrong += 1
        print("the samples differ")
    return wrong


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--graft", type=pathlib.Path, required=True)
    p.add_argument("--tables", type=int, default=60)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        graft = o.graft.resolve()
        tables, folders = check_tables(graft, folder, o.tables), check_folders(graft, folder)
    print(f"{o.tables} tables, {tables} differ; folders: {'differ' if folders else 'equal'}")
    return 1 if tables or folders else 0


if __name__ == "__main__":
    raise SystemExit(main())
