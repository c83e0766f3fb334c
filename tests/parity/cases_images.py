"""Pictures through the transform beside a checkpoint, as timm and transformers do it."""

import json

import numpy as np
import timm
import torch
import transformers as hf
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf

from cases import Case, randomise
from cases_hf import DINO, VIT
from cases_timm import BASE, read_hub

HALF = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
# Class of the model, its configuration, the processor's class, what is told to it.
PROCESSORS = [
    ("vit_square", hf.ViTForImageClassification, hf.ViTConfig(**VIT), hf.ViTImageProcessorPil,
     dict(size={"height": 32, "width": 32}, resample=2, **HALF)),
    ("vit_old_size", hf.ViTForImageClassification, hf.ViTConfig(**VIT), hf.ViTImageProcessorPil,
     dict(size=32, resample=3, **HALF)),
    ("deit_crop", hf.DeiTForImageClassification, hf.DeiTConfig(**VIT), hf.DeiTImageProcessorPil,
     dict(size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}, resample=3)),
    ("dinov2_crop", hf.Dinov2ForImageClassification, hf.Dinov2Config(**DINO),
     hf.BitImageProcessorPil, dict(size={"shortest_edge": 32}, resample=3,
                                   crop_size={"height": 28, "width": 28}, **HALF)),
    ("vit_no_normalise", hf.ViTForImageClassification, hf.ViTConfig(**VIT), hf.ViTImageProcessorPil,
     dict(size={"height": 32, "width": 32}, resample=2, do_normalize=False)),
    ("vit_other_scale", hf.ViTForImageClassification, hf.ViTConfig(**VIT), hf.ViTImageProcessorPil,
     dict(size={"height": 32, "width": 32}, resample=2, rescale_factor=1 / 127.5, **HALF)),
    ("vit_no_resize", hf.ViTForImageClassification, hf.ViTConfig(**VIT), hf.ViTImageProcessorPil,
     dict(do_resize=False, **HALF)),
]
MAY_REFUSE = {
    "vit_no_normalise": "do_normalize",
    "vit_other_scale": "rescale_factor",
    "vit_no_resize": "do_resize",
}
# Changes to what timm says of the transform.
TRANSFORMS = {
    "crop": dict(crop_pct=0.9),
    "imagenet": dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_pct=0.875),
    "bilinear": dict(interpolation="bilinear", crop_pct=1.0),
    "squash": dict(crop_mode="squash", crop_pct=1.0),
    "border": dict(crop_mode="border"),
}


def pictures(folder):
    """Of sizes that leave odd and even margins beside the crop."""
    rng, out = np.random.default_rng(4), []
    for i, (width, height) in enumerate(((32, 32), (50, 40), (47, 64), (130, 71))):
        smooth = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        file = folder / f"picture{i}.png"
        Image.fromarray(smooth).resize((width, height), Image.BICUBIC).save(file)
        out.append(file)
    return out


def processed(folder):
    files = pictures(folder)
    for name, kind, config, processor, told in PROCESSORS:
        torch.manual_seed(0)
        made, at = randomise(kind(config)), folder / name
        made.save_pretrained(at)
        transform = processor(**told)
        transform.save_pretrained(at)
        used = files[:1] if not told.get("do_resize", True) else files
        images = [Image.open(f) for f in used]
        with torch.no_grad():
            logits = made(**transform(images, return_tensors="pt")).logits.numpy()
        expect = "either" if name in MAY_REFUSE else "equal"
        yield Case(f"picture_{name}", expect, at, used, logits, MAY_REFUSE.get(name, ""), own="hf")


def hub(folder):
    files = pictures(folder)
    for name, told in TRANSFORMS.items():
        torch.manual_seed(0)
        made, at = timm.create_model("vit_tiny_patch16_224", **BASE), folder / f"hub_{name}"
        made = randomise(made)
        made.pretrained_cfg.update(told)
        save_for_hf(made, at, model_args=BASE, safe_serialization=True)
        config = json.loads((at / "config.json").read_text())
        config["pretrained_cfg"].update(told)
        (at / "config.json").write_text(json.dumps(config))
        made = read_hub(at)
        transform = create_transform(**resolve_model_data_config(made))
        with torch.no_grad():
            logits = made(torch.stack([transform(Image.open(f)) for f in files])).numpy()
        expect = "either" if name == "border" else "equal"
        yield Case(f"picture_hub_{name}", expect, at, files, logits, "crop_mode|border")


def cases(folder):
    folder.mkdir(parents=True)
    for make in (processed, hub):
        yield from make(folder)
