"""The cases that the makers in the shared folder write, and their siblings."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

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


LAYER = "bert.encoder.layer.0"
# Name, expectation, what a refusal must name, tensors beside those of a BERT or a prefix.
BERTS = [
    ("lora", "refuse", "lora_A", {f"{LAYER}.attention.self.query.lora_A.default.weight": (4, 32)}),
    ("adapter", "refuse", "adapters", {f"{LAYER}.output.adapters.a.adapter_up.weight": (32, 4)}),
    ("prompt", "refuse", "prompt_encoder", {"prompt_encoder.default.embedding.weight": (8, 32)}),
    ("relative", "refuse", "distance_embedding", {
        f"{LAYER}.attention.self.distance_embedding.weight": (127, 8)}),
    ("unknown", "refuse", r"bert\.extra", {"bert.extra.weight": (32,)}),
    ("decoder", "equal", "", {"cls.predictions.bias": (30530,)}),
    ("position_ids", "equal", "", {"bert.embeddings.position_ids": (1, 512)}),
    ("module", "either", r"module\.", "module."),
]


def berts(folder, source):
    """The model of a shared case with tensors beside its own."""
    for name, expect, cause, more in BERTS:
        at = folder / name
        shutil.copytree(source.model, at)
        tensors = load_file(at / "model.safetensors")
        if isinstance(more, str):
            tensors = {more + k: v for k, v in tensors.items()}
        else:
            tensors |= {k: torch.randn(shape) for k, shape in more.items()}
        save_file(tensors, at / "model.safetensors", metadata={"format": "pt"})
        yield dataclasses.replace(
            source, name=f"bert_{name}", expect=expect, model=at, cause=cause
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
        shared = list(text(args, args.out / "shared_text"))
        yield from shared
        source = next(case for case in shared if case.name == "shared_labels_mixed")
        yield from berts(args.out / "bert", source)
    else:
        print("NOT AVAILABLE: MiniLM (--minilm DIR)")
    import cases_hf

    yield from cases_hf.cases(args.out / "hf")
