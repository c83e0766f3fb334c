#!/usr/bin/env python3
"""Opens pages of `graft bench report` and `graft profile --html` in headless Chromium (Debian:
chromium): every chart must be drawn and nothing may be said on the console, with the light and with
the dark style; the numbers must be those of the files, and be there without scripts.

usage: check_report.py GRAFT [--keep DIR]    (makes small suites, runs and searches of its own)
"""

import argparse
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

MODEL = "init:vit_nano_patch8_64"
BERT = "init:bert(vocab=5,width=16,depth=1,heads=2,mlp=32,positions=32)"
SPACE = "lora(r={0|2|4},targets=attn.*)+adaptformer(r={0|4})"
SEARCH = ["--epochs", 2, "--population", 6, "--generations", 2, "--mutations", 3,
          "--crossovers", 2, "--top", 3]  # fmt: skip


def caller(graft):
    def call(*words):
        done = subprocess.run([graft, *map(str, words), "--quiet", "--json"], check=True,
                              stdout=subprocess.PIPE)  # fmt: skip
        return json.loads(done.stdout)

    return call


def make_data(call, folder):
    for task, drawn in (("cifar", "shapes"), ("eurosat", "color"), ("clevr_count", "count")):
        call("data", "make", drawn, "--out", folder / "data" / task)
    texts = folder / "texts"
    texts.mkdir(parents=True)
    (texts / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    for name in ("train", "dev"):
        rows = [f"{'a ' * (i % 7 + 1)}<b>x{i}\t{i % 7 / 7:.3f}" for i in range(60)]
        (texts / f"{name}.tsv").write_text("text\tscore\n" + "\n".join(rows) + "\n")


def suite_numbers(suite):
    with sqlite3.connect(suite / "ledger.sqlite") as ledger:
        return [score for (score,) in ledger.execute("SELECT score FROM units")]


def run_numbers(call, run, data, split):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    numbers = [value for line in lines for value in line.values()]
    measured = call("eval", "--run", run, "--data", data, "--split", split)
    numbers.append(measured["loss"])
    for each in measured.get("per_class", measured.get("per_column")):
        numbers += [value for key, value in each.items() if key not in ("class", "name")]
    return numbers


def search_numbers(search):
    candidates = json.loads((search / "candidates.json").read_text())
    return [c[key] for c in candidates for key in ("parameters", "val_accuracy", "val_loss")]


def make_pages(call, folder):
    """Pages by name, each with the numbers that it must have and the charts at least."""
    make_data(call, folder)
    shared = ["--model", MODEL, "--epochs", 2]
    cifar = folder / "data/cifar"
    call("bench", "vtab", *shared, "--data", folder / "data", "--methods", "linear", "lora(r=2)",
         "--seeds", 2, "--out", folder / "suite")  # fmt: skip
    call("bench", "few-shot", *shared, "--data", cifar, "--shots", "1,2", "--methods", "linear",
         "--out", folder / "shots")  # fmt: skip
    call("ablate", *shared, "--data", cifar, "--method", "adaptformer(r=2)", "--over",
         "act=none|relu,lr=1e-3|1e-2", "--seeds", 2, "--out", folder / "ablation")  # fmt: skip
    call("train", *shared, "--data", cifar, "--method", "lora(r=2)", "--out", folder / "run")
    call("train", "--model", BERT, "--tokenizer", folder / "texts/vocab.txt", "--data",
         folder / "texts", "--columns", "text,score", "--task", "regression", "--method", "full",
         "--allow-overlap", "--epochs", 3, "--out", folder / "numbers")  # fmt: skip
    for name, more in (("search", []), ("random", ["--random"])):
        call("search", "--model", MODEL, "--data", cifar, "--space", SPACE, *SEARCH, *more, "--out",
             folder / name)  # fmt: skip
    pages = {
        "suites": (["suite", "shots", "ablation"], 5,
                   sum((suite_numbers(folder / s) for s in ("suite", "shots", "ablation")), [])),
        "runs": (["run", "numbers"], 7,
                 run_numbers(call, folder / "run", cifar, "val200") +
                 run_numbers(call, folder / "numbers", folder / "texts", "dev")),
        "searches": (["search", "random"], 4,
                     search_numbers(folder / "search") + search_numbers(folder / "random")),
    }  # fmt: skip
    for name, (inputs, _, _) in pages.items():
        call("bench", "report", *(folder / i for i in inputs), "--out", folder / f"{name}.html")
    profile = call("profile", "--model", MODEL, "--method", "lora(r=2)", "--batch-size", 4,
                   "--steps", 3, "--html", folder / "profile.html")  # fmt: skip
    pages["profile"] = ([], 1, [kind["ms"] for kind in profile["kinds"]])
    return pages


def opened(page, *options):
    """The page's elements after its scripts have run, and what they said on the console."""
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def numbers_of(text):
    return sorted(float(value) for value in re.findall(r'data-value="([^"]+)"', text))


def check(page, charts, numbers):
    """What is wrong with a page, a line each."""
    text = page.read_text()
    expected = text.count("<canvas")
    if expected < charts:
        yield f"{expected} charts, expected at least {charts}"
    there = set(numbers_of(text))
    lost = [n for n in numbers if n is not None and float(n) not in there]
    if lost:
        yield f"{len(lost)} of {len(numbers)} numbers of the files are not there: {lost[:5]}"
    if re.search(r'<(script|link|img)[^>]*(src|href)="(?!data:)', text):
        yield "loads something from elsewhere"
    for style in ((), ("--force-dark-mode",)):
        dom, console = opened(page, *style)
        drawn = len(re.findall(r"<canvas[^>]*style=\"[^\"]*display: block", dom))
        if drawn != expected:
            yield f"{style}: {drawn} of {expected} charts are drawn"
        yield from (f"{style}: {line}" for line in console)
        if numbers_of(dom) != numbers_of(text):
            yield f"{style}: the numbers of the page changed when it was opened"


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
    failed = 0
    for name, (_, charts, numbers) in make_pages(caller(args.graft), folder).items():
        problems = list(check(folder / f"{name}.html", charts, numbers))
        for problem in problems:
            print("FAIL", name, problem)
        print(f"{name}: {len(numbers)} numbers of the files, {len(problems)} problems")
        failed += len(problems)
    if not args.keep:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
