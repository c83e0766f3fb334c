#!/usr/bin/env python3
"""Checks what a reader trips over: long lines and files, missing headers, left-over marks, paths of
one machine. Reads the files that git tracks, or all where there is no git."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINES = 100, 420
SOURCES = (".cc", ".h", ".py", ".sh", ".cmake")
# Files that may be longer, each with the reason.
LONG = {
    "models/text/unicode_tables.cc": "tables made by scripts/make_unicode_tables.py",
    "tests/fixtures/make_text_kinds.py": "a list of kinds, one after the other",
}
# Split, so that this file does not find itself.
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE = re.compile(r"/(wo" r"rk|ro" r"ot|ho" r"me/[a-z]+)/")


def tracked():
    try:
        out = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout.decode()
        names = [n for n in out.split("\0") if n]
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    skip = re.compile(r"(build[^/]*|\.git|runs)/|.*__pycache__")
    return [n for n in names if not skip.match(n) and (ROOT / n).is_file()]


def check(name):
    data = (ROOT / name).read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        if name.endswith(SOURCES):
            yield f"{name}: is not UTF-8"
        return
    if "\0" in text:
        return
    lines = text.splitlines()
    if not name.startswith("tests/fixtures/") or name.endswith(SOURCES):
        for number, line in enumerate(lines, 1):
            found = MACHINE.search(line)
            if found:
                yield f"{name}:{number}: path of one machine: {found[0]}"
    if not name.endswith(SOURCES):
        return
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield f"{name}:{number}: {len(line)} columns, at most {COLUMNS}"
        if line != line.rstrip():
            yield f"{name}:{number}: blanks at the end"
        found = MARKS.search(line)
        if found:
            yield f"{name}:{number}: {found[0]}"
    if len(lines) > LINES and name not in LONG:
        yield f"{name}: {len(lines)} lines, at most {LINES} (or a reason in check_style.py)"
    if data and not data.endswith(b"\n"):
        yield f"{name}: no newline at the end"
    head = lines[1:2] if lines and lines[0].startswith("#!") else lines[:1]
    # Headers and programs say what they are; a .cc file beside a header of its name need not.
    described = head and re.match(r'//|#|"""', head[0])
    sibling = name.endswith(".cc") and (ROOT / (name[:-3] + ".h")).exists()
    if lines and not described and not sibling:
        yield f"{name}:1: no comment that says what the file is"


def main():
    names = tracked()
    wrong = [line for name in names for line in check(name)]
    wrong += [
        f"{n}: listed as long, but is gone or short"
        for n in LONG
        if not (ROOT / n).exists() or len((ROOT / n).read_text().splitlines()) <= LINES
    ]
    print("\n".join(wrong) if wrong else f"{len(names)} files are in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
