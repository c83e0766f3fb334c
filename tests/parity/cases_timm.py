"""Siblings of the cases in shared files: vision transformers of timm, tiny and random, in the forms
and wrappings that people have."""

import functools
import re


import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLU, SwiGLUPacked
from timm.models import save_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from cases import Case, randomise, read_hf, save_inputs

BASE = dict(img_size=32, patch_size=4, embed_dim=64, depth=4, num_heads=4, num_classes=10)
# What shapes that have no name do not tell.
TOLD = ["--arch", "vit(heads=4,eps=1e-6,gelu=erf)"]
TOLD_SWIGLU = ["--arch", "vit(heads=4,eps=1e-6,gelu=swiglu)"]
DINO = dict(img_size=28, patch_size=14, init_values=1e-5)
REGISTERS = dict(**DINO, reg_tokens=4, no_embed_class=True)
CLIP = dict(
    pre_norm=True,
    norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-5),
    act_layer="quick_gelu",
)
AVERAGE = dict(global_pool="avg")
SWIGLU = dict(mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=2)


def model(classes=None, kind=VisionTransformer, **told):
    told = {**BASE, **told}
    if classes is not None:
        told["num_classes"] = classes
    torch.manual_seed(0)
    return randomise(kind(**told))


def read(config, folder, classes):
    """The library's model of what graft has written: all of its tensors and no other."""
    out = model(classes, **config)
    file = folder / "model.safetensors" if folder.is_dir() else folder
    out.load_state_dict(load_file(file), strict=True)
    return out.eval()


def save(tensors, file, metadata=None):
    tensors = {k: v.contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, file, metadata=metadata or {"format": "pt"})


# Name, expectation, what a refusal must name, configuration of timm, more words for graft.
FORMS = [
    ("plain", "equal", "", {}, []),
    ("distilled", "equal", "", dict(kind=VisionTransformerDistilled), []),
    ("deit3", "equal", "", dict(no_embed_class=True, init_values=1e-6), []),
    ("layer_scale", "equal", "", dict(init_values=1e-5), []),
    ("dinov2", "equal", "", DINO, TOLD),
    ("dinov2_untold", "either", "heads", DINO, []),
    ("dinov2_registers", "equal", "", REGISTERS, TOLD),
    ("dinov2_swiglu", "equal", "", {**DINO, **SWIGLU}, TOLD_SWIGLU),
    ("dinov2_registers_swiglu", "equal", "", {**REGISTERS, **SWIGLU}, TOLD_SWIGLU),
    ("dinov2_average", "either", "fc_norm", {**DINO, **AVERAGE}, TOLD),
    ("registers_with_positions", "equal", "", dict(reg_tokens=3), []),
    ("swiglu_norm", "either", "mlp.norm", {**SWIGLU, "scale_mlp_norm": True},
     TOLD_SWIGLU),
    ("swiglu_split", "either", r"mlp\.fc1", {**SWIGLU, "mlp_layer": SwiGLU}, []),
    ("clip", "equal", "", CLIP, ["--arch", "vit(gelu=quick,eps=1e-5)"]),
    ("clip_erf", "equal", "", dict(pre_norm=True), []),
    ("qk_norm", "equal", "", dict(qk_norm=True), []),
    ("qk_norm_layer_scale", "equal", "", dict(qk_norm=True, init_values=0.1), []),
    ("attn_norm", "either", "attn.norm", dict(scale_attn_norm=True), []),
    ("mlp_norm", "either", "mlp.norm", dict(scale_mlp_norm=True), []),
    ("qkv_no_bias", "equal", "", dict(qkv_bias=False), []),
    ("qkv_no_bias_layer_scale", "equal", "", dict(qkv_bias=False, init_values=0.1), []),
    ("proj_no_bias", "either", "proj.bias|o.bias", dict(proj_bias=False), []),
    ("average_fc_norm", "equal", "", AVERAGE, ["--arch", "vit(pool=mean_fc_norm)"]),
    ("average_fc_norm_untold", "either", "fc_norm", AVERAGE, []),
    ("average_norm", "equal", "", {**AVERAGE, "fc_norm": False}, ["--arch", "vit(pool=mean)"]),
    ("token_fc_norm", "either", "fc_norm", dict(fc_norm=True), []),
    ("no_class_token", "either", "cls_token", {**AVERAGE, "class_token": False}, []),
    ("no_final_norm", "either", "norm", dict(final_norm=False), []),
    ("no_positions", "either", "pos_embed", dict(pos_embed="none"), []),
    ("attention_pool", "refuse", "attn_pool", dict(global_pool="map"), []),
    ("patch_norm", "refuse", "patch_embed.norm", dict(embed_norm_layer=torch.nn.LayerNorm), []),
    ("narrow_mlp", "equal", "", dict(mlp_ratio=2), TOLD),
    ("eight_heads", "equal", "", dict(num_heads=8), ["--arch", "vit(heads=8)"]),
    ("tanh", "equal", "", dict(act_layer="gelu_tanh"), ["--arch", "vit(gelu=tanh)"]),
]


def forms(folder):
    for name, expect, cause, config, options in FORMS:
        made = model(**config)
        file, x = save_inputs(folder, config.get("img_size", BASE["img_size"]))
        save(made.state_dict(), folder / f"{name}.safetensors")
        with torch.no_grad():
            logits = made(x).numpy()
        readers = {"timm": functools.partial(read, config), "hf": read_hf}
        readers = {} if expect == "refuse" else readers
        yield Case(
            name, expect, folder / f"{name}.safetensors", [file], logits, cause, options, readers
        )


# Keys that adapters leave in a checkpoint, under the names that programs give them: its kind, the
# names, the shape of each.
LEFT_OVER = {
    "lora_AB": {"blocks.0.attn.qkv.lora_A": (4, 64), "blocks.0.attn.qkv.lora_B": (192, 4)},
    "lora_weight": {
        "blocks.1.attn.proj.lora_A.weight": (4, 64),
        "blocks.1.attn.proj.lora_B.weight": (64, 4),
    },
    "lora_default": {
        "blocks.1.mlp.fc2.lora_A.default.weight": (4, 256),
        "blocks.1.mlp.fc2.lora_B.default.weight": (64, 4),
    },
    "lora_lower": {"blocks.0.attn.q.lora_a": (4, 64), "blocks.0.attn.q.lora_b": (64, 4)},
    "lora_down_up": {
        "blocks.0.attn.proj.lora_down.weight": (4, 64),
        "blocks.0.attn.proj.lora_up.weight": (64, 4),
    },
    "lora_linear": {
        "blocks.0.attn.qkv.linear_a_q.weight": (4, 64),
        "blocks.0.attn.qkv.linear_b_q.weight": (64, 4),
    },
    "lora_lists": {"w_As.0.weight": (4, 64), "w_Bs.0.weight": (64, 4)},
    "lora_parametrized": {
        "blocks.0.attn.proj.parametrizations.weight.0.lora_A": (4, 64),
        "blocks.0.attn.proj.parametrizations.weight.0.lora_B": (64, 4),
    },
    "dora": {"blocks.0.attn.proj.lora_magnitude_vector.default.weight": (64,)},
    "adapter": {"blocks.0.adapter.down.weight": (4, 64), "blocks.0.adapter.up.weight": (64, 4)},
    "adaptmlp": {
        "blocks.0.adaptmlp.down_proj.weight": (4, 64),
        "blocks.0.adaptmlp.up_proj.weight": (64, 4),
    },
    "ssf": {"blocks.0.ssf_scale_1": (64,), "blocks.0.ssf_shift_1": (64,)},
    "ssf_inside": {"blocks.0.attn.ssf_scale_2": (64,), "blocks.0.mlp.ssf_shift_2": (64,)},
    "ssf_patch": {"patch_embed.ssf_scale_1": (64,)},
    "prompt": {"prompt_embeddings": (1, 5, 64)},
    "prompt_deep": {"deep_prompt_embeddings": (3, 5, 64)},
    "prompt_tokens": {"prompt_tokens": (1, 5, 64)},
    "ia3": {"blocks.0.attn.proj.ia3_l.default": (64, 1)},
    "pre_logits": {"pre_logits.fc.weight": (64, 64), "pre_logits.fc.bias": (64,)},
    "unknown": {"blocks.2.extra.weight": (64,)},
    "scale": {"blocks.2.ls3.gamma": (64,)},
    "second_head": {"head_dist.weight": (10, 64), "head_dist.bias": (10,)},
    "relative_positions": {"blocks.0.attn.relative_position_bias_table": (49, 4)},
}
HARMLESS = {
    "mask_token": {"mask_token": (1, 1, 64)},
    "decoder": {
        "decoder_embed.weight": (32, 64),
        "decoder_pos_embed": (1, 65, 32),
        "decoder_blocks.0.norm1.weight": (32,),
        "decoder_pred.bias": (48,),
    },
    "counter": {"num_batches_tracked": ()},
    "optimizer": {"optimizer.state.0.exp_avg": (64,), "optimizer.state.0.step": ()},
}


def more(shapes):
    return lambda s: {**s, **{k: torch.randn(shape) for k, shape in shapes.items()}}


def wrapped(*prefixes):
    return lambda s: {"".join(prefixes) + k: v for k, v in s.items()}


def head_outside(prefix):
    return lambda s: {k if k.startswith("head.") else prefix + k: v for k, v in s.items()}


def renamed(*pairs):
    def rename(tensors):
        out = {}
        for k, v in tensors.items():
            for a, b in pairs:
                k = k.replace(a, b)
            out[k] = v
        return out

    return rename


def leave_out(*parts):
    return lambda s: {k: v for k, v in s.items() if not any(p in k for p in parts)}


def original_registers(tensors):
    """DINOv2's own layout with registers: the class token has a position, a mask token is there."""
    cls = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(2))
    out = {k: v for k, v in tensors.items() if k not in ("cls_token", "pos_embed", "reg_token")}
    return {
        **out,
        "cls_token": tensors["cls_token"] - cls,
        "pos_embed": torch.cat([cls, tensors["pos_embed"]], 1),
        "register_tokens": tensors["reg_token"],
        "mask_token": torch.zeros(1, 64),
    }


# Name, expectation, what a refusal must name, configuration of timm, what is done to the tensors.
FILES = [
    ("wrapped_module", "equal", "", {}, wrapped("module.")),
    ("wrapped_compiled", "equal", "", {}, wrapped("_orig_mod.")),
    ("wrapped_model", "equal", "", {}, wrapped("model.")),
    ("wrapped_backbone", "equal", "", {}, wrapped("backbone.")),
    ("wrapped_student", "equal", "", {}, wrapped("student.")),
    ("wrapped_twice", "equal", "", {}, wrapped("module.", "_orig_mod.")),
    ("wrapped_thrice", "either", r"model\.module\.", {}, wrapped("model.", "module.", "backbone.")),
    ("wrapped_own", "either", r"my_net\.", {}, wrapped("my_net.")),
    ("wrapped_deit3", "equal", "", FORMS[2][3], wrapped("module.")),
    ("wrapped_head_outside", "either", "backbone", {}, head_outside("backbone.")),
    ("wrapped_some", "either", r"module\.|blocks\.1\.", {}, lambda s: {
        ("module." if k.startswith("blocks.1.") else "") + k: v for k, v in s.items()}),
    ("wrapped_two_models", "either", "student|teacher", {}, lambda s: {
        **wrapped("student.")(s), **{"teacher." + k: v + 0.1 for k, v in s.items()}}),
    ("wrapped_with_lora", "refuse", "lora_A", {}, lambda s: wrapped("module.")(
        more(LEFT_OVER["lora_AB"])(s))),
    ("gamma_names", "either", "gamma_1", FORMS[2][3], renamed(
        ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"))),
    ("original_swiglu", "either", "w12", {**DINO, **SWIGLU}, renamed(
        ("mlp.fc1", "mlp.w12"), ("mlp.fc2", "mlp.w3"))),
    ("original_registers", "either", "register_tokens|pos_embed", REGISTERS, original_registers),
    ("block_0_missing", "refuse", r"blocks\.0|block 0", {}, leave_out("blocks.0.")),
    ("block_2_missing", "refuse", r"blocks\.2|block 2", {}, leave_out("blocks.2.")),
    ("bias_missing", "refuse", r"blocks\.3\.mlp\.fc2\.bias", {},
     leave_out("blocks.3.mlp.fc2.bias")),
    ("one_qkv_bias_missing", "refuse", r"blocks\.1\.attn", {}, leave_out("blocks.1.attn.qkv.bias")),
    ("one_gamma_missing", "refuse", r"blocks\.1\.ls2", FORMS[2][3], leave_out("blocks.1.ls2.")),
    ("one_q_norm_missing", "refuse", r"blocks\.1\.attn\.q_norm", dict(qk_norm=True),
     leave_out("blocks.1.attn.q_norm")),
    ("k_norm_missing", "refuse", "k_norm", dict(qk_norm=True), leave_out("k_norm")),
    ("ls2_missing", "either", "ls2", FORMS[2][3], leave_out("ls2.")),
    ("norm_missing", "either", "norm", {}, lambda s: {
        k: v for k, v in s.items() if not k.startswith("norm.")}),
    ("head_missing", "refuse", "head", {}, leave_out("head.")),
    ("head_bias_missing", "either", "head.bias", {}, leave_out("head.bias")),
    ("norm_bias_missing", "either", "norm", {}, lambda s: {
        k: v for k, v in s.items() if not ("norm" in k and k.endswith("bias"))}),
    ("half", "equal", "", {}, lambda s: {k: v.half() for k, v in s.items()}),
    ("bfloat16", "equal", "", {}, lambda s: {k: v.bfloat16() for k, v in s.items()}),
    ("half_layer_scale", "equal", "", FORMS[2][3], lambda s: {k: v.half() for k, v in s.items()}),
] + [
    (f"left_over_{name}", "refuse", "|".join(map(re.escape, keys)), {}, more(keys))
    for name, keys in LEFT_OVER.items()
] + [
    (f"harmless_{name}", "equal", "", {}, more(keys))
    for name, keys in HARMLESS.items()
]
ZEROS_MEAN_MISSING = ("head_bias_missing", "norm_bias_missing", "ls2_missing", "norm_missing")


def files(folder):
    file, x = save_inputs(folder, 32)
    small, y = save_inputs(folder, 28)
    for name, expect, cause, config, change in FILES:
        made = model(**config)
        tensors = change(made.state_dict())
        save(tensors, folder / f"{name}.safetensors")
        logits = None
        if expect != "refuse" and name not in ZEROS_MEAN_MISSING:
            if name.startswith(("half", "bfloat16")):
                made.load_state_dict({k: v.float() for k, v in tensors.items()})
            with torch.no_grad():
                logits = made(y if "patch_size" in config else x).numpy()
        inputs = [small if "patch_size" in config else file]
        more = {"refusers": ()} if name == "head_missing" else {}
        more["options"] = {True: TOLD_SWIGLU, False: TOLD}[name == "original_swiglu"]
        if "patch_size" not in config:
            more["options"] = []
        yield Case(name, expect, folder / f"{name}.safetensors", inputs, logits, cause, **more)


NAMED = dict(num_heads=None)  # which is left to the architecture

# Name, expectation, cause, architecture of timm, its arguments: directories as its hub has them.
HUBS = [
    ("plain", "equal", "", "vit_tiny_patch16_224", {}),
    ("average", "equal", "", "vit_tiny_patch16_224", dict(global_pool="avg", fc_norm=False)),
    ("average_fc_norm", "equal", "", "vit_tiny_patch16_224", AVERAGE),
    ("maximum", "refuse", "max", "vit_tiny_patch16_224", dict(global_pool="max")),
    ("deit3", "equal", "", "deit3_small_patch16_224", {}),
    ("dinov2", "equal", "", "vit_small_patch14_dinov2", dict(img_size=28, patch_size=14)),
    ("registers", "equal", "", "vit_small_patch14_reg4_dinov2", dict(img_size=28, patch_size=14)),
    ("clip", "equal", "", "vit_base_patch16_clip_quickgelu_224", {}),
    ("clip_erf", "equal", "", "vit_base_patch16_clip_224", {}),
    ("siglip", "refuse", "attn_pool|map", "vit_base_patch16_siglip_224", {}),
    ("eight_heads", "equal", "", "vit_tiny_patch16_224", dict(num_heads=8)),
    ("resnet", "refuse", "resnet10t|conv1", "resnet10t", None),
    # The name alone tells heads, eps and activation.
    ("named_heads", "equal", "", "vit_base_patch16_gap_224", NAMED),
    ("named_quick_gelu", "equal", "", "vit_large_patch14_clip_quickgelu_336",
     dict(NAMED, img_size=28, patch_size=14)),
    ("named_tanh", "equal", "", "vit_large_patch16_siglip_gap_512", NAMED),
    ("norms_behind", "refuse", "norms stand behind", "vit_base_patch16_rpn_224", {}),
    ("prefix_in_pool", "refuse", "pool_include_prefix", "vit_tiny_patch16_224",
     dict(global_pool="avg", pool_include_prefix=True)),
]


def read_hub(folder, classes=None):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def read_hub_layout(architecture, told, folder, classes):
    """What graft wrote of a hub's directory: such a directory again, or tensors alone."""
    if (folder / "config.json").exists():
        return read_hub(folder)
    file = folder / "model.safetensors" if folder.is_dir() else folder
    made = timm.create_model(architecture, **{**told, "num_classes": classes})
    made.load_state_dict(load_file(file), strict=True)
    return made.eval()


def hubs(folder):
    for name, expect, cause, architecture, more in HUBS:
        told = {"num_classes": 10} if more is None else {**BASE, **more}
        told = {k: v for k, v in told.items() if v is not None}
        made = randomise(timm.create_model(architecture, **told))
        at = folder / f"hub_{name}"
        save_for_hf(made, at, model_args=told, safe_serialization=True)
        file, x = save_inputs(folder, told.get("img_size", 32))
        with torch.no_grad():
            logits = read_hub(at)(x).numpy()
        read_back = functools.partial(read_hub_layout, architecture, told)
        readers = {"timm": read_back} if expect == "equal" else {}
        yield Case(f"hub_{name}", expect, at, [file], logits, cause, readers=readers)


def cases(folder):
    folder.mkdir(parents=True)
    for make in (forms, files, hubs):
        yield from make(folder)
