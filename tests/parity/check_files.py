"""Checks that files go both ways: what graft writes opens in transformers, peft and timm and gives
the same logits there, and what peft writes gives the same logits in graft.

usage: GRAFT_DATA=DIR python check_files.py --graft GRAFT [--timm DIR] [--minilm DIR]
           [--only PATTERN]

DIR holds weights/, data/vtab-1k/cifar10 and data/text. A ViT (files_vit.py) and, with --minilm, a
BERT (files_bert.py). Exit 1 where logits differ by more than --tolerance (over the largest logit)
or a tensor that went through both programs has other bytes.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers.utils import logging

from files_bert import Bert
from files_vit import Vit

logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning)


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--timm", type=pathlib.Path, help="a folder with timm and torchvision")
    p.add_argument("--minilm", type=pathlib.Path, help="a folder with all-MiniLM-L6-v2")
    p.add_argument("--only", default="", help="checks whose name, `MODEL, CHECK`, has this pattern")
    p.add_argument("--count", type=int, default=8, help="images, and texts of two kinds")
    p.add_argument("--tolerance", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8)


def same_bytes(a, b):
    return a.keys() == b.keys() and all(
        a[k].shape == b[k].shape
        and a[k].dtype == b[k].dtype
        and torch.equal(bits(a[k]), bits(b[k]))
        for k in a
    )


class Checks:
    def __init__(self, args, folder, subject):
        self.args, self.folder, self.failed, self.count = args, folder, 0, 0
        self.root = pathlib.Path(os.environ["GRAFT_DATA"])
        self.subject = subject(self)

    def graft(self, *words):
        command = [self.args.graft, *words, "--threads", str(self.args.threads)]
        result = subprocess.run([str(w) for w in command], capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")

    def graft_logits(self, *model, inputs=None):
        out, s = self.folder / "out.npy", self.subject
        self.graft("predict", *model, *s.options, "--force", "--logits", out, *(inputs or s.inputs))
        return torch.from_numpy(np.load(out))

    def wanted(self, name):
        return re.search(self.args.only, f"{self.subject.name}, {name}") is not None

    def row(self, name, what, good, note):
        self.failed += not good
        self.count += 1
        name = f"{self.subject.name}, {name}".replace("|", "\\|")
        print(f"| {name} | {what} | {note} | {'yes' if good else 'NO'} |", flush=True)

    def same_logits(self, name, what, found, expected):
        if found.shape != expected.shape:
            return self.row(name, what, False, f"{tuple(found.shape)}, {tuple(expected.shape)}")
        error = ((found - expected).abs().max() / expected.abs().max()).item()
        self.row(name, what, error <= self.args.tolerance, f"{error:.1e}")

    def same_tensors(self, name, what, a, b):
        # With bias="all" peft also writes the base's own bias and a second copy of the saved one.
        a, b = (
            {
                k: v
                for k, v in load_file(f / "adapter_model.safetensors").items()
                if ".original_module." not in k and ".modules_to_save." not in k
            }
            for f in (a, b)
        )
        self.row(name, what, same_bytes(a, b), f"{len(a)} tensors")

    def randomise(self, model):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.05 * torch.randn_like(parameter))
        model.eval()


def check_methods(c):
    """Adapters of a short training in graft."""
    s, classes = c.subject, len(c.subject.classes)
    words = ["--limit", 64, "--epochs", 3, "--batch-size", 16, "--lr", 5e-3, "--val-split", "none"]
    for i, method in enumerate(m for m in s.methods if c.wanted(m)):
        run, adapter, again, own = (
            c.folder / f"{kind}{i}" for kind in ("run", "adapter", "again", "own")
        )
        c.graft("train", "--model", s.base, "--method", method, "--out", run, *s.train, *words)
        expected = c.graft_logits("--run", run)
        c.graft("export", "--run", run, "--format", "hf-peft", "--out", adapter)
        c.graft("inspect", adapter)
        c.graft("inspect", s.base, "--adapter", adapter)
        loaded = PeftModel.from_pretrained(s.model(classes, head=False), adapter).eval()
        c.same_logits(method, "peft", s.logits(loaded), expected)
        loaded.save_pretrained(again)
        c.same_tensors(method, "graft, peft", adapter, again)
        on_base = ["--model", s.base, "--adapter", again]
        c.same_logits(method, "back in graft", c.graft_logits(*on_base), expected)
        c.graft("export", "--run", run, "--format", "graft", "--out", own)
        c.graft("inspect", own)
        found = c.graft_logits("--model", s.base, "--adapter", own)
        c.row(method, "graft's own adapter", torch.equal(found, expected), "equal bits")
        if not method.startswith("p"):  # prompts do not fold
            check_merged(c, method, run, expected, i)


def check_merged(c, method, run, expected, i):
    s, hf = c.subject, c.folder / f"merged{i}"
    c.graft("export", "--run", run, "--format", "hf", "--merged", "--out", hf)
    model = s.model(folder=hf)
    c.same_logits(method, "merged, transformers", s.logits(model), expected)
    names = [model.config.id2label[k] for k in range(len(s.classes))]
    c.row(method, "id2label", names == s.classes, f"{len(names)} classes")
    s.check_merged(c, method, run, hf, expected)


def check_configs(c):
    """Adapters made by peft, with random values everywhere."""
    s = c.subject
    for i, (name, config) in enumerate(s.configs.items()):
        if not c.wanted(name):
            continue
        torch.manual_seed(i)
        adapter, again = c.folder / f"peft{i}", c.folder / f"peft{i}-again"
        prompt = config.is_prompt_learning  # which nothing folds
        own_head = prompt or config.modules_to_save or config.task_type
        model = get_peft_model(s.model(10 if own_head else None), config)
        c.randomise(model)
        expected = s.logits(model)
        model.save_pretrained(adapter)
        on_base = ["--model", s.base_with_head, "--adapter", adapter]
        c.same_logits(name, "graft", c.graft_logits(*on_base), expected)
        c.graft("inspect", s.base_with_head, "--adapter", adapter)
        c.graft("export", *on_base, "--format", "hf-peft", "--out", again)
        c.same_tensors(name, "peft, graft", adapter, again)
        if prompt:
            continue
        fused, base = c.folder / f"fused{i}{s.fused}", c.folder / f"base{i}{s.fused}"
        c.graft("fuse", *on_base, "--out", fused, "--keep-base")
        c.same_logits(name, "fused", c.graft_logits("--model", fused), expected)
        c.graft("fuse", "--undo", fused, "--out", base)
        before, after = (
            load_file(p / "model.safetensors" if p.is_dir() else p)
            for p in (s.base_with_head, base)
        )
        c.row(name, "undone", same_bytes(before, after), f"{len(after)} tensors")


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    if args.timm:
        sys.path.insert(0, str(args.timm))
        import torchvision_shim  # noqa: F401  (before timm)
    else:
        print("NOT AVAILABLE: timm (--timm DIR)")
    subjects = [Vit, Bert] if args.minilm else [Vit]
    if not args.minilm:
        print("NOT AVAILABLE: MiniLM (--minilm DIR)")
    print("| adapter | read by | largest difference | good |\n|---|---|---|---|")
    count = failed = 0
    for subject in subjects:
        folder = pathlib.Path(tempfile.mkdtemp())
        checks = Checks(args, folder, subject)
        checks.subject.check_more(checks)
        check_configs(checks)
        check_methods(checks)
        count, failed = count + checks.count, failed + checks.failed
        shutil.rmtree(folder)
    print(f"{count} checks, {failed} failed")
    return 0 if count and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
