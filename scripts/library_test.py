#!/usr/bin/env python3
"""Installs a build, moves the installed files elsewhere, builds examples/finetune against them and
runs it. Prints a line for each test, "passed NAME" or "FAILED NAME: why", for run_tests.py.

usage: library_test.py BUILD
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "finetune"
LEARNT = 0.9  # accuracy; by chance it is a third


def run(*command, **kwargs):
    done = subprocess.run(
        [str(c) for c in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        **kwargs,
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{text}")
    return text


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Installed:
    """Each test stands on those before it, so they run in this order."""

    def __init__(self, build, work):
        self.build, self.work = build, work
        self.prefix = work / "first"
        self.output = ""

    def test_installs_twice(self):
        run("cmake", "--install", self.build, "--prefix", self.prefix)
        before = files_of(self.prefix)
        run("cmake", "--install", self.build, "--prefix", self.prefix)
        assert files_of(self.prefix) == before, "the second time gives other files"
        for name in ("include/graft/graft.h", "bin/graft"):
            assert name in before, f"{name} is not installed"

    def test_names_no_place_of_the_build(self):
        texts = {n: d for n, d in files_of(self.prefix).items() if n.endswith((".cmake", ".h"))}
        assert any(n.endswith("graftTargets.cmake") for n in texts), "there is no package"
        for name, data in texts.items():
            for place in (ROOT, self.build, self.prefix):
                assert str(place).encode() not in data, f"{name} names {place}"

    def test_headers_include_what_is_installed(self):
        headers = {n: d.decode() for n, d in files_of(self.prefix / "include").items()}
        assert "graft/graft.h" in headers, "graft/graft.h is not installed"
        wanted = {
            (name, include)
            for name, text in headers.items()
            for include in re.findall(r'#include "([^"]+)"', text)
        }
        missing = [f"{name}: {include}" for name, include in wanted if include not in headers]
        assert not missing, "\n".join(missing)
        others = "|".join(["CLI", "nlohmann", "hwy", "dnnl", "re2", "gtest"])
        for name, text in headers.items():
            found = re.search(rf"#include <({others})[/.].*", text)
            assert not found, f"{name}: {found and found[0]}"

    def test_builds_against_a_moved_prefix(self):
        moved = self.work / "moved" / "elsewhere"
        moved.parent.mkdir()
        self.prefix = self.prefix.rename(moved)
        compiler = re.search(
            r"^CMAKE_CXX_COMPILER:\w+=(.*)$", (self.build / "CMakeCache.txt").read_text(), re.M
        )
        # A copy, with folders of our names beside it: the library's headers must not find these.
        source = self.work / "source"
        shutil.copytree(EXAMPLE, source)
        for name in ("runtime/graph.h", "models/model.h", "data/preprocess.h"):
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text("#error not this one\n")
        run(
            *("cmake", "-G", "Ninja", "-S", source, "-B", self.work / "out"),
            f"-DCMAKE_PREFIX_PATH={self.prefix}",
            f"-DCMAKE_CXX_COMPILER={compiler[1]}",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror -I.",
        )
        run("cmake", "--build", self.work / "out")

    def test_example_learns_and_merges(self):
        model = self.work / "fused.safetensors"
        self.output = run(self.work / "out" / "finetune", "init:vit_nano_patch8_32", model)
        losses = [float(x) for x in re.findall(r"loss (\S+)", self.output)]
        assert len(losses) == 6 and losses[-1] < losses[0] / 3, self.output
        accuracy = [float(x) for x in re.findall(r"accuracy (\S+)", self.output)]
        assert len(accuracy) == 2 and min(accuracy) > LEARNT, self.output
        assert accuracy[0] == accuracy[1], self.output
        difference = float(re.search(r"differ by (\S+)", self.output)[1])
        assert 0 < difference <= 1e-5, self.output
        assert re.search(r"is (red|green|blue)$", self.output, re.M), self.output

    def test_command_reads_the_saved_model(self):
        told = run(
            self.prefix / "bin" / "graft", "inspect", self.work / "fused.safetensors", "--json"
        )
        assert '"classes":{"source":"tensor shapes","value":3}' in told and '"green"' in told, told

    def test_example_reports_errors(self):
        try:
            run(self.work / "out" / "finetune", "init:vit_nono_patch8_32")
        except AssertionError as error:
            assert "exit 1" in str(error) and "did you mean" in str(error), error
        else:
            raise AssertionError("an unknown architecture was taken")

    def test_readme_shows_the_example(self):
        code = (EXAMPLE / "main.cc").read_text()
        assert f"```cpp\n{code}```\n" in (ROOT / "README.md").read_text(), (
            "README.md differs from examples/finetune/main.cc"
        )


def main():
    build = Path(sys.argv[1]).resolve()
    failed = False
    with tempfile.TemporaryDirectory(prefix="graft-library-") as work:
        tests = Installed(build, Path(work))
        for name in [n for n in vars(Installed) if n.startswith("test_")]:
            try:
                getattr(tests, name)()
                print(f"passed {name}")
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                failed = True
                print(f"FAILED {name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
