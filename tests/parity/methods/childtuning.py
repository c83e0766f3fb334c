"""Child-Tuning (Xu et al. 2021): all parameters train, and each gradient is masked between clipping
and the optimizer, whose momentum and weight decay know nothing of it.

mode=f: every step and tensor has a mask of its own, Bernoulli(p) / p. mode=d: one mask of zeros and
ones for the whole training, of the numbers whose Fisher score is in the top fraction p; parameters
outside the blocks are not masked. A trace has masks as NAME.gradient, those of mode=d at its first
step alone."""

import numpy as np
import torch

from methods.term import Term, matches


class Method(Term):
    options = {"mode": "f", "p": 0.3, "targets": "*"}

    def prepare(self):
        self.fixed = {}

    def trains(self, name):
        return True

    def masked(self, name):
        inside = self.o.mode == "f" or name.startswith("blocks.")
        return inside and matches(name.rpartition(".")[0], self.o.targets)

    def gradient(self, name, grad, masks):
        if not self.masked(name):
            return grad
        if self.o.mode == "f":
            return grad * masks[f"{name}.gradient"].reshape(grad.shape)
        if name not in self.fixed:
            self.fixed[name] = masks[f"{name}.gradient"].reshape(grad.shape)
        return grad * self.fixed[name]


def fisher(batches, most=1.0):
    """{name: score}: the mean over batches of the squared gradients of the batches' mean losses,
    each tensor clipped to a norm of `most` first."""
    out = {}
    for gradients in batches:
        for name, g in gradients.items():
            clipped = g * min(1.0, most / (g.norm().item() + 1e-6))
            out[name] = out.get(name, 0) + clipped.square() / len(batches)
    return out


def masks(scores, p):
    """({name: 0 or 1}, threshold): one percentile over all tensors of the blocks together."""
    inside = {name: s for name, s in scores.items() if name.startswith("blocks.")}
    every = np.concatenate([s.flatten().numpy() for s in inside.values()])
    threshold = np.percentile(every, (1 - p) * 100)
    return {name: (s >= threshold).to(s.dtype) for name, s in inside.items()}, threshold


def bernoulli(shape, p, generator):
    return (torch.rand(shape, generator=generator) < p).double() / p
