"""Tests the replay itself: traces of a ViT and of a BERT made by transformers and peft must pass,
and every perturbed trace must fail.

usage: python selftest.py        (peers' environment; some five minutes on one thread)
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
from safetensors.torch import load_file, save_file

import trace
from selftest_models import PREPROCESS, ROWS, Pictures, Texts, graft_name

HERE = pathlib.Path(__file__).resolve().parent
BATCH, STEPS, LR, DECAY = 6, 20, 2e-3, 0.05


class MaskedDropout(torch.nn.Module):
    """Dropout that keeps its masks, one for each call."""

    def __init__(self, p):
        super().__init__()
        self.p, self.masks = p, []

    def forward(self, x):
        mask = F.dropout(torch.ones_like(x), self.p)
        self.masks.append(mask.flatten(0, -2))
        return x * mask


def with_masks(model, p, names):
    """{site: its dropout}"""
    out = {}
    for name, module in model.named_modules():
        if p > 0 and hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = MaskedDropout(p)
            out[graft_name(name + ".", names).rstrip(".")] = module.lora_dropout["default"]
    return out


def make_model(subject, method):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    model = subject.model()
    for name, p in model.named_parameters():
        norm = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(p, 1.0 if norm else 0.0, 0.15)
    if method.startswith("lora"):
        saved = ["classifier"]
        return get_peft_model(
            model,
            LoraConfig(
                r=4, lora_alpha=8, target_modules=subject.targets, modules_to_save=saved
            ),
        )
    for name, p in model.named_parameters():
        p.requires_grad = (
            method == "full"
            or "classifier" in name
            or (method == "bitfit" and name.endswith("bias"))
        )
    return model


def parameters(model, names):
    return {
        graft_name(n, names): p.detach().clone()
        for n, p in model.named_parameters()
        if ".original_module." not in n
    }


def train(model, subject, dropouts):
    """(rows by step, lines of loss.jsonl, masks)"""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / 2 if i < 2 else 0.5 * (1 + np.cos(np.pi * (i - 2) / (STEPS - 2))),
    )
    y = torch.tensor(subject.labels)
    g, rows, lines, masks = torch.Generator().manual_seed(1), [], [], {}
    for step in range(STEPS):
        pick = torch.randperm(ROWS, generator=g)[: BATCH - step % 2]
        rows.append(pick.numpy().astype(np.int32))
        loss = F.cross_entropy(subject.logits(model, pick), y[pick], label_smoothing=0.1)
        lines.append(
            json.dumps({"step": step, "loss": loss.item(), "lr": optimizer.param_groups[0]["lr"]})
        )
        for site, dropout in dropouts.items():
            masks[f"step_{step:06}/{site}.dropout"] = torch.cat(dropout.masks).numpy()
            dropout.masks.clear()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return rows, lines, masks


def make_trace(folder, subject, method, padded):
    """What Graft would write, from a training loop that shares no code with the replay."""
    model = make_model(subject, method)
    names = {graft_name(n, subject.names) for n, p in model.named_parameters() if p.requires_grad}
    (folder / "trace").mkdir(parents=True)
    (folder / "run").mkdir()
    save_file(parameters(model, subject.names), folder / "trace/init.safetensors")
    dropouts = with_masks(model, trace.dropout(method), subject.names)
    rows, lines, masks = train(model, subject, dropouts)
    table = np.stack([np.pad(r, (0, BATCH - len(r)), constant_values=-1) for r in rows])
    np.savez(
        folder / "trace/batches.npz",
        **({"rows": table} if padded else {f"step_{i:06}": r for i, r in enumerate(rows)}),
    )
    if masks:
        np.savez(folder / "trace/masks.npz", **masks)
    (folder / "trace/loss.jsonl").write_text("\n".join(lines) + "\n")
    final = {k: v for k, v in parameters(model, subject.names).items() if k in names}
    save_file(final, folder / "trace/final.safetensors")
    config = {
        "method": method,
        "optimizer": {"name": "adamw", "eps": 1e-8},
        "lr": LR,
        "weight_decay": DECAY,
        "schedule": "cosine",
        "warmup": 0.1,
        "label_smoothing": 0.1,
        **subject.config,
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
    "two batches swapped": swap_batches,
    "nothing trained": untrained,
    "an initial tensor off by 5 %": edit_tensors(
        "init.safetensors", scale_one("blocks.1.mlp.fc1.weight", 1.05)
    ),
    "a final tensor off by 5 %": edit_tensors(
        "final.safetensors", scale_one("blocks.0.norm2.bias", 1.05)
    ),
}


VIT_PERTURBED = {
    "another normalisation": edit_config(preprocess=PREPROCESS.replace("0.485", "0.5")),
    "heads": edit_config(model={"heads": 4, "eps": 1e-6}),
}
BERT_PERTURBED = {"texts cut elsewhere": edit_config(max_length=9)}


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
        HERE / "replay.py",
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
        rng = np.random.default_rng(0)
        subjects = {
            "ViT": (Pictures(scratch / "pictures", rng), VIT_PERTURBED),
            "BERT": (Texts(scratch / "texts", rng), BERT_PERTURBED),
        }
        lora = "lora(r=4, alpha=8)", "lora(r=4, alpha=8, dropout=0.25)"
        for kind, (subject, more) in subjects.items():
            at = [scratch / f"{kind}{i}" for i in range(5)]
            for i, method in enumerate(("full", "linear", "bitfit", *lora)):
                make_trace(at[i], subject, method, padded=i == 1)
                expect(0, f"{kind}, {method}", at[i])
            changed = (at[0], PERTURBED | more), (at[3], LORA_PERTURBED), (at[4], DROPOUT_PERTURBED)
            for source, changes in changed:
                for name, change in changes.items():
                    folder = scratch / "perturbed"
                    shutil.copytree(source, folder)
                    change(folder)
                    expect(1, f"{kind}, {name}", folder)
                    shutil.rmtree(folder)
    print("failed" if failures else "all as expected")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
