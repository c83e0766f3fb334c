"""Tests the replay itself: a trace made by transformers and peft must pass, and every perturbed
trace must fail.

usage: python selftest.py        (peers' environment; about a minute on one thread)
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

import trace

HERE = pathlib.Path(__file__).resolve().parent
IMAGE_SIZE, ROWS, BATCH, STEPS, LR, DECAY, CLASSES = 16, 24, 6, 20, 2e-3, 0.05, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = (
    f"resize={IMAGE_SIZE},filter=bicubic,"
    f"mean={'|'.join(map(str, MEAN))},std={'|'.join(map(str, STD))}"
)
NAMES = (
    ("base_model.model.", ""),
    (".base_layer", ""),
    (".modules_to_save.default", ""),
    (".default.weight", ""),
    ("vit.embeddings.cls_token", "cls_token"),
    ("vit.embeddings.position_embeddings", "pos_embed"),
    ("vit.embeddings.patch_embeddings.projection", "patch_embed"),
    ("vit.layers.", "blocks."),
    ("vit.layernorm", "norm"),
    ("classifier", "head"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.", "attn."),
    ("_proj.", "."),
    ("lora_A", "lora_a"),
    ("lora_B", "lora_b"),
)


def make_data(folder, rng):
    """Pictures that are not the model's size, so that resizing is part of what is checked."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(ROWS):
        label = i % CLASSES
        pixels = rng.integers(0, 160, (20, 24, 3)) + 40 * label
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"images/{i:06}.png")
        lines.append(f"images/{i:06}.png {label}")
    (folder / "train800val200.txt").write_text("\n".join(lines) + "\n")


def graft_name(name):
    for a, b in NAMES:
        name = name.replace(a, b)
    return name


class MaskedDropout(torch.nn.Module):
    """Dropout that keeps its masks under the names of a trace."""

    def __init__(self, site, p, masks):
        super().__init__()
        self.site, self.p, self.masks, self.step = site, p, masks, 0

    def forward(self, x):
        mask = F.dropout(torch.ones_like(x), self.p)
        self.masks[f"step_{self.step:06}/{self.site}.dropout"] = mask.flatten(0, -2).numpy()
        self.step += 1
        return x * mask


def with_masks(model, p):
    masks = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_dropout"):
            site = graft_name(name + ".").rstrip(".")
            module.lora_dropout["default"] = MaskedDropout(site, p, masks)
    return masks


def make_model(method):
    from peft import LoraConfig, get_peft_model
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(3)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=IMAGE_SIZE,
        patch_size=4,
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ViTForImageClassification(config)
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.15)
    if method.startswith("lora"):
        sites = ["q_proj", "v_proj"]
        return get_peft_model(
            model,
            LoraConfig(r=4, lora_alpha=8, target_modules=sites, modules_to_save=["classifier"]),
        )
    for name, p in model.named_parameters():
        p.requires_grad = (
            method == "full"
            or "classifier" in name
            or (method == "bitfit" and name.endswith("bias"))
        )
    return model


def parameters(model):
    return {
        graft_name(n): p.detach().clone()
        for n, p in model.named_parameters()
        if ".original_module." not in n
    }


def make_trace(folder, data, method, padded):
    """What Graft would write, from a training loop that shares no code with the replay."""
    model = make_model(method)
    dropout = trace.dropout(method)
    masks = with_masks(model, dropout) if dropout else {}
    trained = [p for p in model.parameters() if p.requires_grad]
    names = {graft_name(n) for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / 2 if i < 2 else 0.5 * (1 + np.cos(np.pi * (i - 2) / (STEPS - 2))),
    )
    entries = [
        line.rsplit(" ", 1) for line in (data / "train800val200.txt").read_text().splitlines()
    ]
    pixels = [
        np.asarray(
            Image.open(data / p).convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.BICUBIC)
        )
        for p, _ in entries
    ]
    x = (
        (torch.from_numpy(np.stack(pixels)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    ).permute(0, 3, 1, 2)
    y = torch.tensor([int(label) for _, label in entries])
    (folder / "trace").mkdir(parents=True)
    (folder / "run").mkdir()
    save_file(parameters(model), folder / "trace/init.safetensors")
    g, rows, lines = torch.Generator().manual_seed(1), [], []
    for step in range(STEPS):
        pick = torch.randperm(ROWS, generator=g)[: BATCH - step % 2]
        rows.append(pick.numpy().astype(np.int32))
        loss = F.cross_entropy(model(pixel_values=x[pick]).logits, y[pick], label_smoothing=0.1)
        lines.append(
            json.dumps({"step": step, "loss": loss.item(), "lr": optimizer.param_groups[0]["lr"]})
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    table = np.stack([np.pad(r, (0, BATCH - len(r)), constant_values=-1) for r in rows])
    np.savez(
        folder / "trace/batches.npz",
        **({"rows": table} if padded else {f"step_{i:06}": r for i, r in enumerate(rows)}),
    )
    if masks:
        np.savez(folder / "trace/masks.npz", **masks)
    (folder / "trace/loss.jsonl").write_text("\n".join(lines) + "\n")
    save_file(
        {k: v for k, v in parameters(model).items() if k in names},
        folder / "trace/final.safetensors",
    )
    config = {
        "method": method,
        "data": str(data),
        "model": {"heads": 2, "eps": 1e-6},
        "train-split": "train800val200",
        "optimizer": {"name": "adamw", "eps": 1e-8},
        "lr": LR,
        "weight_decay": DECAY,
        "schedule": "cosine",
        "warmup": 0.1,
        "label_smoothing": 0.1,
        "preprocess": PREPROCESS,
    }
    (folder / "run/config.json").write_text(json.dumps(config))


def edit_config(**changes):
    def edit(folder):
        path = folder / "run/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def edit_loss(step, key, factor):
    def edit(folder):
        path = folder / "trace/loss.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[step][key] *= factor
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")

    return edit


def edit_tensors(file, change):
    def edit(folder):
        path = folder / "trace" / file
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)

    return edit


def scale_one(name, factor):
    return lambda t: {k: v * factor if k == name else v for k, v in t.items()}


def without(name):
    return lambda t: {k: v for k, v in t.items() if k != name}


def swap_batches(folder):
    path = folder / "trace/batches.npz"
    with np.load(path) as z:
        steps = {k: z[k] for k in z.files}
    steps["step_000003"], steps["step_000005"] = steps["step_000005"], steps["step_000003"]
    np.savez(path, **steps)


def untrained(folder):
    init = load_file(folder / "trace/init.safetensors")
    edit_tensors("final.safetensors", lambda t: {k: init[k] for k in t})(folder)


PERTURBED = {
    "a loss off by 0.2 %": edit_loss(7, "loss", 1.002),
    "a loss that is NaN": edit_loss(7, "loss", float("nan")),
    "one learning rate off by 1 %": edit_loss(9, "lr", 1.01),
    "another base rate in config.json": edit_config(lr=LR * 1.5),
    "no label smoothing": edit_config(label_smoothing=0.0),
    "another weight decay": edit_config(weight_decay=0.5),
    "another schedule": edit_config(schedule="linear"),
    "another normalisation": edit_config(preprocess=PREPROCESS.replace("0.485", "0.5")),
    "heads": edit_config(model={"heads": 4, "eps": 1e-6}),
    "two batches swapped": swap_batches,
    "nothing trained": untrained,
    "an initial tensor off by 5 %": edit_tensors(
        "init.safetensors", scale_one("blocks.1.mlp.fc1.weight", 1.05)
    ),
    "a final tensor off by 5 %": edit_tensors(
        "final.safetensors", scale_one("blocks.0.norm2.bias", 1.05)
    ),
}
def roll_masks(folder):
    path = folder / "trace/masks.npz"
    with np.load(path) as z:
        masks = {k: z[k] for k in z.files}
    same = [k for k in masks if k.startswith("step_000004/")]
    np.savez(path, **{k: np.roll(v, 1, 0) if k in same else v for k, v in masks.items()})


DROPOUT_PERTURBED = {"the masks of one step off by one row": roll_masks}
LORA_PERTURBED = {
    "one lora_b not trained": edit_tensors("final.safetensors", without("blocks.1.attn.q.lora_b")),
    "another alpha": edit_config(method="lora(r=4,alpha=4)"),
    "a final lora_b off by 5 %": edit_tensors(
        "final.safetensors", scale_one("blocks.1.attn.v.lora_b", 1.05)
    ),
}


def replay(folder):
    command = [
        sys.executable,
        HERE / "replay_vit.py",
        "--trace",
        folder / "trace",
        "--run",
        folder / "run",
    ]
    return subprocess.run(command, capture_output=True, text=True)


def main():
    torch.set_num_threads(1)
    failures = 0

    def expect(code, name, folder):
        nonlocal failures
        result = replay(folder)
        good = result.returncode == code and ("FAIL" in result.stdout) == (code == 1)
        failures += not good
        print(
            f"{'ok  ' if good else 'FAIL'} exit {result.returncode}, expected {code}: {name}",
            flush=True,
        )
        if not good or (code == 0 and "-v" in sys.argv):
            print(result.stdout + result.stderr)

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        make_data(scratch / "data", np.random.default_rng(0))
        lora = "lora(r=4, alpha=8)", "lora(r=4, alpha=8, dropout=0.25)"
        for i, method in enumerate(("full", "linear", "bitfit", *lora)):
            make_trace(scratch / str(i), scratch / "data", method, padded=i == 1)
            expect(0, method, scratch / str(i))
        changed = ("0", PERTURBED), ("3", LORA_PERTURBED), ("4", DROPOUT_PERTURBED)
        for source, changes in changed:
            for name, change in changes.items():
                folder = scratch / "perturbed"
                shutil.copytree(scratch / source, folder)
                change(folder)
                expect(1, name, folder)
                shutil.rmtree(folder)
    print("failed" if failures else "all as expected")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
