"""Methods that peft has, on the tiny BERT in float64: the same numbers give the same logits."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import make_method_trajectories as tiny
import torch
from transformers import BertForSequenceClassification

from peft import (
    GloraConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)

SITES = {
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.output.dense": "attn.o",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
PROMPT = dict(
    task_type="SEQ_CLS", num_virtual_tokens=3, token_dim=24, num_layers=2, num_attention_heads=2
)
MODULES = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
# Method, config, and whether peft moves a text's positions where the method does not.
CASES = (
    ("lora(r=4,alpha=8,targets=attn.*|mlp.*)", LoraConfig(r=4, lora_alpha=8), False),
    (
        "lora(r=4,rslora=true,targets=attn.*|mlp.*)",
        LoraConfig(r=4, lora_alpha=4, use_rslora=True),
        False,
    ),
    ("prompt(tokens=3,pool=first)", PromptTuningConfig(**PROMPT), False),
    ("ptuning2(tokens=3,shift=true)", PrefixTuningConfig(**PROMPT), False),
    (
        "prefix(tokens=3,mlp=5)",
        PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=5, **PROMPT),
        True,
    ),
    ("glora(r=4)", GloraConfig(r=4, config_C="lora", config_D_E="vector"), False),
    (
        "glora(a=vector,b=vector,c=vector,d=constant,e=constant)",
        GloraConfig(config_A_B="vector", config_C="vector", config_D_E="constant"),
        False,
    ),
    (
        "glora(a=constant,b=constant,c=none,d=none,e=none)",
        GloraConfig(config_A_B="constant", config_C="none", config_D_E="none"),
        False,
    ),
)
PREFIX = {
    "embedding": "prefix.tokens",
    "transform.0": "prefix.down",
    "transform.2": "prefix.up",
}


def prompt_value(name, p):
    """Of peft's prompt_encoder."""
    if "prompt.tokens" in p:
        return p["prompt.tokens"]
    if "prefix.tokens" not in p:
        rows = [p[f"blocks.{n}.attn.ptuning2_{part}"] for n in range(2) for part in "kv"]
        return torch.cat(rows, 1)
    _, _, kind = name.rpartition(".")
    module = next(ours for theirs, ours in PREFIX.items() if theirs in name)
    return p[module if module == "prefix.tokens" else f"{module}.{kind}"]


def layer_value(name, p):
    """Of a module around a dense layer."""
    block, _, rest = name.partition(".layer.")[2].partition(".")
    module = next(theirs for theirs in SITES if rest.startswith(theirs))
    site, kind = f"blocks.{block}.{SITES[module]}", rest[len(module) + 1 :]
    if kind.startswith("lora_"):
        return p[f"{site}.lora_{kind[5].lower()}"]
    part, end = kind[6].lower(), kind.rpartition(".")[2]
    own = site[:-1] + "qkv" if module.startswith("attention.self") else site
    value = p[f"{own}.glora_{part}" + ("" if part in "de" else "_up" if end == "Xu" else "_down")]
    if own == site or part == "c" or end == "Xu" or value.numel() == 1:
        return value
    return value.chunk(3, 0)["qkv".index(site[-1])]  # of the three layers' rows


def logits(subject, config, p):
    model = BertForSequenceClassification.from_pretrained(
        tiny.HERE / "tiny_bert_hf", attn_implementation="eager"
    )
    if "num_virtual_tokens" not in vars(config):
        config.target_modules = MODULES
    model = get_peft_model(model, config).double().eval()
    for name, parameter in model.named_parameters():
        if "prompt_encoder" in name:
            parameter.data = prompt_value(name, p).clone()
        elif "lora_" in name or "glora_" in name:
            parameter.data = layer_value(name, p).reshape(parameter.shape).clone()
    return model(**subject.model.input).logits


def check(checks, subject):
    for text, config, shifts in CASES:
        p = subject.moved(text)
        theirs = logits(subject, config, p)
        if shifts:
            table = p["embed.position.weight"]
            p["embed.position.weight"] = torch.cat([table[3:], table[:3]])
        checks.close(subject.logits(p, text), theirs, f"{subject.name}, {text}: peft")
