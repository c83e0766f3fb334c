"""The cases that the makers in the shared folder write, and their siblings."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from cases import Case

# What a refusal of a shared case must name.
CAUSES = {
    "left_over_lora": "lora_A|lora_B",
    "left_over_ssf": "ssf_scale_1",
    "block_missing": r"blocks\.0|block 0",
    "class_token_and_fc_norm": "fc_norm",
    "prefix_backbone": r"backbone\.",
    "split_qkv": r"attn\.[qkv]",
}


def make(script, out, *words, path=()):
    """What the maker says of its cases; `path` is where it finds modules."""
    maker = pathlib.Path(os.environ["GRAFT_DATA"]) / "cases" / script
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [str(w) for w in (sys.executable, maker, out, *words)]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{maker}: exit {result.returncode}\n{result.stderr}")
    return json.loads((out / "cases.json").read_text())


def vit(args, out):
    made = make("make_vit_cases.py", out, path=[args.timm, pathlib.Path(__file__).parent])
    for name, expect in made.items():
        file = out / f"{name}.safetensors"
        picture = out / f"{name}.png"
        yield Case(
            f"shared_{name}",
            expect.split(",")[0],
            file if file.exists() else out / name,
            [picture if picture.exists() else out / f"{name}.x.npy"],
            np.load(out / f"{name}.y.npy"),
            CAUSES.get(name, name),
        )


def text(args, out):
    found = make("make_text_cases.py", out, args.minilm)
    found.pop("tables")
    for name, told in found.items():
        file = out / f"{name}.txt"
        rows = zip(told["texts"], told["second"]) if told["second"] else zip(told["texts"])
        file.write_text("".join("\t".join(row) + "\n" for row in rows))
        yield Case(
            f"shared_{name}",
            "equal",
            out / told["model"],
            [file],
            np.asarray(told["logits"], np.float32),
            options=["--max-length", told["max_length"]],
            own="hf",
        )


def all_cases(args):
    if args.timm:
        import cases_images
        import cases_npz
        import cases_timm

        yield from vit(args, args.out / "shared_vit")
        yield from cases_timm.cases(args.out / "timm")
        yield from cases_npz.cases(args.out / "npz")
        yield from cases_images.cases(args.out / "images")
    else:
        print("NOT AVAILABLE: timm (--timm DIR)")
    if args.minilm:
        yield from text(args, args.out / "shared_text")
    else:
        print("NOT AVAILABLE: MiniLM (--minilm DIR)")
    import cases_hf

    yield from cases_hf.cases(args.out / "hf")
