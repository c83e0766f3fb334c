"""Reads what `graft train --trace DIR --out RUN` wrote: everything that depends on how Graft spells
a name is here."""

import fnmatch
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


def terms(method):
    """[(name, options)] from `lora(r=8,alpha=16)+bitfit`, or from a list of
    {"name": ..., "options": {...}}."""
    if isinstance(method, str):
        out = []
        for term in re.sub(r"\s", "", method).split("+"):
            name, _, rest = term.rstrip(")").partition("(")
            out.append((name, dict(part.split("=", 1) for part in rest.split(",") if part)))
        return out
    listed = method if isinstance(method, list) else [method]
    return [(t["name"], {**t, **t.get("options", {})}) for t in listed]


def lora_scale(method):
    """alpha / r, or alpha / sqrt(r) with rslora; alpha defaults to r; 0 without LoRA."""
    for name, options in terms(method):
        if name == "lora":
            rank = float(options.get("r", 8))
            rslora = str(options.get("rslora", "false")).lower() in ("true", "1")
            return float(options.get("alpha", rank)) / (math.sqrt(rank) if rslora else rank)
    return 0.0


def dropout(method):
    return max(float(options.get("dropout", 0)) for _, options in terms(method))


def trainable(method, init):
    """The names that a method must train, from the initial tensors; None where a term is not known
    here."""
    depth = 1 + max(int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", k) for k in init) if m)
    base = [k for k in init if "lora_" not in k]
    out = {k for k in base if k.startswith("head.")}
    for name, options in terms(method):
        if options.get("head") == "frozen":
            return None
        if name == "full":
            out.update(base)
        elif name == "ln":
            out.update(k for k in base if re.search(r"(^|\.)norm[12]?\.", k))
        elif name == "bitfit":
            out.update(k for k in base if k.endswith(".bias"))
        elif name == "last":
            first = depth - int(options.get("k", 2))
            out.update(
                k
                for k in base
                if k.startswith("norm.")
                or (k.startswith("blocks.") and int(k.split(".")[1]) >= first)
            )
        elif name == "lora":
            targets = options.get("targets", "attn.q|attn.v")
            targets = targets.split("|") if isinstance(targets, str) else targets
            for k in base:
                block = re.match(r"(blocks\.\d+\.)?((attn|mlp)\.\w+|pooler)\.weight$", k)
                if block and any(
                    fnmatch.fnmatch(site, t)
                    for t in targets
                    for site in (block[2], (block[1] or "") + block[2])
                ):
                    out.update(k.replace(".weight", x) for x in (".lora_a", ".lora_b"))
        elif name != "linear":
            return None
    return out


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

    def step(self, step):
        """{site: multiplier}"""
        return {s: torch.from_numpy(self.file[k]) for s, k in self.keys.get(step, {}).items()}


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
