"""Compares methods/ with the library `adapters` (1.3, with transformers 4.57) on the tiny models:
the same numbers in its modules give the same logits in float64.

usage: python check_adapters.py        (an environment with torch, safetensors and adapters)
"""

import pathlib
import re
import sys

import adapters
import torch
from adapters import (
    ConfigUnion,
    DoubleSeqBnConfig,
    LoRAConfig,
    ParBnConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    SeqBnConfig,
)
from transformers import BertForSequenceClassification, ViTForImageClassification

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))
import make_method_trajectories as tiny
import selftest_methods as selftest

FLAT = PrefixTuningConfig(flat=True, prefix_length=3)
CASES = (
    ("houlsby(r=4)", DoubleSeqBnConfig(reduction_factor=6, non_linearity="gelu")),
    ("houlsby(r=4,act=relu)", DoubleSeqBnConfig(reduction_factor=6, non_linearity="relu")),
    ("pfeiffer(r=4,act=relu)", SeqBnConfig(reduction_factor=6, non_linearity="relu")),
    ("pfeiffer(r=4,act=gelu)", SeqBnConfig(reduction_factor=6, non_linearity="gelu")),
    ("parallel(r=4,scale=2)", ParBnConfig(reduction_factor=6, scaling=2.0)),
    ("adaptformer(r=4)", ParBnConfig(reduction_factor=6, scaling=0.1)),
    ("prefix(tokens=3,mlp=0)", FLAT),
    ("ptuning2(tokens=3)", FLAT),
    ("prefix(tokens=3,mlp=5)", PrefixTuningConfig(prefix_length=3, bottleneck_size=5)),
    ("mam(tokens=3,r=4)", ConfigUnion(FLAT, ParBnConfig(reduction_factor=6, scaling=2.0))),
    ("lora(r=4,alpha=8)", LoRAConfig(r=4, alpha=8)),
    ("vpt(tokens=3)", PromptTuningConfig(prompt_length=3, combine="prefix_after_bos")),
)
# Ends of the library's names, and of ours behind "blocks.N.".
ENDS = (
    (r"attention(\.output|_adapters)\..*adapter_down\.0\.weight", "attn.{0}_down"),
    (r"attention(\.output|_adapters)\..*adapter_down\.0\.bias", "attn.{0}_down_bias"),
    (r"attention(\.output|_adapters)\..*adapter_up\.weight", "attn.{0}_up"),
    (r"attention(\.output|_adapters)\..*adapter_up\.bias", "attn.{0}_up_bias"),
    (r"output(_adapters)?\..*adapter_down\.0\.weight", "mlp.{0}_down"),
    (r"output(_adapters)?\..*adapter_down\.0\.bias", "mlp.{0}_down_bias"),
    (r"output(_adapters)?\..*adapter_up\.weight", "mlp.{0}_up"),
    (r"output(_adapters)?\..*adapter_up\.bias", "mlp.{0}_up_bias"),
    (r"query\..*lora_A", "attn.q.lora_a"),
    (r"query\..*lora_B", "attn.q.lora_b"),
    (r"value\..*lora_A", "attn.v.lora_a"),
    (r"value\..*lora_B", "attn.v.lora_b"),
)
PREFIX = {
    "wte.weight": "prefix.tokens",
    "control_trans.0.weight": "prefix.down.weight",
    "control_trans.0.bias": "prefix.down.bias",
    "control_trans.2.weight": "prefix.up.weight",
    "control_trans.2.bias": "prefix.up.bias",
    "prompt_embedding.weight": "blocks.0.prompt",
}


def value(name, p, method):
    """What the library's parameter gets; ViT's and BERT's modules have names alike."""
    for end, ours in PREFIX.items():
        if name.endswith(end):
            return p[ours]
    if name.endswith("control_trans"):  # [P, 2L, H, d] in one row: block by block, K then V
        kind = "ptuning2" if method.startswith("ptuning2") else "prefix"
        rows = [p[f"blocks.{n}.attn.{kind}_{part}"] for n in range(2) for part in "kv"]
        return torch.stack(rows, 1).flatten()
    block = re.search(r"\.layer\.(\d+)\.", name)[1]
    kind = "parallel" if method.startswith("mam") else method.partition("(")[0]
    for pattern, ours in ENDS:
        if re.search(pattern, name):
            return p[f"blocks.{block}." + ours.format(kind)]
    raise SystemExit(f"no value for {name}")


def library(subject):
    if subject.name == "vit":
        kind, folder = ViTForImageClassification, "tiny_vit_hf"
    else:
        kind, folder = BertForSequenceClassification, "tiny_bert_hf"
    model = kind.from_pretrained(tiny.HERE / folder, attn_implementation="eager")
    adapters.init(model)
    return model


def logits(subject, text, config, p):
    model = library(subject)
    before = {name for name, _ in model.named_parameters()}
    model.add_adapter("probe", config)
    model.set_active_adapters("probe")
    model.double().eval()
    for name, parameter in model.named_parameters():
        if name not in before and "base_layer" not in name:
            parameter.data = value(name, p, text).reshape(parameter.shape).clone()
    inputs = subject.model.input
    inputs = {"pixel_values": inputs} if subject.name == "vit" else inputs
    return model(**inputs).logits


def main():
    torch.set_num_threads(1)
    checks = selftest.Checks()
    with torch.no_grad():
        for subject in (selftest.Subject(tiny.TinyVit()), selftest.Subject(tiny.TinyBert())):
            for text, config in CASES:
                p = subject.moved(text)
                theirs = logits(subject, text, config, p)
                what = f"{subject.name}, {text}: adapters {adapters.__version__}"
                checks.close(subject.logits(p, text), theirs, what, 1e-6)
    print(f"{checks.count} comparisons with adapters, {checks.failed} differ")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
