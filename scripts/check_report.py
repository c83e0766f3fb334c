#!/usr/bin/env python3
"""Opens pages of `graft bench report` and `graft profile --html` in headless Chromium (Debian:
chromium): every chart must be drawn and nothing may be said on the console, with the light and with
the dark style; without scripts, the numbers must be there.

usage: check_report.py GRAFT [--keep DIR]    (makes a small suite and a run of its own)
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = "init:vit_nano_patch8_64"


def make_pages(graft, folder):
    """Each page, and how many charts it has at least."""

    def call(*words):
        subprocess.run([graft, *map(str, words), "--quiet"], check=True)

    for task, drawn in (("cifar", "shapes"), ("eurosat", "color"), ("clevr_count", "count")):
        call("data", "make", drawn, "--out", folder / "data" / task)
    shared = ["--model", MODEL, "--epochs", 2]
    call("bench", "vtab", *shared, "--data", folder / "data", "--methods", "linear", "lora(r=2)",
         "--seeds", 2, "--out", folder / "suite")  # fmt: skip
    call("bench", "few-shot", *shared, "--data", folder / "data/cifar", "--shots", "1,2",
         "--methods", "linear", "--out", folder / "shots")  # fmt: skip
    call("train", *shared, "--data", folder / "data/cifar", "--method", "linear", "--out",
         folder / "run")  # fmt: skip
    page = folder / "report.html"
    call("bench", "report", folder / "suite", folder / "shots", folder / "run", "--out", page)
    profile = folder / "profile.html"
    call("profile", "--model", MODEL, "--method", "lora(r=2)", "--batch-size", 4, "--steps", 3,
         "--html", profile)  # fmt: skip
    return [(page, 5), (profile, 1)]


def opened(page, *options):
    """The page's elements after its scripts have run, and what they said on the console."""
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def failures_of(page, least):
    """What is wrong with a page that should have at least so many charts."""
    expected = page.read_text().count("<canvas")
    for style in ((), ("--force-dark-mode",)):
        dom, console = opened(page, *style)
        drawn = len(re.findall(r"<canvas[^>]*style=\"[^\"]*display: block", dom))
        if drawn != expected or expected < least:
            yield f"{page.name} {style}: {drawn} of {expected} charts are drawn"
        for line in console:
            yield f"{page.name} {style}: {line}"
    numbers = [re.findall(r'data-value="([^"]+)"', text) for text in (page.read_text(), dom)]
    if sorted(numbers[0]) != sorted(numbers[1]) or len(numbers[0]) < 50:
        yield f"{page.name}: the numbers of the page changed when it was opened"
    print(f"{page.name}: {expected} charts, {len(numbers[0])} numbers")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graft")
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    if not shutil.which("chromium"):
        sys.exit("check_report.py: no chromium; on Debian: apt-get install chromium")
    folder = args.keep or pathlib.Path(tempfile.mkdtemp())
    pages = make_pages(args.graft, folder)
    failures = [line for page, least in pages for line in failures_of(page, least)]
    for failure in failures:
        print("FAIL", failure)
    print(f"{len(pages)} pages, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
