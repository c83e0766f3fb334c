#!/usr/bin/env python3
"""Writes what the texts say of methods from the methods' own records.

usage: method_pages.py [--build FOLDER] [--check]

Between <!-- KIND --> and <!-- /KIND --> stands what `graft inspect --methods --json` says: in
docs/methods/NAME.md the facts, options and a command of the method, in docs/methods/README.md,
README.md and docs/cli.md a line for each. The words around them are written by hand; a method
without a page gets one that is nothing but those parts. With --check nothing is written, and what
is missing, stale or about a method that is gone is said; exit code 1 then.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs/methods"
BASE = "init:vit_base_patch16_224"


def read_methods(build):
    def asked(*more):
        command = [build / "graft", "inspect", "--methods", "--json", "--quiet", *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)["methods"]

    methods = asked()
    for method, large in zip(methods, asked("--model", BASE)):
        method["trainable_base"] = large["trainable"]
    return methods


def cell(text):
    return str(text).replace("|", "\\|")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cell(c) for c in row) + " |" for row in rows])


def code(text):
    return f"`{text}`"


def base_count(m):
    return "-" if m["trainable_base"] is None else f"{m['trainable_base']:,}"


def default_term(m):
    given = [f"{o['name']}={o['default']}" for o in m["options"]]
    return f"{m['name']}({','.join(given)})" if given else m["name"]


def rates(by_kind):
    images, texts = by_kind["images"], by_kind["texts"]
    return f"{texts:g}" if images == texts else f"{images:g} for images, {texts:g} for texts"


def facts(m):
    rows = [
        ("equation", code(m["equation"])),
        ("attaches to", ", ".join(code(s) for s in m["sites"]) or "-"),
        ("trains", m["count"]),
        ("in ViT-B/16, without the head", base_count(m)),
        ("folds", f"{m['folds']}: {m['why']}"),
        ("default rate", rates(m["learning_rates"])),
        ("source", m["source"]),
    ]
    if m["reduced"]:
        rows.insert(5, ("after training", code(m["reduced"])))
    if m["peft"]:
        rows.insert(-1, ("in Hugging Face peft", m["peft"]))
    return table(("", ""), rows)


def options(m):
    rows = [(code(o["name"]), code(o["default"]), o["help"]) for o in m["options"]]
    if all(o["name"] != "head" for o in m["options"]):
        rows.append((code("head"), code("trained"), "or frozen: the head stays as it is"))
    return table(("option", "default", ""), rows)


def command(m):
    return "```\n" + "\n".join(m["recipe"]) + "\n```"


def graph(m):
    if m["problem"]:
        return f"By default there is none: {m['problem']}."
    if not m["change"]:
        return "No node changes." + (" Values of weights do." if m["edits"] else "")
    return f"```\n{m['change'].rstrip()}\n```"


def index(methods, folder):
    rows = [
        (
            f"[`{m['name']}`]({folder}{m['name']}.md)",
            m["summary"],
            m["count"],
            base_count(m),
            m["folds"],
        )
        for m in methods
    ]
    return table(("method", "what it is", "trains", "in ViT-B/16", "folds"), rows)


def readme(methods):
    rows = [
        (f"[`{m['name']}`](docs/methods/{m['name']}.md)", m["summary"], base_count(m))
        for m in methods
    ]
    return table(("method", "what it is", "trainable in ViT-B/16, without the head"), rows)


def terms(methods):
    return "\n".join(f"    {default_term(m)}" for m in methods)


def filled(text, parts, where, wrong):
    """The text with its marked parts as they ought to be."""
    for kind, content in parts.items():
        pattern = re.compile(rf"(<!-- {kind} -->\n).*?(\n?<!-- /{kind} -->)", re.S)
        if not pattern.search(text):
            wrong.append(f"{where}: no <!-- {kind} --> ... <!-- /{kind} -->")
            continue
        text = pattern.sub(lambda found: f"{found[1]}{content}\n<!-- /{kind} -->", text, count=1)
    return text


def empty_page(m):
    titles = {"facts": "", "options": "Options", "graph": "The graph", "command": "A run"}
    parts = [
        (f"## {title}\n\n" if title else "") + f"<!-- {kind} -->\n<!-- /{kind} -->"
        for kind, title in titles.items()
    ]
    return "\n\n".join([f"# {m['name']}: {m['summary']}", *parts]) + "\n"


def update(path, parts, check, wrong, fresh=""):
    where = path.relative_to(ROOT)
    before = path.read_text() if path.exists() else ""
    if not before and (check or not fresh):
        wrong.append(f"{where}: is missing")
        return
    after = filled(before or fresh, parts, where, wrong)
    if after == before:
        return
    if check:
        wrong.append(f"{where}: is stale")
    else:
        path.write_text(after)
        print(f"{where}: written")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not (args.build / "graft").exists():
        print(f"{args.build}/graft is not built")
        return 1
    methods = read_methods(args.build.resolve())
    wrong = []
    if not args.check:
        PAGES.mkdir(exist_ok=True)
    for m in methods:
        parts = {"facts": facts(m), "options": options(m), "graph": graph(m), "command": command(m)}
        update(PAGES / f"{m['name']}.md", parts, args.check, wrong, empty_page(m))
    update(PAGES / "README.md", {"methods": index(methods, "")}, args.check, wrong)
    update(ROOT / "README.md", {"methods": readme(methods)}, args.check, wrong)
    update(ROOT / "docs/cli.md", {"methods": terms(methods)}, args.check, wrong)
    known = {m["name"] for m in methods} | {"README"}
    wrong += [f"docs/methods/{p.name}: no such method" for p in sorted(PAGES.glob("*.md"))
              if p.stem not in known]
    print("\n".join(wrong) if wrong else f"the texts about {len(methods)} methods are up to date")
    if wrong and args.check:
        print("hint: scripts/method_pages.py writes them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
