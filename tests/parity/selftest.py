"""Tests the replay itself: traces of a ViT and of a BERT made by transformers and peft must pass;
what a wrong wiring of one option makes, and every changed trace, must not.

usage: python selftest.py [--graft GRAFT]        (peers' environment)

With --graft its own traces must pass, too, and must not under another config.json.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore")

import numpy as np
import torch
from safetensors.torch import save_file

import replay as replay_module
import selftest_edits as edits
import selftest_functional
import selftest_graft
import selftest_train as mistakes
from selftest_models import Pictures, Texts, graft_name
from selftest_train import BATCH, Masked, Path, Settings, Wiring, train


def dropout(method):
    found = re.search(r"dropout=([\d.]+)", method)
    return float(found[1]) if found else 0.0


def place_masks(model, settings, wiring, names):
    """{name in masks.npz: what draws it} of LoRA's dropout and of drop path."""
    out, p = {}, dropout(settings.method)
    for name, module in model.named_modules():
        site = graft_name(name + ".", names).rstrip(".")
        if p > 0 and hasattr(module, "lora_dropout"):
            out[f"{site}.dropout"] = module.lora_dropout["default"] = Masked(p, wiring)
        block = re.fullmatch(r"blocks\.(\d+)\.(attn|mlp)", site)
        if settings.drop_path > 0 and block and int(block[1]) > 0:
            # The rate grows from 0 in the first block to the whole in the last, here of two.
            path = Path(settings.drop_path, wiring)
            out[f"blocks.{block[1]}.drop_path{1 if block[2] == 'attn' else 2}"] = path
            module.register_forward_hook(
                lambda module, x, y, path=path: (path(y[0]), *y[1:])
                if isinstance(y, tuple)
                else path(y)
            )
    return out


def make_model(subject, method, wiring):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    model = subject.model()
    for name, p in model.named_parameters():
        norm = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(p, 1.0 if norm else 0.0, 0.15)
    if method.startswith("lora"):
        saved = ["classifier"]
        model = get_peft_model(
            model,
            LoraConfig(r=4, lora_alpha=8, target_modules=subject.targets, modules_to_save=saved),
        )
        for module in model.modules():
            if hasattr(module, "lora_dropout"):
                module.scaling["default"] *= wiring.lora_scale
        return model
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


def make_trace(folder, subject, settings, padded=False, **mistake):
    """What Graft would write, from a training loop that shares no code with the replay."""
    wiring = Wiring(**mistake)
    model = make_model(subject, settings.method, wiring)
    (folder / "trace").mkdir(parents=True)
    (folder / "run").mkdir()
    save_file(parameters(model, subject.names), folder / "trace/init.safetensors")
    moving = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    named = {graft_name(n, subject.names): p for n, p in moving}
    masked = place_masks(model, settings, wiring, subject.names)
    rows, lines, masks = train(model, subject, named, masked, settings, wiring)
    table = np.stack([np.pad(r, (0, BATCH - len(r)), constant_values=-1) for r in rows])
    np.savez(
        folder / "trace/batches.npz",
        **({"rows": table} if padded else {f"step_{i:06}": r for i, r in enumerate(rows)}),
    )
    if masks:
        np.savez(folder / "trace/masks.npz", **masks)
    (folder / "trace/loss.jsonl").write_text("\n".join(lines) + "\n")
    save_file({k: p.detach() for k, p in named.items()}, folder / "trace/final.safetensors")
    config = {**dataclasses.asdict(settings), **subject.config}
    (folder / "run/config.json").write_text(json.dumps(config))


def replay(folder):
    """(exit code, what it printed)"""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            # Small models agree ten times better than those whose figures agreement.py has.
            words = ["--trace", folder / "trace", "--run", folder / "run", "--strict", 0.1]
            code = replay_module.main([str(w) for w in words])
        except SystemExit as e:
            code = e.code
    return (1 if isinstance(code, str) else code), f"{said.getvalue()}{code}"


class Test:
    """Runs the replay on traces and counts what is not as expected."""

    def __init__(self, scratch, only):
        self.scratch, self.only, self.failures, self.count, self.index = scratch, only, 0, 0, 0

    def wanted(self, name):
        return re.search(self.only, name) is not None

    def folder(self):
        self.index += 1
        return self.scratch / f"{self.index}"

    def expect(self, code, name, folder):
        found, said = replay(folder)
        good = found == code
        self.failures += not good
        self.count += 1
        print(f"{'ok  ' if good else 'FAIL'} exit {found}, expected {code}: {name}", flush=True)
        if not good or (code == 0 and "-v" in sys.argv):
            print(said)

    def fail(self, name, why):
        self.failures += 1
        self.count += 1
        print(f"FAIL {name}: {why}", flush=True)

    def edits(self, name, source, edits):
        """A trace that passed, changed afterwards."""
        for what, change in edits.items():
            if not self.wanted(f"{name}, {what}"):
                continue
            folder = self.folder()
            shutil.copytree(source, folder)
            change(folder)
            self.expect(1, f"{name}, {what}", folder)
            shutil.rmtree(folder)

    def made(self, name, subject, settings, edits, mistakes, padded=False):
        """The right loop, the right loop's trace changed, and loops that are wired wrongly."""
        source = self.folder()
        make_trace(source, subject, settings, padded)
        if self.wanted(name):
            self.expect(0, name, source)
        self.edits(name, source, edits)
        for what, mistake in mistakes.items():
            if not self.wanted(f"{name}, wired: {what}"):
                continue
            folder = self.folder()
            make_trace(folder, subject, settings, padded, **mistake)
            self.expect(1, f"{name}, wired: {what}", folder)
            shutil.rmtree(folder)
        shutil.rmtree(source)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, help="the graft command, for traces of its own")
    p.add_argument("--only", default="", help="tests whose name has this pattern")
    p.add_argument("-v", action="store_true", help="figures of what passes")
    args = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        test, rng = Test(scratch, args.only), np.random.default_rng(0)
        subjects = {
            "ViT": (Pictures(scratch / "pictures", rng), edits.VIT),
            "BERT": (Texts(scratch / "texts", rng), edits.BERT),
        }
        lora = "lora(r=4, alpha=8)"
        dropped = "lora(r=4, alpha=8, dropout=0.25)"
        for kind, (subject, more) in subjects.items():
            test.made(
                f"{kind}, full", subject, Settings("full", clip=1.5),
                edits.ANY | edits.ADAMW | more, mistakes.ADAMW,
            )
            test.made(
                f"{kind}, full by SGD", subject,
                Settings("full", "sgd", lr=0.05, schedule="linear", clip=1.5),
                edits.SGD, mistakes.SGD,
            )
            test.made(f"{kind}, linear", subject, Settings("linear", warmup=0), {}, {}, True)
            test.made(f"{kind}, bitfit", subject, Settings("bitfit", schedule="constant"), {}, {})
            test.made(f"{kind}, LoRA", subject, Settings(lora), edits.LORA, mistakes.LORA)
            test.made(
                f"{kind}, LoRA with dropout", subject, Settings(dropped),
                edits.DROPOUT, mistakes.DROPOUT,
            )
        test.made(
            "ViT, drop path", subjects["ViT"][0], Settings("full", drop_path=0.3),
            edits.DROPOUT | edits.PATH, mistakes.PATH,
        )
        selftest_functional.run(test, subjects)
        if args.graft:
            selftest_graft.run(test, args.graft, subjects)
    print(f"{test.count} replays, {test.failures} not as expected")
    return 1 if test.failures or not test.count else 0


if __name__ == "__main__":
    sys.exit(main())
