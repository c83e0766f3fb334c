#!/usr/bin/env python3
"""Checks that includes go one way:

    runtime <- ops <- autograd <- models, peft <- adapters <- train <- suites, search <- tools
    runtime <- data <- adapters

models and peft are siblings: neither includes the other; so are suites and search. data knows the
runtime only. Inside of models, text knows no model and the models know no files. Library headers
stay where one wrapper hides them. tests, bench and fuzz may include everything.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAY_INCLUDE = {
    "runtime": {"runtime"},
    "ops": {"ops", "runtime"},
    "autograd": {"autograd", "ops", "runtime"},
    "models": {"models", "autograd", "ops", "runtime"},
    "peft": {"peft", "autograd", "ops", "runtime"},
    "data": {"data", "runtime"},
    "adapters": {"adapters", "data", "peft", "models", "autograd", "ops", "runtime"},
    "train": {"train", "adapters", "data", "peft", "models", "autograd", "ops", "runtime"},
    "graft": {"train", "adapters", "data", "peft", "models", "autograd", "ops", "runtime"},
}
MAY_INCLUDE["suites"] = MAY_INCLUDE["train"] | {"suites"}
MAY_INCLUDE["search"] = MAY_INCLUDE["train"] | {"search"}
MAY_INCLUDE["tools"] = MAY_INCLUDE["suites"] | {"search", "tools"}
# Inside of a room: (files, headers that these do not include).
NOT_INSIDE = [
    (r"models/text/[^/]+", r"models/(?!text/).*"),
    (r"models/[^/]+", r"models/(files|text)/.*"),
    (r"runtime/io/[^/]+", r"runtime/(session|rewrite|passes|fold|interpret|graph)\.h"),
]
ANY = set(MAY_INCLUDE) | {"tests", "bench", "fuzz"}
# Headers of libraries -> the only files that include them (prefixes of paths).
ONLY_IN = [
    (r"(oneapi/.*)?dnnl.*", ["ops/onednn_gemm.cc"]),
    (r"hwy/.*", ["ops/", "tests/", "bench/"]),  # tests choose SIMD targets
    # oneDNN asks OpenMP how many threads it may use, so its wrapper has to tell OpenMP.
    (r"omp\.h", ["runtime/threads.", "runtime/affinity.cc", "ops/onednn_gemm.cc"]),
    (r"(jpeglib|jerror|spng|zlib)\.h", ["data/", "runtime/io/", "tests/", "fuzz/"]),
    (r"CLI/.*", ["tools/", "fuzz/"]),
    (r"Eigen/.*", ["train/symmetric_eigen.cc"]),
    (r"sqlite3\.h", ["suites/sqlite.cc"]),
    (r"re2/.*", ["adapters/hf/module_match.cc", "tests/matches_testing.h"]),
    (r"g(test|mock)/.*", ["tests/"]),
    (r"benchmark/.*", ["bench/"]),
]


def check(path):
    folder = path.split("/")[0]
    allowed = MAY_INCLUDE.get(folder, ANY)
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not found:
            continue
        quoted, header = found[1] == '"', found[2]
        for pattern, places in ONLY_IN:
            if re.fullmatch(pattern, header) and not any(path.startswith(p) for p in places):
                yield f"{path}:{number}: <{header}> belongs to {', '.join(places)} only"
        for files, headers in NOT_INSIDE:
            if re.fullmatch(files, path) and re.fullmatch(headers, header):
                yield f"{path}:{number}: must not include {header}"
        top = header.split("/")[0]
        if "/" in header and top in ANY:
            if top not in allowed:
                yield f"{path}:{number}: {folder} must not include {top} ({header})"
            elif not (ROOT / header).exists():
                yield f"{path}:{number}: there is no {header}"
        elif quoted and "/" not in header and not (header.endswith(".hpp")):
            yield f'{path}:{number}: "{header}": includes of ours start at the top folder'


def main():
    paths = sorted(
        str(p.relative_to(ROOT))
        for folder in ANY
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".cc", ".h")
    )
    wrong = [line for path in paths for line in check(path)]
    print("\n".join(wrong) if wrong else f"includes of {len(paths)} files go one way")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
