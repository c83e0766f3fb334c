"""Checks that files go both ways: what graft writes opens in transformers, peft and timm and gives
the same logits there, and what peft writes gives the same logits in graft.

usage: GRAFT_DATA=DIR python check_files.py --graft GRAFT [--timm DIR] [--only PATTERN]

DIR holds weights/ and data/vtab-1k/cifar10. Real images, preprocessed by PIL. Exit 1 where logits
differ by more than --tolerance (over the largest logit) or a tensor that went through both
programs has other bytes.
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
from PIL import Image
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification
from transformers.utils import logging

logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning)
DEIT = "deit_tiny_patch16_224.safetensors"
TRANSFORM = "resize=224,filter=bilinear,mean=0.4914|0.4822|0.4465,std=0.2470|0.2435|0.2616"
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).reshape(3, 1, 1)
NORMS = ["layernorm_before", "layernorm_after", "layernorm"]

# Written by graft after a short training.
METHODS = [
    "lora(r=8)",
    "lora(r=4,alpha=8,rslora=true,targets=attn.*|mlp.*,bias=all)",
    "lora(r=2,targets=blocks.3.mlp.fc1|blocks.10.attn.k)+lora(r=6,alpha=3,targets=attn.v)",
    "lora(r=4,bias=lora_only,dropout=0.1)",
    "lora(r=4)+ln",
    "ln",
    "ln(targets=blocks.2.norm1|norm)",
]

# Written by peft, with random values everywhere.
CONFIGS = {
    "list": LoraConfig(r=4, target_modules=["q_proj", "fc2"], modules_to_save=["classifier"]),
    "regex": LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=r".*\.layers\.(1|11)\..*\.(k|o)_proj",
        bias="lora_only",
    ),
    "all-linear": LoraConfig(
        r=2,
        target_modules="all-linear",
        use_rslora=True,
        rank_pattern={"fc1": 5, r"layers\.[2-4]\.attention\.q_proj": 3},
        alpha_pattern={"layers.0.mlp.fc2": 7},
        exclude_modules=["5.attention.v_proj", "classifier"],
        modules_to_save=["classifier", "layernorm_before"],
    ),
    "head": LoraConfig(r=2, target_modules=["classifier", "v_proj"]),
    "layers": LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        layers_to_transform=[0, 3, 11],
        bias="all",
    ),
    "biases": LoraConfig(
        r=4, target_modules=["q_proj"], bias="all", modules_to_save=["classifier"]
    ),
    "block": LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["layers.11", "classifier"]
    ),
    "norms": LNTuningConfig(target_modules=NORMS, modules_to_save=["classifier"]),
    "some norms": LNTuningConfig(target_modules=["layernorm_after"]),
}


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--timm", type=pathlib.Path, help="a folder with timm and torchvision")
    p.add_argument("--only", default="", help="checks whose name has this pattern")
    p.add_argument("--count", type=int, default=8, help="images")
    p.add_argument("--tolerance", type=float, default=1e-4)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def load_image(path):
    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1) / 255
    return (pixels - MEAN) / STD


class Checks:
    def __init__(self, args, folder):
        self.args, self.folder, self.good = args, folder, True
        self.root = pathlib.Path(os.environ["GRAFT_DATA"])
        self.data = self.root / "data/vtab-1k/cifar10"
        self.deit = self.root / "weights" / DEIT
        lines = (self.data / "test.txt").read_text().splitlines()[: args.count]
        self.files = [self.data / line.split()[0] for line in lines]
        self.images = torch.stack([load_image(f) for f in self.files])
        np.save(folder / "images.npy", self.images.numpy())
        self.hf = folder / "base-hf"
        self.graft("export", "--model", self.deit, "--format", "hf", "--out", self.hf)

    def graft(self, *words):
        command = [self.args.graft, *words, "--threads", str(self.args.threads)]
        result = subprocess.run([str(w) for w in command], capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")

    def graft_logits(self, *model, inputs=None):
        out = self.folder / "out.npy"
        files = inputs or [self.folder / "images.npy"]
        extra = ["--preprocess", TRANSFORM]
        self.graft("predict", *model, *extra, "--logits", out, *files)
        return torch.from_numpy(np.load(out))

    def model(self, classes=None, folder=None):
        told = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
        return AutoModelForImageClassification.from_pretrained(folder or self.hf, **told).eval()

    def logits(self, model):
        with torch.no_grad():
            return model(pixel_values=self.images).logits

    def wanted(self, name):
        return re.search(self.args.only, name) is not None

    def row(self, name, what, good, note):
        self.good = self.good and good
        name = name.replace("|", "\\|")
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
        bits = {k: v.contiguous().view(torch.uint8) for k, v in a.items()}
        good = a.keys() == b.keys() and all(
            torch.equal(bits[k], b[k].contiguous().view(torch.uint8)) for k in a
        )
        self.row(name, what, good, f"{len(a)} tensors")


def check_base(c):
    name = "DeiT-Ti, timm to Hugging Face"
    if c.wanted(name):
        c.same_logits(name, "transformers", c.graft_logits("--model", c.deit), c.logits(c.model()))


def check_methods(c):
    for i, method in enumerate(m for m in METHODS if c.wanted(m)):
        run, adapter, again = (c.folder / f"{kind}{i}" for kind in ("run", "adapter", "again"))
        words = [
            "--method",
            method,
            "--limit",
            64,
            "--epochs",
            3,
            "--batch-size",
            16,
            "--lr",
            5e-3,
        ]
        words += ["--preprocess", TRANSFORM, "--val-split", "none"]
        c.graft("train", "--model", c.deit, "--data", c.data, "--out", run, *words)
        expected = c.graft_logits("--run", run)
        c.graft("export", "--run", run, "--format", "hf-peft", "--out", adapter)
        loaded = PeftModel.from_pretrained(c.model(10), adapter).eval()
        c.same_logits(method, "peft", c.logits(loaded), expected)
        loaded.save_pretrained(again)
        c.same_tensors(method, "graft, peft", adapter, again)
        on_base = ["--model", c.deit, "--adapter", again]
        c.same_logits(method, "back in graft", c.graft_logits(*on_base), expected)
        check_merged(c, method, run, expected, i)


def check_merged(c, method, run, expected, i):
    hf, timm = c.folder / f"merged-hf{i}", c.folder / f"merged-timm{i}"
    c.graft("export", "--run", run, "--format", "hf", "--merged", "--out", hf)
    model = c.model(folder=hf)
    c.same_logits(method, "merged, transformers", c.logits(model), expected)
    names = [line for line in (c.data / "classes.txt").read_text().splitlines() if line]
    if model.config.id2label[0] != names[0].split()[-1]:
        c.row(method, "id2label", False, f"{model.config.id2label[0]}, {names[0]}")
    if not c.args.timm:
        return
    from timm.models import create_model

    c.graft("export", "--run", run, "--format", "timm", "--merged", "--out", timm)
    model = create_model("deit_tiny_patch16_224", num_classes=10).eval()
    model.load_state_dict(load_file(timm / "model.safetensors"), strict=True)
    with torch.no_grad():
        c.same_logits(method, "merged, timm", model(c.images), expected)


def check_configs(c):
    for i, (name, config) in enumerate(CONFIGS.items()):
        if not c.wanted(name):
            continue
        torch.manual_seed(i)
        adapter, again = c.folder / f"peft{i}", c.folder / f"peft{i}-again"
        model = get_peft_model(c.model(10 if config.modules_to_save else None), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.05 * torch.randn_like(parameter))
        expected = c.logits(model.eval())
        model.save_pretrained(adapter)
        on_base = ["--model", c.deit, "--adapter", adapter]
        c.same_logits(name, "graft", c.graft_logits(*on_base), expected)
        c.graft("export", *on_base, "--format", "hf-peft", "--out", again)
        c.same_tensors(name, "peft, graft", adapter, again)
        fused = c.folder / f"peft{i}.safetensors"
        c.graft("fuse", *on_base, "--out", fused)
        c.same_logits(name, "fused", c.graft_logits("--model", fused), expected)


def check_genuine(c):
    """Its names are those of transformers 4, under which transformers 5 loads nothing."""
    name, folder = "made by peft 0.17", c.root / "weights/peft-lora-deit-tiny-cifar10"
    if not c.wanted(name):
        return
    stored = np.fromfile(folder / "expected_logits_first64_of_cifar10_test.f32", np.float32)
    stored = torch.from_numpy(stored).reshape(64, 10)[: c.args.count]
    on_base = ["--model", c.deit, "--adapter", folder]
    c.same_logits(name, "graft, its stored logits", c.graft_logits(*on_base), stored)
    c.same_logits(name, "with JPEG", c.graft_logits(*on_base, inputs=c.files), stored)
    same, renamed = c.folder / "genuine", c.folder / "genuine5"
    c.graft("export", *on_base, "--format", "hf-peft", "--out", same)
    c.same_tensors(name, "peft, graft", folder, same)
    c.graft("export", *on_base, "--format", "hf-peft", "--transformers", 5, "--out", renamed)
    loaded = PeftModel.from_pretrained(c.model(10), renamed).eval()
    c.same_logits(name, "renamed, peft", c.logits(loaded), stored)


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    if args.timm:
        sys.path.insert(0, str(args.timm))
        import torchvision_shim  # noqa: F401  (before timm)
    else:
        print("NOT AVAILABLE: timm (--timm DIR)")
    folder = pathlib.Path(tempfile.mkdtemp())
    checks = Checks(args, folder)
    print("| adapter | read by | largest difference | good |\n|---|---|---|---|")
    for check in (check_base, check_genuine, check_configs, check_methods):
        check(checks)
    shutil.rmtree(folder)
    return 0 if checks.good else 1


if __name__ == "__main__":
    sys.exit(main())
