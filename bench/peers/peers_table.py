"""The table of a README: Graft in every precision beside the fastest peer of that precision.

usage: python peers_table.py README RESULT.json...     RESULT: what bench_peers.py --out has written

The lines between <!-- peers --> and <!-- /peers --> are replaced. A cell has Graft's milliseconds
and by how much it is faster than the fastest peer: the median over rounds of the ratio in a round.
"""

import json
import pathlib
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


def precision(side):
    return side.split(":")[1].removesuffix("-static")


def cell(case, dtype):
    """ "895 ms, 3.16 x PyTorch"; alone where no peer has the precision."""
    own = f"graft:{dtype}"
    if own not in case:
        return ""
    ms = case[own]["step_ms"]
    text = f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
    peers = [k for k in case if ":" in k and not k.startswith("graft:") and precision(k) == dtype]
    if not peers:
        return text
    best = min(peers, key=lambda peer: case[peer]["step_ms"])
    ratio = case["ratios"][f"{own} {best}"]["median"]
    return f"{text}, {ratio:.2f} x {ENGINES[best.split(':')[0]]}"


def table(results):
    """The markdown lines."""
    lines = ["| work | f32 | bf16 | int8 |", "|---|---|---|---|"]
    for case in (case for result in results for case in result["cases"]):
        name = f"{MODELS[case['model']]}, {TASKS[case['task']]}, batch {case['batch']}"
        cells = " | ".join(cell(case, dtype) for dtype in DTYPES)
        lines.append(f"| {name} | {cells} |")
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
