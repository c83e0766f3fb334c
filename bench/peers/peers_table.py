"""The table of a README: Graft in every precision beside the fastest peer of that precision.

usage: python peers_table.py README RESULT.json...     RESULT: what bench_peers.py, bench_texts.py
    or bench_probe.py --out has written

The lines between <!-- peers --> and <!-- /peers --> are replaced. A cell has Graft's milliseconds
and by how much it is faster than the fastest peer: the median over rounds of the ratio in a round.
Below stand the memory of steps and what it takes to compile one.
"""

import json
import pathlib
import statistics
import sys

BEGIN, END = "<!-- peers -->", "<!-- /peers -->"
ENGINES = {"torch": "PyTorch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
MODELS = {
    "vit_base_patch16_224": "ViT-B/16",
    "deit_tiny_patch16_224": "DeiT-Ti",
    "minilm_l6": "MiniLM, 128 tokens",
}
TASKS = {"lora": "LoRA step", "full": "full step", "infer": "inference"}
DTYPES = ("f32", "bf16", "int8")


def spread(ratios):
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def precision(side):
    return side.split(":")[1].removesuffix("-static")


def shown(side):
    """The figure of a side as its script shows it, or the milliseconds of a step."""
    ms = side.get("step_ms", 0)
    return side.get("shown") or (f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms")


def cell(case, dtype):
    """ "895 ms, 3.16 x PyTorch"; alone where no peer has the precision."""
    own = f"graft:{dtype}"
    if own not in case or (case.get("task") == "full" and dtype == "int8"):  # what trains never is
        return ""
    ratios = {
        pair.split(" ")[1]: r["median"]
        for pair, r in case["ratios"].items()
        if pair.startswith(own + " ") and precision(pair.split(" ")[1]) == dtype
    }
    if not ratios:
        return shown(case[own])
    best = min(ratios, key=ratios.get)
    return f"{shown(case[own])}, {ratios[best]:.2f} x {ENGINES[best.split(':')[0]]}"


def name_of(case):
    if "name" in case:
        return case["name"]
    return f"{MODELS[case['model']]}, {TASKS[case['task']]}, batch {case['batch']}"


def memory_cell(case, dtype):
    """ "850 MB, 0.31 of PyTorch's": of the least peer in any precision"""
    own = case.get(f"graft:{dtype}")
    if own is None:
        return ""
    peers = [side["rss_bytes"] for name, side in case.items() if name.startswith("torch:")]
    told = f"{own['rss_bytes'] / 2**20:.0f} MB"
    return told + (f", {own['rss_bytes'] / min(peers):.2f} of PyTorch's" if peers else "")


def compile_cell(case, dtype):
    rounds = [r[f"graft:{dtype}"] for r in case["each_round"] if f"graft:{dtype}" in r]
    return f"{statistics.median(r['compile_ms'] for r in rounds):.0f} ms" if rounds else ""


def table(results):
    """The markdown lines."""
    cases = [case for result in results for case in result["cases"]]
    rows = [(name_of(case), cell, case) for case in cases]
    for case in (case for case in cases if case.get("task") == "lora" and "each_round" in case):
        if case["model"].startswith("vit_base"):
            rows.append((f"{name_of(case)}: memory", memory_cell, case))
            rows.append((f"{name_of(case)}: compilation", compile_cell, case))
    lines = ["| work | f32 | bf16 | int8 |", "|---|---|---|---|"]
    for name, told, case in rows:
        lines.append(f"| {name} | {' | '.join(told(case, dtype) for dtype in DTYPES)} |")
    return lines


def write_table(readme, results):
    """Raises SystemExit if the text has no place for the table."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{readme}: expected one '{BEGIN}' and one '{END}'")
    before, rest = text.split(BEGIN)
    fresh = "\n".join([before + BEGIN, *table(results), END + rest.split(END)[1]])
    readme.write_text(fresh)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    results = [json.loads(pathlib.Path(file).read_text()) for file in sys.argv[2:]]
    write_table(pathlib.Path(sys.argv[1]), results)
