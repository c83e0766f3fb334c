"""Three steps of training a form in whole, in graft and by the library's own gradients."""

import copy
import json
import re

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

MEAN = STD = 0.5
RATE, MOMENTUM = 0.05, 0.9
# ||difference|| / ||update|| of each tensor, and of all together.
TENSOR, TOGETHER = 2e-3, 2e-4
# What adds one number to all scores of a query: its true gradient is 0, and it follows rounding.
KEYS = re.compile(r"(k_proj|key|k_norm)\.bias$")


def words(size):
    """Options of graft train beside the model, the data and the directories."""
    number = f"{MEAN}|{MEAN}|{MEAN}"
    return [
        *("--method", "full", "--optimizer", "sgd", "--momentum", MOMENTUM, "--lr", RATE),
        *("--schedule", "constant", "--warmup", 0, "--weight-decay", 0, "--label-smoothing", 0),
        *("--preprocess", f"resize={size},filter=bicubic,mean={number},std={number}"),
    ]


def pictures(data, size):
    """(images, labels) in the order of the training list."""
    lines = [line.rsplit(" ", 1) for line in (data / "train.txt").read_text().splitlines()]
    small = [Image.open(data / file).resize((size, size), Image.BICUBIC) for file, _ in lines]
    x = torch.from_numpy(np.stack([np.asarray(image) for image in small])).float() / 255
    return (x.permute(0, 3, 1, 2) - MEAN) / STD, torch.tensor([int(label) for _, label in lines])


def start(final, base, trace):
    """The library's model before training: what `final` is, with the tensors of the base and the
    fresh head that the trace has; None where it has more heads than one."""
    model, told = copy.deepcopy(final), base.state_dict()
    init = load_file(trace / "init.safetensors")
    fresh = {k for k, v in model.state_dict().items() if told[k].shape != v.shape}
    ends = {k.rsplit(".", 1)[1] for k in fresh}
    if len(fresh) != 2 or ends != {"weight", "bias"}:
        return None
    for k in fresh:
        told[k] = init[f"head.{k.rsplit('.', 1)[1]}"]
    model.load_state_dict(told)
    return model


def train(model, data, trace, size):
    """(losses) of SGD on the batches of the trace; the model is trained."""
    x, y = pictures(data, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    losses = []
    with np.load(trace / "batches.npz") as batches:
        for name in sorted(batches.files):
            rows = torch.from_numpy(batches[name].astype(np.int64))
            logits = model(x[rows])
            loss = F.cross_entropy(getattr(logits, "logits", logits), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def compare(base, ours, theirs):
    """(of all tensors together, the worst tensor's, its name): difference over update."""
    difference = movement = 0.0
    worst = 0.0, ""
    for name, p in ours.named_parameters():
        if p.grad is None or KEYS.search(name):
            continue
        mine, other = p.detach() - base[name], theirs[name] - base[name]
        apart, moved = (mine - other).norm().item(), mine.norm().item()
        worst = max(worst, (apart / max(moved, 1e-12), name))
        difference, movement = difference + apart**2, movement + moved**2
    return (difference / max(movement, 1e-30)) ** 0.5, *worst


def check(judge, case, data, folder):
    """A row of the table, or none where graft does not read or write the form alone."""
    size = np.load(case.inputs[0]).shape[-1]
    run, trace, written = folder / "full", folder / "trace", folder / "written"
    told = ["--data", data, "--epochs", 1, "--batch-size", 4, "--val-split", "none", "--seed", 7]
    told += ["--model", case.model, *case.options, *words(size), "--out", run, "--trace", trace]
    result = judge.graft("train", *told)
    if result.returncode == 0:
        told = ["--run", run, "--format", case.own, "--merged", "--out", written]
        result = judge.graft("export", *told)
    if result.returncode:
        note = f"exit {result.returncode}: {result.stderr}"
        return judge.row(case.name, "full training", "wrong", note)
    reader = case.readers[case.own]
    theirs, base = reader(written, 3), reader(case.model, len(case.logits[0]))
    ours = start(theirs, base, trace)
    if ours is None:
        return None
    before = copy.deepcopy(ours.state_dict())
    losses = train(ours, data, trace, size)
    lines = (trace / "loss.jsonl").read_text().splitlines()
    apart = max(abs(json.loads(line)["loss"] - loss) for line, loss in zip(lines, losses))
    together, worst, name = compare(before, ours, theirs.state_dict())
    good = apart < 1e-4 and together < TOGETHER and worst < TENSOR
    note = f"losses {apart:.1e}, all updates {together:.1e}, worst {worst:.1e} {name}"
    return judge.row(case.name, "full training", "equal" if good else "wrong", note)
