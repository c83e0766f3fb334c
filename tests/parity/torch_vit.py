"""The reference ViT in PyTorch: a function of a dictionary of tensors under Graft's canonical
names.

Canonical names are timm's with the fused qkv split in three: `blocks.N.attn.{q,k,v,o}`. Any dtype;
no state; the fixtures, the replay and the logit check all use this one forward pass, and check it
against timm and transformers.
"""

import json
import math
import os
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import safe_open

from encoder import Pass


@dataclass
class VitConfig:
    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    eps: float
    gelu: str = "erf"
    pool: str = "token"  # "token": the class token; "mean": the mean of the patch tokens


def load(path):
    """All tensors of a safetensors file, and its metadata."""
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}


def canonical(tensors):
    """Canonical names from timm's: splits qkv, renames proj to o and patch_embed.proj to
    patch_embed."""
    out = {}
    for name, value in tensors.items():
        name = re.sub(r"^patch_embed\.proj\.", "patch_embed.", name)
        name = name.replace("attn.proj.", "attn.o.")
        if re.search(r"attn\.qkv\.(weight|bias)$", name):
            for part, piece in zip("qkv", value.chunk(3, 0)):
                out[name.replace("attn.qkv.", f"attn.{part}.")] = piece.contiguous()
        else:
            out[name] = value
    return out


def to_timm(tensors):
    """The inverse of canonical()."""
    out = {}
    for name, value in tensors.items():
        if re.search(r"attn\.[kv]\.", name):
            continue
        if "attn.q." in name:
            parts = [tensors[name.replace("attn.q.", f"attn.{p}.")] for p in "qkv"]
            out[name.replace("attn.q.", "attn.qkv.")] = torch.cat(parts, 0)
        else:
            name = re.sub(r"^patch_embed\.", "patch_embed.proj.", name)
            out[name.replace("attn.o.", "attn.proj.")] = value
    return out


# Canonical and Hugging Face (ViTForImageClassification on disk) sites; N is a block's number.
HUGGING_FACE = (
    ("cls_token", "vit.embeddings.cls_token"),
    ("pos_embed", "vit.embeddings.position_embeddings"),
    ("patch_embed", "vit.embeddings.patch_embeddings.projection"),
    ("norm", "vit.layernorm"),
    ("head", "classifier"),
    ("blocks.N.norm1", "vit.encoder.layer.N.layernorm_before"),
    ("blocks.N.norm2", "vit.encoder.layer.N.layernorm_after"),
    ("blocks.N.attn.q", "vit.encoder.layer.N.attention.attention.query"),
    ("blocks.N.attn.k", "vit.encoder.layer.N.attention.attention.key"),
    ("blocks.N.attn.v", "vit.encoder.layer.N.attention.attention.value"),
    ("blocks.N.attn.o", "vit.encoder.layer.N.attention.output.dense"),
    ("blocks.N.mlp.fc1", "vit.encoder.layer.N.intermediate.dense"),
    ("blocks.N.mlp.fc2", "vit.encoder.layer.N.output.dense"),
)


def expand(sites, depth):
    """Names of weights and biases, from sites with N for a block's number."""
    every = {site.replace(".N.", f".{n}.") for site in sites for n in range(depth)}
    return {f"{site}.{kind}" for site in every for kind in ("weight", "bias")}


def names(config):
    """The canonical names of the parameters."""
    tables = {"cls_token", "pos_embed"}
    sites = [ours for ours, _ in HUGGING_FACE if ours not in tables]
    return expand(sites, config.depth) | tables


def rename(tensors, pairs):
    table, out = dict(pairs), {}
    for name, value in tensors.items():
        site, dot, kind = (
            name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
        )
        number = re.search(r"\.(\d+)\.", site)
        general = site.replace(number[0], ".N.", 1) if number else site
        out[table[general].replace(".N.", number[0] if number else ".N.") + dot + kind] = value
    return out


def to_hugging_face(tensors):
    return rename(tensors, HUGGING_FACE)


def hugging_face_facts(told):
    return {
        "heads": told["num_attention_heads"],
        "eps": told["layer_norm_eps"],
        "gelu": "erf" if told["hidden_act"] == "gelu" else "tanh",
    }


def load_model(path):
    """(parameters, VitConfig) of a timm-named safetensors file or of a Hugging Face folder."""
    if os.path.isdir(path):
        tensors, _ = load(os.path.join(path, "model.safetensors"))
        with open(os.path.join(path, "config.json")) as f:
            names = hugging_face_facts(json.load(f))
        params = rename(tensors, [(b, a) for a, b in HUGGING_FACE])
        return params, infer_config(params, names)
    tensors, metadata = load(path)
    params = canonical(tensors)
    return params, infer_config(params, metadata_config(metadata))


def infer_config(params, *sources):
    """Shapes from the tensors; heads, eps, GELU kind and pooling from the first source (a
    dictionary) that has them. Without: width / 64 heads, eps 1e-6, erf, class token, as timm's
    ViT."""
    width = params["norm.weight"].numel()
    patch = params["patch_embed.weight"]
    patch_size = patch.shape[-1] if patch.dim() == 4 else math.isqrt(patch.shape[1] // 3)
    tokens = params["pos_embed"].numel() // width - 1
    depth = 1 + max(int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", k) for k in params) if m)
    told = {"heads": max(1, width // 64), "eps": 1e-6, "gelu": "erf", "pool": "token"}
    for source in reversed(sources):
        told.update({k: source[k] for k in told if source.get(k) is not None})
    return VitConfig(
        math.isqrt(tokens) * patch_size,
        patch_size,
        width,
        depth,
        int(told["heads"]),
        float(told["eps"]),
        told["gelu"],
        told["pool"],
    )


def metadata_config(metadata):
    return json.loads(metadata.get("graft.config", "{}"))


def forward(params, images, config, method=None, masks=None, record=None):
    """Logits [batch, classes]. `method` (methods.compose) changes the pass; `masks[site]`
    multiplies what a method drops from, or a residual branch (drop path); `record(name, value)`
    receives the edges of blocks (methods/term.py), "x0" and "pooled" as [batch * tokens, features].
    """
    run, width = Pass(params, config, method, masks, record), config.width
    patch = params["patch_embed.weight"].reshape(width, 3, config.patch_size, config.patch_size)
    x = (
        F.conv2d(images, patch, params["patch_embed.bias"], stride=config.patch_size)
        .flatten(2)
        .transpose(1, 2)
    )
    x = run.call("output", "patch_embed", x)
    token = params["cls_token"].reshape(1, 1, width).expand(len(x), 1, width)
    x = torch.cat([token, x], 1) + params["pos_embed"].reshape(1, -1, width)
    run.note("x0", x)
    x = run.call("embedded", x)
    for n in range(config.depth):
        x = block(run, n, x)
    x = run.norm("norm", x)
    pooled = x[:, 1 + run.inserted :].mean(1) if config.pool == "mean" else x[:, run.first]
    run.note("pooled", pooled)
    return run.call("logits", F.linear(pooled, params["head.weight"], params["head.bias"]))


def block(run, n, x):
    site, tanh = f"blocks.{n}", run.config.gelu == "tanh"
    run.edges = {}
    x = run.edge(n, "x", x)
    a = run.edge(n, "a", run.norm(f"{site}.norm1", x))
    c = run.edge(n, "c", run.attention(n, a))
    o = run.edge(n, "o", run.dense(f"{site}.attn.o", c))
    x1 = run.edge(n, "x1", x + run.edge(n, "o_dropped", drop_path(run, f"{site}.drop_path1", o)))
    m = run.edge(n, "m", run.norm(f"{site}.norm2", x1))
    u = run.mlp(n, m, lambda h: F.gelu(h, approximate="tanh" if tanh else "none"))
    u = run.edge(n, "u_dropped", drop_path(run, f"{site}.drop_path2", u))
    return run.edge(n, "y", x1 + u)


def drop_path(run, site, branch):
    mask = run.masks.get(site)
    return branch if mask is None else branch * mask.reshape(len(branch), 1, 1)


def learning_rate(step, steps, base, schedule="cosine", warmup=0.1):
    """Linear warm-up over the first tenth, then to zero; per step, step counted from 0."""
    warm = max(1, math.floor(steps * warmup + 1e-9)) if warmup > 0 else 0
    if step < warm:
        return base * (step + 1) / warm
    if schedule == "constant":
        return base
    rest = max(1, steps - warm)
    if schedule == "linear":
        return base * max(0.0, (steps - step) / rest)
    return base * 0.5 * (1 + math.cos(math.pi * (step - warm) / rest))
