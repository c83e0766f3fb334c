#!/usr/bin/env python3
"""Sets a training step of every method beside LoRA's with as many trainable numbers: processes
alternate, and the table has the median of their ratios with the least and the largest, the ratio of
their work, and each step's share of the peak of this machine. What is finished is kept in OUT and
not measured again.

usage: steps_of_methods.py --graft BINARY --out OUT [--model NAME] [--batch-size N]
       [--methods REGEX] [--rounds N] [--steps N] [--threads N] [--dtype f32|bf16|int8]

LoRA is on q and v, from rank 33 on on all layers of the blocks instead; its rank is the nearest.
Exit 1 if a step takes more than 1.15 times LoRA's and more than 1.15 times what its work says.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys

from accuracy_of_methods import METHODS, call

MOST = 1.15


def profile(method, a):
    """What graft profile says of some steps."""
    words = ["--model", f"init:{a.model}", "--method", method, "--batch-size", a.batch_size]
    words += ["--steps", a.steps, "--threads", a.threads, "--dtype", a.dtype]
    told = call([a.graft, "profile", *words, "--json"])
    return {
        "ms": told["step_ms"],
        "flops": told["gflops"] * told["step_ms"] * 1e6,
        "peak": told["share_of_peak"],
        "trained": told["trainable_parameters"],
        "memory": told["planned_bytes"],
    }


def lora_like(trained, ranks):
    """The LoRA that trains about as many numbers, the head included; `ranks`: of a rank of each."""
    (text, head, each), (wide, _, more) = ranks
    rank = max(1, round((trained - head) / each))
    return text.format(rank) if rank <= 32 else wide.format(max(1, round((trained - head) / more)))


def rank_sizes(a):
    """[(LoRA as text, numbers of the head, numbers of a rank)] on q and v, and on all layers."""
    sizes = []
    for text in ("lora(r={})", "lora(r={},targets=attn.*|mlp.*)"):
        one, two = (profile(text.format(r), a)["trained"] for r in (1, 2))
        sizes.append((text, 2 * one - two, two - one))
    return sizes


def measure(method, a, ranks):
    """{"lora", "rounds": [{"method", "lora"}]}, from OUT if it is there."""
    words = f"{a.model} {method} {a.batch_size} {a.threads} {a.dtype}"
    file = pathlib.Path(a.out) / (re.sub(r"[^a-z0-9]+", "_", words).strip("_") + ".json")
    if not file.exists():
        rounds = []
        lora = lora_like(profile(method, a)["trained"], ranks())
        for i in range(a.rounds):
            sides = {"method": method, "lora": lora}
            order = list(sides) if i % 2 == 0 else list(sides)[::-1]
            told = {side: profile(sides[side], a) for side in order}
            rounds.append(told)
        fresh = file.with_suffix(".tmp")
        fresh.write_text(json.dumps({"lora": lora, "rounds": rounds}))
        fresh.rename(file)
    return json.loads(file.read_text())


def row(method, told):
    """The table's line, and whether the step is as quick as its work lets it be."""
    rounds = told["rounds"]
    ratios = [r["method"]["ms"] / r["lora"]["ms"] for r in rounds]
    ratio, of, lora = statistics.median(ratios), rounds[0]["method"], rounds[0]["lora"]
    work = of["flops"] / lora["flops"]
    quick = ratio <= MOST * max(1, work)
    peaks = [statistics.median(r[side]["peak"] for r in rounds) for side in ("method", "lora")]
    text = told["lora"].replace("|", "\\|")
    return (
        f"| `{method}` | {of['trained']:,} | `{text}` | {ratio:.2f} ({min(ratios):.2f} .. "
        f"{max(ratios):.2f}) | {work:.2f} | {100 * peaks[0]:.0f}, {100 * peaks[1]:.0f} "
        f"| {of['memory'] >> 20}, {lora['memory'] >> 20} | {'yes' if quick else 'NO'} |",
        quick,
    )


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--model", default="deit_tiny_patch16_224")
    p.add_argument("--batch-size", default="16")
    p.add_argument("--methods", default="")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", default="5")
    p.add_argument("--threads", default="2")
    p.add_argument("--dtype", choices=("f32", "bf16", "int8"), default="f32")
    a = p.parse_args()
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    known = []

    def ranks():
        known[:] = known or rank_sizes(a)
        return known

    print("| method | trains | LoRA | step, of LoRA's | work | of peak, % | MiB planned | quick |")
    print("|---" * 8 + "|")
    good = True
    for method in METHODS:
        if "calibration" in method or not re.search(a.methods, method):
            continue  # calibration changes no step
        line, quick = row(method, measure(method, a, ranks))
        print(line, flush=True)
        good = good and quick
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
