"""The reference BERT in PyTorch: a function of a dictionary of tensors under Graft's canonical
names, on padded batches with their mask. Any dtype; no state. transformers agrees to 1e-14 in
float64 (selftest_methods.py)."""

import json
import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import torch_vit
from encoder import Pass


@dataclass
class BertConfig:
    depth: int
    heads: int
    eps: float
    activation: str = "gelu"
    pool: str = "pooler"  # "pooler"; "cls": the first row; "mean": of the text's rows


# Canonical and transformers' sites; N is a block's number.
TRANSFORMERS = (
    ("embed.word", "bert.embeddings.word_embeddings"),
    ("embed.position", "bert.embeddings.position_embeddings"),
    ("embed.type", "bert.embeddings.token_type_embeddings"),
    ("embed.norm", "bert.embeddings.LayerNorm"),
    ("blocks.N.attn.q", "bert.encoder.layer.N.attention.self.query"),
    ("blocks.N.attn.k", "bert.encoder.layer.N.attention.self.key"),
    ("blocks.N.attn.v", "bert.encoder.layer.N.attention.self.value"),
    ("blocks.N.attn.o", "bert.encoder.layer.N.attention.output.dense"),
    ("blocks.N.norm1", "bert.encoder.layer.N.attention.output.LayerNorm"),
    ("blocks.N.mlp.fc1", "bert.encoder.layer.N.intermediate.dense"),
    ("blocks.N.mlp.fc2", "bert.encoder.layer.N.output.dense"),
    ("blocks.N.norm2", "bert.encoder.layer.N.output.LayerNorm"),
    ("pooler", "bert.pooler.dense"),
    ("head", "classifier"),
)
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


def names(config):
    """The canonical names of the parameters."""
    tables = {f"embed.{table}.weight" for table in ("word", "position", "type")}
    unused = {"pooler.weight"} if config.pool != "pooler" else set()
    sites = [ours for ours, _ in TRANSFORMERS if f"{ours}.weight" not in tables | unused]
    return torch_vit.expand(sites, config.depth) | tables


def facts(told, pool="pooler"):
    """From a directory's config.json."""
    return BertConfig(
        told["num_hidden_layers"],
        told["num_attention_heads"],
        float(told.get("layer_norm_eps", 1e-12)),
        told.get("hidden_act", "gelu"),
        pool or "pooler",
    )


def load_model(folder):
    """(parameters without those of a masked-LM head, BertConfig) of a Hugging Face directory."""
    raw, _ = torch_vit.load(os.path.join(folder, "model.safetensors"))
    raw = {k: v for k, v in raw.items() if not k.startswith("cls.") and "position_ids" not in k}
    if not any(k.startswith("bert.") for k in raw):  # an encoder alone
        raw = {f"bert.{k}": v for k, v in raw.items()}
    with open(os.path.join(folder, "config.json")) as f:
        told = json.load(f)
    return torch_vit.rename(raw, [(b, a) for a, b in TRANSFORMERS]), facts(told)


def forward(params, batch, config, method=None, masks=None, record=None):
    """Logits [texts, classes] of {"input_ids", "token_type_ids", "attention_mask"}; `method`, masks
    and record as in torch_vit.forward."""
    run = Pass(params, config, method, masks, record)
    run.present, act = batch["attention_mask"].bool(), ACTIVATIONS[config.activation]
    run.types, run.shift = batch["token_type_ids"], 0
    words = run.call("words", params["embed.word.weight"][batch["input_ids"]])
    front = run.types.new_zeros(len(words), words.shape[1] - run.types.shape[1])
    types = torch.cat([front, run.types], 1)
    positions = torch.arange(words.shape[1]) + run.shift
    x = words + params["embed.type.weight"][types] + params["embed.position.weight"][positions]
    x = run.call("embedded", run.norm("embed.norm", x))
    for n in range(config.depth):
        run.edges = {}
        h0 = run.edge(n, "h0", x)
        c = run.edge(n, "c", run.attention(n, h0))
        o = run.edge(n, "o", run.dense(f"blocks.{n}.attn.o", c))
        o = run.edge(n, "o_dropped", o)
        h1 = run.edge(n, "h1", run.norm(f"blocks.{n}.norm1", h0 + o))
        u = run.edge(n, "u_dropped", run.mlp(n, h1, act))
        x = run.edge(n, "h2", run.norm(f"blocks.{n}.norm2", h1 + u))
    if config.pool == "mean":
        weight = run.present.to(x.dtype)[:, :, None].clone()
        weight[:, : run.first] = 0  # rows in front of the class token
        pooled = (x * weight).sum(1) / weight.sum(1)
    else:
        pooled = x[:, run.first]
    if config.pool == "pooler":
        pooled = torch.tanh(run.dense("pooler", pooled))
    run.note("pooled", pooled)
    return run.call("logits", F.linear(pooled, params["head.weight"], params["head.bias"]))
