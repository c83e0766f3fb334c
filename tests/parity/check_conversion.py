"""Runs the conversion lines that graft gives for pickles: what each writes must give the logits of
the tensors that went into the pickle. A pickle that holds no tensors, or that would run code, must
leave no file.

usage: GRAFT_DATA=DIR python check_conversion.py --graft GRAFT [--minilm DIR]

DIR holds weights/deit_tiny_patch16_224.safetensors. Exit 1 for a difference.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

logging.disable_progress_bar()

TEXTS = ["a fine film , and a warm one", "it never ends"]


class RunsCode:
    def __reduce__(self):
        return (os.system, ("touch ran",))


def vit_pickles(tensors):
    """name of the file -> what torch.save is given"""
    training = argparse.Namespace(lr=1e-3, betas=[0.9, 0.999])
    moments = {"state": {0: {"exp_avg": tensors["cls_token"], "exp_avg_sq": tensors["pos_embed"]}}}

    def named(prefix):
        return {prefix + k: v for k, v in tensors.items()}

    return {
        "plain.bin": tensors,
        "deit.pth": {"model": tensors, "args": training, "epoch": 3},
        "timm.pth.tar": {
            "state_dict": tensors,
            "arch": "deit_tiny_patch16_224",
            "args": training,
            "optimizer": moments,
            "metric": np.float64(0.3),
            "best": np.float32(1),
            "step": np.int64(7),
        },
        "lightning.ckpt": {
            "state_dict": named("model."),
            "pytorch-lightning_version": "2.0.0",
            "optimizer_states": [moments],
        },
        "parallel.pt": {"model_state_dict": named("module."), "loss": torch.tensor(0.5)},
        "moving average.pth": {"optimizer": moments, "model_ema": tensors, "x": torch.tensor(1)},
        "other key.pt": {"net": tensors, "acc": 93.1},
        "parameters.pth": {k: torch.nn.Parameter(v) for k, v in tensors.items()},
    }


def bert_classifier(source, folder):
    """The tensors of MiniLM with a random head of three classes, written as a directory."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3)
    model.save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    return load_file(folder / "model.safetensors")


def bert_files(tensors):
    """folder -> files of a Hugging Face directory: one, one with a tied tensor, two parts"""
    names = sorted(tensors)
    word = "bert.embeddings.word_embeddings.weight"
    decoder = {"cls.predictions.decoder.weight": tensors[word]}
    halves = [{k: tensors[k] for k in part} for part in (names[::2], names[1::2])]
    return {
        "one": {"pytorch_model.bin": tensors},
        "tied": {"pytorch_model.bin": tensors | decoder},
        "parts": {f"pytorch_model-0000{i + 1}-of-00002.bin": half for i, half in enumerate(halves)},
    }


class Check:
    def __init__(self, args, folder):
        self.args, self.folder, self.count, self.failed = args, folder, 0, 0
        # The line says `python`, which is the one with torch here.
        self.path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"

    def row(self, name, good, note):
        self.count += 1
        self.failed += not good
        print(f"| {name} | {note} | {'yes' if good else 'NO'} |", flush=True)

    def logits(self, model, inputs):
        """(logits or None, what graft said)"""
        out = self.folder / "logits.npy"
        out.unlink(missing_ok=True)
        words = [self.args.graft, "predict", "--model", model, *inputs, "--logits", out]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        return (np.load(out) if out.exists() else None), done.stderr

    def convert(self, name, model, inputs):
        """What the line that graft gives for `model` prints, or None if it gives none."""
        found, said = self.logits(model, inputs)
        at = said.find("python -c ")
        if found is not None or at < 0:
            return self.row(name, False, f"no conversion line: {said.strip()[:200]}")
        line = said[at:].strip().splitlines()[0]
        env = os.environ | {"PATH": self.path}
        return subprocess.run(
            line, shell=True, cwd=self.folder, capture_output=True, text=True, env=env
        )

    def converts(self, name, model, inputs, expected):
        """`model` is a pickle, or a directory that is a model once the line has run."""
        done = self.convert(name, model, inputs)
        if done is None:
            return
        made = model
        if model.is_file():
            stem = model.name.removesuffix(".tar").rsplit(".", 1)[0]
            made = model.with_name(f"{stem}.safetensors")
        if done.returncode or not (made.is_dir() or made.exists()):
            return self.row(name, False, f"exit {done.returncode}: {done.stderr[-200:]}")
        found, said = self.logits(made, inputs)
        if found is None:
            return self.row(name, False, said.strip()[:200])
        self.row(name, np.array_equal(found, expected), "logits of what it wrote have equal bits")

    def leaves_nothing(self, name, held, inputs):
        model = self.folder / f"{name}.pt"
        torch.save(held, model)
        done = self.convert(name, model, inputs)
        if done is None:
            return
        left = [p.name for p in (self.folder / "ran", self.folder / f"{name}.safetensors")
                if p.exists()]  # fmt: skip
        good = done.returncode != 0 and not left
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        self.row(name, good, f"{left or 'nothing left'}; it says: {last[:80]}")


def check_vits(c):
    base = pathlib.Path(os.environ["GRAFT_DATA"]) / "weights/deit_tiny_patch16_224.safetensors"
    rng = np.random.default_rng(1)
    image = c.folder / "image.png"
    Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(image)
    expected, said = c.logits(base, [image])
    assert expected is not None, said
    for name, held in vit_pickles(load_file(base)).items():
        torch.save(held, c.folder / name)
        c.converts(name, c.folder / name, [image], expected)
    c.leaves_nothing("no tensors", {"epoch": 3, "args": argparse.Namespace()}, [image])
    c.leaves_nothing("code", {"model": RunsCode()}, [image])


def check_berts(c):
    base = c.folder / "base"
    tensors = bert_classifier(c.args.minilm, base)
    texts = [word for text in TEXTS for word in ("--text", text)]
    expected, said = c.logits(base, texts)
    assert expected is not None, said
    for name, files in bert_files(tensors).items():
        model = c.folder / name
        shutil.copytree(base, model, ignore=shutil.ignore_patterns("*.safetensors"))
        for file, held in files.items():
            torch.save(held, model / file)
        c.converts(f"BERT, {name}", model, texts, expected)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--minilm", type=pathlib.Path, help="a folder with all-MiniLM-L6-v2")
    args = p.parse_args()
    print("| pickle | | good |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        c = Check(args, pathlib.Path(folder))
        check_vits(c)
        if args.minilm:
            check_berts(c)
        else:
            print("NOT AVAILABLE: MiniLM (--minilm DIR)")
    print(f"{c.count} conversion lines, {c.failed} failed")
    return 1 if c.failed else 0


if __name__ == "__main__":
    sys.exit(main())
