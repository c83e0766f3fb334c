"""Siblings of the cases in shared files: the .npz of the original ViT, which timm reads."""

import numpy as np
import torch

from cases import Case, save_inputs
from cases_timm import model

HEADS, WIDTH = 4, 64


def original(tensors):
    """The arrays of the original ViT, from timm's tensors."""
    out = {}

    def put(name, key, shape=None):
        value = tensors[key].numpy()
        value = value.T if key.endswith("weight") and value.ndim == 2 else value
        out[name] = value if shape is None else value.reshape(shape)

    def norm(name, key):
        put(f"{name}/scale", f"{key}.weight")
        put(f"{name}/bias", f"{key}.bias")

    def dense(name, key):
        put(f"{name}/kernel", f"{key}.weight")
        put(f"{name}/bias", f"{key}.bias")

    out["cls"] = tensors["cls_token"].numpy()
    out["embedding/kernel"] = tensors["patch_embed.proj.weight"].permute(2, 3, 1, 0).numpy()
    out["embedding/bias"] = tensors["patch_embed.proj.bias"].numpy()
    out["Transformer/posembed_input/pos_embedding"] = tensors["pos_embed"].numpy()
    for n in range(4):
        block, ours = f"Transformer/encoderblock_{n}", f"blocks.{n}"
        norm(f"{block}/LayerNorm_0", f"{ours}.norm1")
        norm(f"{block}/LayerNorm_2", f"{ours}.norm2")
        attention = f"{block}/MultiHeadDotProductAttention_1"
        head = WIDTH // HEADS
        for i, part in enumerate(("query", "key", "value")):
            weight = tensors[f"{ours}.attn.qkv.weight"].chunk(3)[i].numpy()
            bias = tensors[f"{ours}.attn.qkv.bias"].chunk(3)[i].numpy()
            out[f"{attention}/{part}/kernel"] = weight.T.reshape(WIDTH, HEADS, head)
            out[f"{attention}/{part}/bias"] = bias.reshape(HEADS, head)
        put(f"{attention}/out/kernel", f"{ours}.attn.proj.weight", (HEADS, head, WIDTH))
        put(f"{attention}/out/bias", f"{ours}.attn.proj.bias")
        dense(f"{block}/MlpBlock_3/Dense_0", f"{ours}.mlp.fc1")
        dense(f"{block}/MlpBlock_3/Dense_1", f"{ours}.mlp.fc2")
    norm("Transformer/encoder_norm", "norm")
    dense("head", "head")
    return out


def array(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


BLOCK = "Transformer/encoderblock_1"
# Name, expectation, what a refusal must name, further arrays, arrays that are left out.
CASES = [
    ("plain", "equal", "", {}, ""),
    ("pre_logits", "refuse", "pre_logits", {
        "pre_logits/kernel": array(64, 64), "pre_logits/bias": array(64)}, ""),
    ("adapter", "refuse", "Adapter", {f"{BLOCK}/Adapter_0/kernel": array(64, 4)}, ""),
    ("lora", "refuse", "lora_a", {
        f"{BLOCK}/MultiHeadDotProductAttention_1/query/lora_a": array(64, 4)}, ""),
    ("optimizer", "equal", "", {
        "opt/state/step": np.array(7), "opt/state/param_states/cls/grad_ema": array(1, 1, 64)}, ""),
    ("block_missing", "refuse", "encoderblock_2|block 2", {}, "Transformer/encoderblock_2/"),
]


def read(folder, classes):
    """What timm makes of the .npz that graft wrote."""
    out = model(classes)
    out.load_pretrained(str(folder))
    return out.eval()


def cases(folder):
    folder.mkdir(parents=True)
    made = model()
    file, x = save_inputs(folder, 32)
    for name, expect, cause, more, left_out in CASES:
        arrays = original(made.state_dict())
        if name == "optimizer":
            arrays = {f"opt/target/{k}": v for k, v in arrays.items()}
        arrays |= more
        if left_out:
            arrays = {k: v for k, v in arrays.items() if not k.startswith(left_out)}
        at = folder / f"{name}.npz"
        np.savez(at, **arrays)
        logits = None
        if expect == "equal":
            with torch.no_grad():
                logits = read(at, 10)(x).numpy()
        readers = {"npz": read} if name == "plain" else {}
        yield Case(f"npz_{name}", expect, at, [file], logits, cause, readers=readers, own="npz")
