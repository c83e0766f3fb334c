"""Traces of graft itself: short runs of the models of selftest.py with every option of the
optimizers, which must equal their replay and no other."""

import subprocess

import torch

import selftest_edits as edits

COMMON = {
    "--batch-size": 6,
    "--epochs": 5,
    "--val-split": "none",
    "--weight-decay": 0.05,
    "--label-smoothing": 0.1,
    "--warmup": 0.25,
    "--seed": 1,
    "--threads": 1,
}
CLIP = {"ViT": 2.5, "BERT": 1.0}  # below some steps' norms and above others'
LORA = ["--method", "lora(r=4,alpha=8)", "--lr", 5e-3]
DROPPED = ["--method", "lora(r=4,alpha=8,dropout=0.25)", "--lr", 5e-3, "--micro-batch", 4]
PATH = ["--method", "full", "--lr", 2e-3, "--drop-path", 0.3, "--micro-batch", 4]
ALPHA = {"another alpha": edits.edit_config(method="lora(r=4,alpha=8.08)")}
# Name, words, what must not pass.
RUNS = {
    "full": (["--method", "full", "--lr", 2e-3], edits.ANY | edits.ADAMW),
    "full by SGD": (
        ["--method", "full", "--lr", 0.05, "--optimizer", "sgd", "--schedule", "cosine"],
        edits.ANY | edits.SGD,
    ),
    "LoRA": (LORA, edits.LORA | ALPHA),
    "LoRA with dropout": (DROPPED, edits.DROPOUT),
}


def save_model(subject, folder):
    """A model whose every parameter matters, as a directory that graft opens."""
    torch.manual_seed(3)
    model = subject.model()
    for name, p in model.named_parameters():
        norm = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(p, 1.0 if norm else 0.0, 0.15)
    model.save_pretrained(folder)


def train(graft, subject, words, folder):
    folder.mkdir()
    options = [w for pair in COMMON.items() for w in pair]
    command = [graft, "train", *subject.options, *options, *words, "--quiet"]
    command += ["--out", folder / "run", "--trace", folder / "trace"]
    result = subprocess.run([str(w) for w in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")


def run(test, graft, subjects):
    for kind, (subject, more) in subjects.items():
        subject.options += ["--model", test.folder()] if kind == "ViT" else []
        save_model(subject, subject.options[-1])
        runs = {**RUNS, "drop path": (PATH, edits.DROPOUT | edits.PATH)} if kind == "ViT" else RUNS
        for what, (words, changes) in runs.items():
            name, source = f"graft's {kind}, {what}", test.folder()
            if not test.wanted(name) and not any(test.wanted(f"{name}, {c}") for c in changes):
                continue
            train(graft, subject, [*words, "--clip", CLIP[kind]], source)
            if test.wanted(name):
                test.expect(0, name, source)
            test.edits(name, source, changes | (more if what == "full" else {}))
