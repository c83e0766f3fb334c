"""The training loop of selftest.py, in which one part can be wired wrongly: it shares no code with
the replay or with torch.optim, and writes what Graft would write."""

import dataclasses
import json
import math
import re

import numpy as np
import torch
import torch.nn.functional as F

BATCH, STEPS, PER_EPOCH = 6, 20, 5


@dataclasses.dataclass
class Settings:
    """What config.json says."""

    method: str
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.25
    label_smoothing: float = 0.1
    clip: float = 0.0
    drop_path: float = 0.0

    def rate(self, step):
        warm = math.floor(STEPS * self.warmup)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        done = (step - warm) / (STEPS - warm)
        if self.schedule == "linear":
            return self.lr * (1 - done)
        return self.lr * (1 + math.cos(math.pi * done)) / 2


@dataclasses.dataclass
class Wiring:
    """What the loop does beyond its settings. The defaults are right; each mistake changes one."""

    weight_decay: float = 1.0  # times that of the settings
    spared: str = ""  # a pattern of names that do not decay
    decay_in_gradient: bool = False  # of AdamW
    decay_apart: bool = False  # of SGD
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    eps_in_root: bool = False
    corrects_bias: bool = True
    correction_late: int = 0
    label_smoothing: float = 1.0
    rate_step: object = staticmethod(lambda step: step)  # whose rate is applied
    clips: bool = True
    clip: float = 1.0
    clips_each: bool = False
    momentum: float = 1.0
    dampening: float = 0.0
    nesterov: bool = False
    lora_scale: float = 1.0
    frozen: str = ""  # a pattern of names that do not move
    micro_batch: int = 0  # means of micro-batches are averaged as if they were of one size
    full_divisor: bool = False  # a partial batch is divided by a whole one's size
    labels_shifted: bool = False
    masks_rolled: bool = False  # an example, or the row of a text, has its neighbour's mask
    masks_late: bool = False  # a step has the masks of the one before
    masks_unscaled: bool = False  # 1, not 1 / keep, where it is kept
    masks_unscaled_in_trace: bool = False
    path_of_rows: bool = False  # drop path draws for each token


class Masked(torch.nn.Module):
    """Dropout that keeps its masks, one for each call of a step."""

    def __init__(self, p, wiring):
        super().__init__()
        self.p, self.wiring, self.drawn, self.before = p, wiring, [], {}

    def draw(self, shape):
        return (torch.rand(shape) >= self.p).float() / (1 - self.p)

    def take(self, shape):
        """The multiplier that is applied; what the trace will say is kept."""
        mask, w = self.draw(shape), self.wiring
        self.drawn.append(mask)
        if w.masks_rolled:
            return mask.roll(1, 0 if shape[0] > 1 else 1)
        if w.masks_late:
            before = self.before.get(shape, mask)
            self.before[shape] = mask
            return before
        return mask * (1 - self.p) if w.masks_unscaled or w.masks_unscaled_in_trace else mask

    def forward(self, x):
        return x * self.take(tuple(x.shape))

    def step(self):
        """Masks of the step so far, as rows."""
        masks = torch.cat([m.flatten(0, -2) for m in self.drawn])
        self.drawn.clear()
        return (masks > 0).float() if self.wiring.masks_unscaled_in_trace else masks


class Path(Masked):
    """Drop path: one multiplier for each image."""

    def take(self, shape):
        mask = super().take((shape[0], 1))
        if self.wiring.path_of_rows:
            return self.draw((*shape[:2], 1))
        return mask.reshape(-1, 1, 1)


class Optimizer:
    """The formulas of torch.optim's AdamW and SGD, with what is wired wrongly."""

    def __init__(self, named, settings, wiring):
        self.named, self.s, self.w, self.t = named, settings, wiring, 0
        self.state = {n: [torch.zeros_like(p), torch.zeros_like(p)] for n, p in named.items()}
        self.spared, self.frozen = (
            {n for n in named if pattern and re.search(pattern, n)}
            for pattern in (wiring.spared, wiring.frozen)
        )

    def step(self, lr):
        self.t += 1
        self.clip()
        update = self.adamw if self.s.optimizer == "adamw" else self.sgd
        with torch.no_grad():
            for name, p in self.named.items():
                if name not in self.frozen:
                    decay = self.s.weight_decay * self.w.weight_decay
                    update(name, p, lr, 0.0 if name in self.spared else decay)

    def clip(self):
        if not (self.s.clip and self.w.clips):
            return
        gradients = [p.grad for p in self.named.values()]
        most = self.s.clip * self.w.clip
        for group in [[g] for g in gradients] if self.w.clips_each else [gradients]:
            norm = sum(g.double().square().sum() for g in group).sqrt()
            for g in group:
                g.mul_(min(1.0, most / (norm.item() + 1e-6)))

    def adamw(self, name, p, lr, decay):
        (m, v), (b1, b2) = self.state[name], self.w.betas
        g = p.grad + decay * p if self.w.decay_in_gradient else p.grad
        if not self.w.decay_in_gradient:
            p.mul_(1 - lr * decay)
        m.mul_(b1).add_(g, alpha=1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        t = self.t + self.w.correction_late
        c1, c2 = (1 - b1**t, 1 - b2**t) if self.w.corrects_bias else (1.0, 1.0)
        root = (v / c2 + self.w.eps).sqrt() if self.w.eps_in_root else (v / c2).sqrt() + self.w.eps
        p.sub_(lr * (m / c1) / root)

    def sgd(self, name, p, lr, decay):
        buffer, momentum = self.state[name][0], self.s.momentum * self.w.momentum
        g = p.grad if self.w.decay_apart else p.grad + decay * p
        if self.w.decay_apart:
            p.mul_(1 - lr * decay)
        buffer.mul_(momentum).add_(g, alpha=1.0 if self.t == 1 else 1 - self.w.dampening)
        p.sub_(lr * (g + momentum * buffer if self.w.nesterov else buffer))


def loss_of(logits, labels, settings, wiring):
    smoothing = settings.label_smoothing * wiring.label_smoothing
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    if wiring.micro_batch:
        return torch.stack([part.mean() for part in each.split(wiring.micro_batch)]).mean()
    return each.sum() / (BATCH if wiring.full_divisor else len(each))


def train(model, subject, named, masked, settings, wiring):
    """(rows by step, lines of loss.jsonl, masks); the model is trained."""
    optimizer = Optimizer(named, settings, wiring)
    y = torch.tensor(subject.labels)
    if wiring.labels_shifted:
        y = y.roll(1)
    g, rows, lines, masks = torch.Generator().manual_seed(1), [], [], {}
    for step in range(STEPS):
        pick = torch.randperm(len(y), generator=g)[: BATCH - step % 2]
        rows.append(pick.numpy().astype(np.int32))
        loss = loss_of(subject.logits(model, pick), y[pick], settings, wiring)
        line = {"step": step, "loss": loss.item(), "lr": settings.rate(step)}
        lines.append(json.dumps(line))
        for site, dropout in masked.items():
            masks[f"step_{step:06}/{site}"] = dropout.step().numpy()
        for p in named.values():
            p.grad = None
        loss.backward()
        optimizer.step(settings.rate(wiring.rate_step(step)))
    return rows, lines, masks


def late(step):
    return max(0, step - 1)


def by_epoch(step):
    return step - step % PER_EPOCH


# Kind of run: what is wired wrongly. None of them may look like the right one.
OPTIMIZER = {
    "weight decay ignored": dict(weight_decay=0.0),
    "weight decay times 1.1": dict(weight_decay=1.1),
    "no decay of biases": dict(spared="bias$"),
    "no decay of norms": dict(spared="norm"),
    "label smoothing ignored": dict(label_smoothing=0.0),
    "label smoothing 0.0995": dict(label_smoothing=0.995),
    "warm-up one step late": dict(rate_step=late),
    "rate one step early": dict(rate_step=lambda step: step + 1),
    "schedule by epoch": dict(rate_step=by_epoch),
    "clipping ignored": dict(clips=False),
    "clipping at 1.1 of the norm": dict(clip=1.1),
    "each tensor clipped by itself": dict(clips_each=True),
    "the head does not move": dict(frozen=r"^head\."),
    "a bias does not move": dict(frozen=r"^blocks\.1\.mlp\.fc1\.bias$"),
    "mean of unequal micro-batches": dict(micro_batch=4),
    "a partial batch divided by a whole one": dict(full_divisor=True),
    "labels of the next row": dict(labels_shifted=True),
}
ADAMW = {
    **OPTIMIZER,
    "weight decay in the gradient": dict(decay_in_gradient=True),
    "beta1 0.91": dict(betas=(0.91, 0.999)),
    "beta2 0.9999": dict(betas=(0.9, 0.9999)),
    "beta2 0.99": dict(betas=(0.9, 0.99)),
    "eps 1e-6": dict(eps=1e-6),
    "eps within the root": dict(eps_in_root=True),
    "no correction of the bias": dict(corrects_bias=False),
    "correction of the bias one step late": dict(correction_late=1),
}
SGD = {
    **OPTIMIZER,
    "weight decay apart from the gradient": dict(decay_apart=True),
    "no momentum": dict(momentum=0.0),
    "momentum times 1.01": dict(momentum=1.01),
    "dampening": dict(dampening=0.1),
    "Nesterov's momentum": dict(nesterov=True),
}
DROPOUT = {
    "masks of the neighbour": dict(masks_rolled=True),
    "masks of the step before": dict(masks_late=True),
    "masks without their scale": dict(masks_unscaled=True),
    "masks without their scale in the trace, too": dict(masks_unscaled_in_trace=True),
}
LORA = {
    "LoRA's scale times 1.01": dict(lora_scale=1.01),
    "the head does not move": dict(frozen=r"^head\."),
    "lora_b does not move": dict(frozen=r"blocks\.1\.attn\.v\.lora_b$"),
}
PATH = {**DROPOUT, "drop path of tokens": dict(path_of_rows=True)}
