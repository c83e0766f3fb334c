"""Reads what `graft train --trace DIR --out RUN` wrote: everything that depends on how Graft spells
a name is here."""

import json
import math
import pathlib
import re

import numpy as np
import torch

import torch_vit

# Setting: the keys that config.json may hold it under, best first. A key matches the last parts of
# a dotted path, the whole path where it starts with "^"; "-" equals "_".
SETTINGS = {
    "method": ("method", "recipe"),
    "data": ("data", "data_dir"),
    "split": ("train_split", "split"),
    "lr": ("lr", "learning_rate", "base_lr"),
    "weight_decay": ("weight_decay", "wd"),
    "no_decay": ("no_decay",),
    "lr_scale": ("lr_scale",),
    "schedule": ("schedule",),
    "warmup": ("warmup", "warmup_fraction"),
    "label_smoothing": ("label_smoothing",),
    "optimizer": ("optimizer",),
    "drop_path": ("drop_path",),
    "clip": ("clip", "clip_norm", "grad_clip"),
    "preprocess": ("preprocess",),
    "heads": ("heads", "num_heads"),
    "eps": ("layer_norm_eps", "norm_eps", "model.eps", "architecture.eps", "arch.eps", "^eps"),
    "gelu": ("gelu",),
    "pool": ("pool",),
    "model": ("^model",),
    "tokenizer": ("tokenizer",),
    "max_length": ("max_length",),
    "momentum": ("momentum",),
    "beta1": ("beta1",),
    "beta2": ("beta2",),
    "adam_eps": ("adam_eps", "optimizer.eps"),
}
# (pattern, replacement), applied in order to every tensor name of a trace.
RENAMES = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"\battn\.proj\.", "attn.o."),
    (r"\blora_A(\.weight)?$", "lora_a"),
    (r"\blora_B(\.weight)?$", "lora_b"),
    (r"^pos_embedding$", "pos_embed"),
    (r"^class_token$", "cls_token"),
)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESS = {  # name: (resize, crop or None, mean, std); resize None means the model's image size
    "vtab": (None, None, *IMAGENET),
    "imagenet": (None, None, *IMAGENET),
    "deit": (256, 224, *IMAGENET),
    "half": (None, None, (0.5,) * 3, (0.5,) * 3),
}


def settings(path):
    """The settings of SETTINGS that config.json holds, however nested; the shallowest key wins."""
    found = []  # (depth, dotted path, value)

    def walk(node, prefix):
        for key, value in node.items():
            path = f"{prefix}.{key}".lower().replace("-", "_")
            found.append((path.count("."), path, value))
            if isinstance(value, dict):
                walk(value, path)

    walk(json.loads(pathlib.Path(path).read_text()), "")
    found.sort(key=lambda x: x[0])
    out = {}
    for setting, keys in SETTINGS.items():
        for key in keys:
            hits = [
                v
                for _, p, v in found
                if v not in (None, "")
                and (p == f".{key[1:]}" if key[0] == "^" else p.endswith(f".{key}"))
            ]
            if hits:
                out[setting] = hits[0]
                break
    return out


def tensors(path):
    """Tensors under canonical names, with the file's metadata."""
    raw, metadata = torch_vit.load(path)
    renamed = {}
    for name, value in raw.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return torch_vit.canonical(renamed), metadata


def losses(folder):
    """[(loss, lr)] by step."""
    lines = [
        json.loads(line)
        for line in (folder / "loss.jsonl").read_text().splitlines()
        if line.strip()
    ]
    lines.sort(key=lambda x: x["step"])
    first = lines[0]["step"]
    if [x["step"] - first for x in lines] != list(range(len(lines))):
        raise SystemExit("loss.jsonl: steps are missing or repeated")
    return [(float(x["loss"]), float(x["lr"])) for x in lines]


def batches(folder):
    """Rows of the training list for every step, from `step_NNNNNN` arrays or one `rows` array
    padded with -1."""
    with np.load(folder / "batches.npz") as z:
        names = sorted(n for n in z.files if n.startswith("step_"))
        steps = [z[n] for n in names] if names else [row[row >= 0] for row in z["rows"]]
    return [torch.from_numpy(s.astype(np.int64)).reshape(-1) for s in steps]


class Step(dict):
    """{site: multiplier} of a step, which knows what was asked for."""

    def __init__(self, masks):
        super().__init__(masks)
        self.used = set()

    def get(self, site, default=None):
        self.used.add(site)
        return super().get(site, default)


class Masks:
    """masks.npz, read step by step: those of a run are gigabytes. Keys `step_NNNNNN/SITE` with SITE
    one of `blocks.N.attn.q.dropout` ..., `blocks.N.drop_path1`, `blocks.N.drop_path2`; values are
    what the branch is multiplied by: 0 or 1/keep."""

    def __init__(self, folder):
        path = folder / "masks.npz"
        self.file, self.keys = np.load(path) if path.exists() else None, {}
        for key in self.file.files if self.file else ():
            match = re.match(r"step_(\d+)[./](.*)$", key)
            if not match:
                raise SystemExit(f"masks.npz: unknown key {key}")
            self.keys.setdefault(int(match[1]), {})[match[2]] = key

    def step(self, step, dtype):
        keys = self.keys.get(step, {})
        return Step({s: torch.from_numpy(self.file[k]).to(dtype) for s, k in keys.items()})


def preprocess_of(value):
    """(resize, crop, mean, std) from a name, `resize=...,mean=a|b|c,...`, or a dictionary."""
    if value is None:
        return PREPROCESS["vtab"]
    if isinstance(value, str):
        if value in PREPROCESS:
            return PREPROCESS[value]
        if "=" not in value:
            raise SystemExit(f"preprocess '{value}': unknown name; know {', '.join(PREPROCESS)}")
        value = dict(part.split("=", 1) for part in re.sub(r"\s", "", value).split(","))

    def numbers(x):
        return tuple(float(v) for v in (x.split("|") if isinstance(x, str) else x))

    if value.get("filter", "bicubic") != "bicubic":
        raise SystemExit(
            f"preprocess: the replay knows the bicubic filter only, not {value['filter']}"
        )
    crop = int(value.get("crop") or 0)
    resize = int(value.get("resize") or 0)
    return (
        resize or None,
        crop or None,
        numbers(value.get("mean", IMAGENET[0])),
        numbers(value.get("std", IMAGENET[1])),
    )


def load_image(path, transform, image_size):
    """uint8 [3,H,W], resized and cropped by PIL as interface.md says."""
    from PIL import Image

    resize, crop, _, _ = transform
    resize = resize or image_size
    with Image.open(path) as file:
        image = file.convert("RGB")
    if crop:
        short, long = sorted(image.size)
        other = math.floor(resize * long / short)
        width, height = (resize, other) if image.size[0] == short else (other, resize)
        image = image.resize((width, height), Image.BICUBIC)
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    else:
        image = image.resize((resize, resize), Image.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def normalise(images, transform, dtype):
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in transform[2:])
    return ((images.double() / 255 - mean) / std).to(dtype)


def training_list(data, split):
    """[(path, label)] of data/SPLIT.txt; line = `path label`."""
    out = []
    for line in (data / f"{split}.txt").read_text().splitlines():
        if line.strip():
            path, label = line.rsplit(" ", 1)
            out.append((data / path, int(label)))
    return out
