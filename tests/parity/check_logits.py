"""Compares `graft predict --logits` with float64 PyTorch, timm and transformers on the same inputs.

usage: python check_logits.py --graft GRAFT --model FILE_OR_DIR
           [--images DIR] [--timm DIR] [--golden DIR]

Inputs: seeded random .npy, the two golden patterns (images of 224), and the pictures of --images
through --preprocess. Without --graft only the references are compared with each other. Exit 1 where
a difference is above --tolerance.
"""

import argparse
import functools
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from safetensors.torch import save_file

import torch_vit
import trace

DEIT = "resize=256,crop=224,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, help="the graft command")
    p.add_argument(
        "--model",
        type=pathlib.Path,
        required=True,
        help="a timm-named safetensors file or a Hugging Face folder",
    )
    p.add_argument("--images", type=pathlib.Path, help="a folder of pictures")
    p.add_argument(
        "--preprocess", default=DEIT, help="in full; passed to graft and followed by PIL here"
    )
    p.add_argument(
        "--timm", type=pathlib.Path, help="a folder with timm and torchvision, put on the path"
    )
    p.add_argument("--golden", type=pathlib.Path, help="a folder with golden_{sin,lcg}_logits.f32")
    p.add_argument("--count", type=int, default=4, help="random inputs")
    p.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference over largest logit"
    )
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def make_inputs(args, config, folder):
    """[(what, files for graft, normalised float64 batch)]"""
    size = config.image_size
    i = np.arange(3 * size * size, dtype=np.float64)
    arrays = {
        "random": np.random.default_rng(0).standard_normal((args.count, 3, size, size)),
        "sin": np.sin(0.01 * i).reshape(1, 3, size, size),
        "lcg": (i * 7919 % 1000 / 500 - 1).reshape(1, 3, size, size),
    }
    out = []
    for name, array in arrays.items():
        array = array.astype(np.float32)
        np.save(folder / f"{name}.npy", array)
        out.append((name, [folder / f"{name}.npy"], torch.from_numpy(array).double()))
    if args.images:
        files = sorted(
            f
            for f in args.images.iterdir()
            if f.suffix.lower() in (".jpg", ".jpeg", ".png", ".ppm")
        )
        transform = trace.preprocess_of(args.preprocess)
        pixels = torch.stack([trace.load_image(f, transform, size) for f in files])
        out.append(("pictures", files, trace.normalise(pixels, transform, torch.float32).double()))
    return out


def timm_model(params, config, folder):
    sys.path.insert(0, str(folder))
    import torchvision_shim  # noqa: F401  (before timm)
    from timm.models.vision_transformer import VisionTransformer

    width, classes = config.width, params["head.weight"].shape[0]
    norm = functools.partial(torch.nn.LayerNorm, eps=config.eps)
    model = VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=classes,
        norm_layer=norm,
        mlp_ratio=params["blocks.0.mlp.fc1.weight"].shape[0] / width,
    )
    model.load_state_dict(torch_vit.to_timm(params))
    return model.double().eval()


def transformers_model(params, config, folder):
    """Through the files that transformers reads, as its names in memory change between versions."""
    from transformers import ViTConfig, ViTForImageClassification

    told = ViTConfig(
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=params["blocks.0.mlp.fc1.weight"].shape[0],
        image_size=config.image_size,
        patch_size=config.patch_size,
        layer_norm_eps=config.eps,
        num_labels=params["head.weight"].shape[0],
        hidden_act="gelu" if config.gelu == "erf" else "gelu_pytorch_tanh",
    )
    told.architectures = ["ViTForImageClassification"]
    told.save_pretrained(folder)
    save_file(
        {k: v.contiguous() for k, v in torch_vit.to_hugging_face(params).items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    # Its eager attention rounds the probabilities to float32.
    return (
        ViTForImageClassification.from_pretrained(folder, attn_implementation="sdpa")
        .double()
        .eval()
    )


def make_references(args, params, config, folder):
    exact = {k: v.double() for k, v in params.items()}
    out = {"PyTorch": lambda x: torch_vit.forward(exact, x, config)}
    if args.timm and config.gelu == "erf":
        timm = timm_model(params, config, args.timm)
        out["timm"] = timm
    hugging = transformers_model(params, config, folder)
    out["transformers"] = lambda x: hugging(pixel_values=x).logits
    return out


def graft_logits(args, files, folder):
    command = [
        args.graft,
        "predict",
        "--model",
        args.model,
        "--logits",
        folder / "out.npy",
        "--force",
        "--threads",
        str(args.threads),
    ]
    if files[0].suffix != ".npy":
        command += ["--preprocess", args.preprocess]
    result = subprocess.run([*command, *files], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"graft predict: exit {result.returncode}\n{result.stderr}")
    return torch.from_numpy(np.load(folder / "out.npy")).double()


def main():
    args, good = parse(), True
    torch.set_num_threads(args.threads)
    params, config = torch_vit.load_model(args.model)
    print(
        "| inputs | n | measured | against | largest difference | over largest logit "
        "| top-1 equal | good |"
    )
    print("|---|---|---|---|---|---|---|---|")

    def compare(what, name, value, against, reference, tolerance):
        nonlocal good
        same_shape = value.shape == reference.shape
        difference = (value - reference).abs().max().item() if same_shape else float("nan")
        relative = difference / reference.abs().max().item()
        top = (
            (value.argmax(-1) == reference.argmax(-1)).double().mean().item() if same_shape else 0.0
        )
        fine = relative <= tolerance
        good = good and fine
        verdict = "yes" if fine else "NO" if same_shape else f"NO: shape {tuple(value.shape)}"
        print(
            f"| {what} | {len(reference)} | {name} | {against} | {difference:.1e} | "
            f"{relative:.1e} | {top:.0%} | {verdict} |",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        scratch = pathlib.Path(scratch)
        references = make_references(args, params, config, scratch / "hf")
        for what, files, batch in make_inputs(args, config, scratch):
            values = {name: model(batch) for name, model in references.items()}
            for name in list(values)[1:]:
                compare(what, name, values[name], "PyTorch", values["PyTorch"], 1e-10)
            if args.golden and what in ("sin", "lcg"):
                golden = torch.from_numpy(
                    np.fromfile(args.golden / f"golden_{what}_logits.f32", "<f4")
                ).double()
                compare(what, "golden file", golden[None], "PyTorch", values["PyTorch"], 1e-6)
            if args.graft:
                measured = graft_logits(args, files, scratch)
                for name, value in values.items():
                    compare(what, "graft", measured, name, value, args.tolerance)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
