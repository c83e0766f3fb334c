"""Traces of every method whose forward pass is that of methods/ itself, on pictures and on texts
one by one without padding, trained by the loop of selftest_train.py: what a trace must hold, and
that the replay finds what is changed in it."""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import methods
import selftest_edits as edits
import selftest_graft
import torch_bert
import torch_vit
from methods import childtuning
from selftest_models import graft_name
from selftest_train import BATCH, STEPS, Optimizer, Settings, Wiring


class Draw:
    """A mask of a place, which gets its shape where it is used."""

    shape = (-1,)

    def __init__(self, p, drawn, generator):
        self.p, self.drawn, self.generator = p, drawn, generator

    def reshape(self, *shape):
        shape = tuple(shape[0]) if len(shape) == 1 else shape
        shape = (1, *shape[1:]) if shape[0] == -1 else shape
        mask = (torch.rand(shape, generator=self.generator) >= self.p).float() / (1 - self.p)
        self.drawn.append(mask.reshape(-1, shape[-1]))
        return mask


class Draws:
    """What a pass asks for its masks; keeps those of a step."""

    def __init__(self, p, generator):
        self.p, self.generator, self.drawn = p, generator, {}

    def __bool__(self):
        return self.p > 0

    def get(self, site):
        if not site.endswith(".dropout"):
            return None
        return Draw(self.p, self.drawn.setdefault(site, []), self.generator)

    def step(self):
        out = {site: torch.cat(masks) for site, masks in self.drawn.items()}
        self.drawn.clear()
        return out


class Functional:
    """A small model of selftest_models.py as a dictionary of parameters, under a method."""

    def __init__(self, subject, kind, text):
        torch.manual_seed(3)
        self.subject, self.kind, self.text = subject, kind, text
        model = subject.model()
        for name, p in model.named_parameters():
            norm = "norm" in name.lower() and name.endswith("weight")
            torch.nn.init.normal_(p, 1.0 if norm else 0.0, 0.15)
        self.files = {graft_name(n, subject.names): p.detach().clone()
                      for n, p in model.named_parameters()}  # fmt: skip
        if kind == "ViT":
            self.config = torch_vit.infer_config(self.files, {"heads": 2, "eps": 1e-6})
        else:
            self.config = torch_bert.facts(subject.told.to_dict())
        self.method = methods.compose(text, self.files, self.config)
        g = torch.Generator().manual_seed(4)
        self.base = {k: self.noised(v, g) for k, v in self.files.items()}
        started = {k: v.float() for k, v in self.method.initial(g).items()}
        trained = self.method.trained(self.base)
        self.params = {
            k: v.clone().requires_grad_(k in trained) for k, v in (self.base | started).items()
        }
        self.draws = Draws(self.method.dropout, torch.Generator().manual_seed(5))
        self.add_frozen()

    def noised(self, w, g):
        for name, options in methods.terms(self.text):
            if name == "noisytune":
                half = float(options.get("lambda", 0.15)) * w.std().item() / 2
                return w + (torch.rand(w.shape, generator=g) * 2 - 1) * half
        return w

    def logits(self, pick):
        if self.kind == "ViT":
            images = self.subject.x[pick]
            return torch_vit.forward(self.params, images, self.config, self.method, self.draws)
        texts = (self.subject.encoded[row] for row in pick.tolist())
        each = (torch_bert.forward(self.params, t, self.config, self.method, self.draws)
                for t in texts)  # fmt: skip
        return torch.cat(list(each))

    def gradient_masks(self, named):
        """Of childtuning(mode=f), drawn for a step."""
        rule = next((t for t in self.method.terms if isinstance(t, childtuning.Method)), None)
        if rule is None or rule.o.mode == "d":
            return {}
        g = self.draws.generator
        found = {k: childtuning.bernoulli(p.shape, rule.o.p, g) for k, p in named.items()}
        return {f"childtuning.{k}": m.float() for k, m in found.items()}

    def add_frozen(self):
        """Masks of childtuning(mode=d), from the first batch; the shift of calibration is 0."""
        shapes = self.method.frozen({k: v.shape for k, v in self.base.items()})
        if "calibration.shift" in shapes:
            self.params["calibration.shift"] = torch.zeros(shapes["calibration.shift"])
        rule = next((t for t in self.method.terms if isinstance(t, childtuning.Method)), None)
        if rule is None or rule.o.mode == "f":
            return
        pick = torch.arange(BATCH)
        loss = F.cross_entropy(self.logits(pick), torch.tensor(self.subject.labels)[pick])
        named = {k: p for k, p in self.params.items() if p.requires_grad}
        found = dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
        masks, _ = childtuning.masks(childtuning.fisher([found]), rule.o.p)
        self.params |= {f"childtuning.mask.{k}": m for k, m in masks.items()}


def make_trace(folder, model, settings):
    (folder / "trace").mkdir(parents=True)
    (folder / "run").mkdir()
    start = {k: v.detach() for k, v in model.params.items()}
    save_file(start, folder / "trace/init.safetensors")
    named = {k: p for k, p in model.params.items() if p.requires_grad}
    optimizer, labels = Optimizer(named, settings, Wiring()), torch.tensor(model.subject.labels)
    g, rows, lines, masks = torch.Generator().manual_seed(1), {}, [], {}
    for step in range(STEPS):
        pick = torch.randperm(len(labels), generator=g)[: BATCH - step % 2]
        loss = F.cross_entropy(
            model.logits(pick), labels[pick], label_smoothing=settings.label_smoothing
        )
        for p in named.values():
            p.grad = None
        loss.backward()
        here = model.draws.step() | model.gradient_masks(named)
        optimizer.clip()
        for name, p in named.items():
            p.grad = model.method.gradient(name, p.grad, here, model.params)
        optimizer.step(settings.rate(step))
        rows[f"step_{step:06}"] = pick.numpy().astype(np.int32)
        line = {"step": step, "loss": loss.item(), "lr": settings.rate(step)}
        lines.append(json.dumps(line))
        masks |= {f"step_{step:06}/{site}": mask.numpy() for site, mask in here.items()}
    np.savez(folder / "trace/batches.npz", **rows)
    if masks:
        np.savez(folder / "trace/masks.npz", **masks)
    (folder / "trace/loss.jsonl").write_text("\n".join(lines) + "\n")
    save_file({k: p.detach() for k, p in named.items()}, folder / "trace/final.safetensors")
    config = {**vars(settings), **model.subject.config}
    if model.kind == "ViT":  # the files' tensors, for what is held against them
        save_file(model.files, folder / "model.safetensors")
        config |= {"model": str(folder / "model.safetensors"), "heads": 2, "eps": 1e-6}
    else:
        model.subject.told.save_pretrained(folder / "model")
        tensors = torch_vit.rename(model.files, torch_bert.TRANSFORMERS)
        save_file(tensors, folder / "model/model.safetensors")
        config |= {"model": str(folder / "model"), "tokenizer": model.subject.config["model"]}
    (folder / "run/config.json").write_text(json.dumps(config))


def without_masks(folder):
    (folder / "trace/masks.npz").unlink()


def run(test, subjects):
    for kind, (subject, _) in subjects.items():
        more = selftest_graft.OF_TEXTS if kind == "BERT" else ()
        for text, other in selftest_graft.METHODS + more:
            name = f"{kind} of methods/, {text}"
            changes = {"one tensor that moved by 1 % more": edits.scale_most}
            if other:
                changes[f"replayed as {other}"] = edits.edit_config(method=other)
            if "dropout" in text or "childtuning(p" in text:
                changes["no masks"] = without_masks
            if not test.wanted(name) and not any(test.wanted(f"{name}, {c}") for c in changes):
                continue
            source = test.folder()
            model = Functional(subject, kind, text)
            make_trace(source, model, Settings(text, lr=5e-3))
            if test.wanted(name):
                test.expect(0, name, source)
            test.edits(name, source, changes)
