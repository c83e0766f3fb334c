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
# LoRA+'s rates, and biases that do not decay.
RATES = ["--lr-scale", "lora_b=16|head=0.5", "--no-decay", "vector", *LORA[:2], "--lr", 1e-3]
OTHER_RATES = {
    "equal rates": edits.edit_config(lr_scale=""),
    "another factor": edits.edit_config(lr_scale="lora_b=16.2|head=0.5"),
    "a factor of the head's weight alone": edits.edit_config(
        lr_scale="lora_b=16|head.weight=0.5"
    ),
    "decay of everything": edits.edit_config(no_decay=""),
}
ALPHA = {"another alpha": edits.edit_config(method="lora(r=4,alpha=8.08)")}
# Method of its own run, and the same with another function, where an option has one.
METHODS = (
    ("ssf", None),
    ("ssf(targets=attn.*|mlp.*)", None),
    ("houlsby(r=4)", "houlsby(r=4,act=relu)"),
    ("houlsby(r=4,act=relu,scale=2,ln=true)", "houlsby(r=4,act=relu,scale=2.02,ln=true)"),
    ("pfeiffer(r=4)", "pfeiffer(r=4,act=gelu)"),
    ("adaptformer(r=4)", "adaptformer(r=4,scale=0.101)"),
    ("adaptformer(r=4,dropout=0.25)", None),
    ("adaptformer(r=4,act=silu,scale=learned)", None),
    ("parallel(r=4,scale=learned,dropout=0.25)", None),
    ("fact(r=4,targets=attn.q|mlp.*)", None),
    ("adaptformer(r=4,act=none)", "adaptformer(r=4,act=relu)"),
    ("parallel(r=4)", "parallel(r=4,scale=1.01)"),
    ("parallel(r=4,site=attn)", "parallel(r=4,site=attn,scale=1.01)"),
    ("mam(tokens=3,r=4)", "mam(tokens=3,r=4,scale=2.02)"),
    ("prefix(tokens=3,mlp=5)", None),
    ("prefix(tokens=3,mlp=0)", None),
    ("prefix(tokens=3,mlp=5,dropout=0.25)", None),
    ("ptuning2(tokens=3)", None),
    ("prompt(tokens=3)", None),
    ("vpt(tokens=3)", None),
    ("vpt(tokens=3,dropout=0.25)", None),
    ("vpt-deep(tokens=3)", None),
    ("vpt-deep(tokens=3,dropout=0.25)", None),
    ("fact(r=4)", "fact(r=4,scale=1.01)"),
    ("fact(form=tk,r=4,scale=2)", "fact(form=tk,r=4,scale=2.02)"),
    ("fact(r=4,dropout=0.25)", None),
    ("repadapter(r=4)", "repadapter(r=4,scale=1.01)"),
    ("repadapter(r=6,groups=3,site=mlp)", "repadapter(r=6,groups=3,site=mlp,scale=1.01)"),
    ("repadapter(r=4,dropout=0.25)", None),
    ("glora(r=2)", None),
    ("glora(r=2,qkv=apart)", None),
    ("glora(a=vector,b=vector,c=vector,d=constant,e=constant)", None),
    ("glora(a=constant,b=constant,c=none,d=none,e=vector)", None),
    ("childtuning(p=0.3)", "childtuning(p=0.31)"),
    ("childtuning(mode=d,p=0.3)", None),
    ("calibration+lora(r=4)", None),
    ("calibration-layer+lora(r=4)", "lora(r=4)"),
    ("noisytune+lora(r=4)", "noisytune(lambda=0.1)+lora(r=4)"),
    ("nf4+lora(r=4)", "lora(r=4)"),
    ("unified(form=prefix,site=heads,composition=gated,r=3)",
     "unified(form=prefix,site=heads,composition=add,r=3)"),
    ("unified(form=parallel,site=heads,r=4)", "unified(form=parallel,site=heads,r=4,act=none)"),
    ("unified(form=lora,site=attn,r=4)", None),
    ("ssf+lora(r=4)", None),
    ("repadapter(r=4)+lora(r=4)", None),
    ("lora(r=4)+ssf", None),
    ("lora(r=4)+repadapter(r=4)", None),
    ("fact(r=4)+repadapter(r=4)+ssf", None),
    ("vpt(tokens=3)+lora(r=4,dropout=0.25)", None),
    ("vpt-deep(tokens=3)+ssf", None),
    ("houlsby(r=4)+adaptformer(r=4)", None),
    ("prefix(tokens=2,mlp=0)+ptuning2(tokens=2)+bitfit", None),
    ("glora(r=2)+lora(r=4)", None),
    ("glora(r=2)+bitfit", None),
    ("fact(r=4)+ln", None),
    ("vpt(tokens=3)+lora(r=4)", None),
    ("houlsby(r=4)+lora(r=4)", None),
)  # fmt: skip
OF_TEXTS = (
    ("ptuning2(tokens=3,shift=true)", "ptuning2(tokens=3)"),
    ("prefix(tokens=3,mlp=5,shift=true)", "prefix(tokens=3,mlp=5)"),
    ("prompt(tokens=3,pool=first)", "prompt(tokens=3)"),
)
# Name, words, what must not pass.
RUNS = {
    "full": (["--method", "full", "--lr", 2e-3], edits.ANY | edits.ADAMW),
    "full by SGD": (
        ["--method", "full", "--lr", 0.05, "--optimizer", "sgd", "--schedule", "cosine"],
        edits.ANY | edits.SGD,
    ),
    "LoRA": (LORA, edits.LORA | ALPHA),
    "LoRA with rates": (RATES, OTHER_RATES),
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
    return f"exit {result.returncode}: {result.stderr.strip()}" if result.returncode else ""


def runs_of(kind):
    """{name: (words, what must not pass)}"""
    out = dict(RUNS)
    if kind == "ViT":
        out["drop path"] = PATH, edits.DROPOUT | edits.PATH
    for method, other in METHODS + (OF_TEXTS if kind == "BERT" else ()):
        changes = {"one tensor that moved by 1 % more": edits.scale_most}
        if other:
            changes[f"replayed as {other}"] = edits.edit_config(method=other)
        words = ["--method", method, "--lr", 5e-3]
        out[method] = words + (["--micro-batch", 4] if "dropout" in method else []), changes
    return out


def run(test, graft, subjects):
    for kind, (subject, more) in subjects.items():
        subject.options += ["--model", test.folder()] if kind == "ViT" else []
        save_model(subject, subject.options[-1])
        for what, (words, changes) in runs_of(kind).items():
            name, source = f"graft's {kind}, {what}", test.folder()
            if not test.wanted(name) and not any(test.wanted(f"{name}, {c}") for c in changes):
                continue
            wrong = train(graft, subject, [*words, "--clip", CLIP[kind]], source)
            if wrong:
                test.fail(name, wrong)
                continue
            if test.wanted(name):
                test.expect(0, name, source)
            test.edits(name, source, changes | (more if what == "full" else {}))
