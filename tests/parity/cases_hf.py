"""Siblings of the cases in shared files: directories of transformers, tiny and random."""

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from cases import Case, randomise, read_hf, save_inputs

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_labels=5)
VIT = dict(**SIZES, intermediate_size=64, image_size=32, patch_size=8)
DINO = dict(**SIZES, image_size=28, patch_size=14, mlp_ratio=2)


def edit(file, change):
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def left_over(**tensors):
    return lambda s: {**s, **{k.replace("__", "."): v for k, v in tensors.items()}}


def change_query(suffix):
    site = "vit.encoder.layer.0.attention.attention.query"
    return lambda s: {k.replace(site, site + suffix): v for k, v in s.items()}


QUERY = "vit.encoder.layer.0.attention.attention.query"
LORA = {f"{QUERY}.lora_A.default.weight": torch.randn(2, 32),
        f"{QUERY}.lora_B.default.weight": torch.randn(32, 2)}

# Name, expectation, what a refusal must name, class, configuration, what is done to the tensors.
CASES = [
    ("vit", "equal", "", hf.ViTForImageClassification, hf.ViTConfig(**VIT), None),
    ("vit_quick_gelu", "equal", "", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT, hidden_act="quick_gelu"), None),
    ("vit_gelu_new", "equal", "", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT, hidden_act="gelu_new"), None),
    ("vit_relu", "equal", "", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT, hidden_act="relu"), None),
    ("vit_silu", "either", "hidden_act 'silu'", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT, hidden_act="silu"), None),
    ("vit_no_qkv_bias", "equal", "", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT, qkv_bias=False), None),
    ("vit_pooler", "equal", "", hf.ViTForImageClassification, hf.ViTConfig(**VIT), left_over(
        vit__pooler__dense__weight=torch.randn(32, 32), vit__pooler__dense__bias=torch.randn(32))),
    ("vit_mask_token", "equal", "", hf.ViTForImageClassification, hf.ViTConfig(**VIT),
     left_over(vit__embeddings__mask_token=torch.randn(1, 1, 32))),
    ("vit_backbone", "refuse", "head|classifier", hf.ViTModel, hf.ViTConfig(**VIT), None),
    ("vit_lora", "refuse", "lora_A", hf.ViTForImageClassification, hf.ViTConfig(**VIT),
     lambda s: {**s, **LORA}),
    ("vit_base_layer", "refuse", "base_layer|lora_A", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT), lambda s: {**change_query(".base_layer")(s), **LORA}),
    ("vit_unknown", "refuse", r"vit\.extra\.weight", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT), left_over(vit__extra__weight=torch.randn(32))),
    ("vit_layer_scale", "refuse", "layer_scale1|LayerScale", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT), left_over(vit__encoder__layer__0__layer_scale1__lambda1=torch.ones(32))),
    ("vit_module", "either", r"module\.|classifier|head", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT), lambda s: {"module." + k: v for k, v in s.items()}),
    ("vit_gap", "refuse", r"layer\.0|block 0|blocks\.0", hf.ViTForImageClassification,
     hf.ViTConfig(**VIT), lambda s: {k: v for k, v in s.items() if ".layer.0." not in k}),
    ("vit_more_blocks", "refuse", r"layer\.2|block 2|num_hidden_layers",
     hf.ViTForImageClassification, hf.ViTConfig(**VIT), lambda s: {
         **s, **{k.replace(".layer.1.", ".layer.2."): v + 1 for k, v in s.items()
                 if ".layer.1." in k}}),
    ("deit", "equal", "", hf.DeiTForImageClassification, hf.DeiTConfig(**VIT), None),
    ("deit_teacher", "equal", "", hf.DeiTForImageClassificationWithTeacher,
     hf.DeiTConfig(**VIT), None),
    ("dinov2", "equal", "", hf.Dinov2ForImageClassification, hf.Dinov2Config(**DINO), None),
    ("dinov2_swiglu", "equal", "", hf.Dinov2ForImageClassification,
     hf.Dinov2Config(**DINO, use_swiglu_ffn=True), None),
    ("dinov2_no_mask_token", "equal", "", hf.Dinov2ForImageClassification,
     hf.Dinov2Config(**DINO, use_mask_token=False), None),
    ("dinov2_no_qkv_bias", "equal", "", hf.Dinov2ForImageClassification,
     hf.Dinov2Config(**DINO, qkv_bias=False), None),
    ("dinov2_backbone", "refuse", "head|classifier", hf.Dinov2Model, hf.Dinov2Config(**DINO), None),
    ("dinov2_registers", "equal", "", hf.Dinov2WithRegistersForImageClassification,
     hf.Dinov2WithRegistersConfig(**DINO), None),
    ("dinov2_two_registers", "equal", "", hf.Dinov2WithRegistersForImageClassification,
     hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=2), None),
    ("dinov2_registers_swiglu", "equal", "", hf.Dinov2WithRegistersForImageClassification,
     hf.Dinov2WithRegistersConfig(**DINO, use_swiglu_ffn=True), None),
    ("dinov2_lora", "refuse", "lora_A", hf.Dinov2ForImageClassification, hf.Dinov2Config(**DINO),
     lambda s: {**s, "dinov2.encoder.layer.0.attention.attention.query.lora_A.default.weight":
                torch.randn(2, 32)}),
    ("beit", "refuse", "beit|BeitFor", hf.BeitForImageClassification,
     hf.BeitConfig(**VIT, out_indices=[0, 1]), None),
    ("msn", "refuse", "vit_msn|ViTMSN", hf.ViTMSNForImageClassification,
     hf.ViTMSNConfig(**VIT), None),
    ("bit", "refuse", "resnet|ResNet", hf.ResNetForImageClassification,
     hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=5), None),
]


def cases(folder):
    folder.mkdir(parents=True)
    for name, expect, cause, kind, config, change in CASES:
        torch.manual_seed(0)
        made, at = randomise(kind(config)), folder / name
        made.save_pretrained(at)
        if change:
            edit(at / "model.safetensors", change)
        file, x = save_inputs(folder, getattr(config, "image_size", 32))
        logits = None
        if expect != "refuse":
            with torch.no_grad():
                logits = made(pixel_values=x).logits.numpy()
        readers = {"hf": read_hf} if expect == "equal" else {}
        yield Case(
            f"hf_{name}", expect, at, [file], logits, cause, readers=readers, own="hf",
            refusers=() if name.endswith("backbone") else ("train", "export"),
        )
