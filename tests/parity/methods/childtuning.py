"""Child-Tuning (Xu et al. 2021): all parameters train, and each gradient is masked between clipping
and the optimizer, whose momentum and weight decay know nothing of it.

mode=f: every step and tensor has a mask of its own, Bernoulli(p) / p; a trace has it among the
masks of the step as childtuning.NAME. mode=d: one mask of zeros and ones for the whole training, of
the numbers whose Fisher score is in the top fraction p; parameters outside the blocks are not
masked. The mask is a parameter that does not train, childtuning.mask.NAME."""

import numpy as np
import torch

from methods.term import Term


class Method(Term):
    options = {"mode": "f", "p": 0.3}

    def prepare(self):
        self.gradient_rate = 1 - self.o.p if self.o.mode == "f" else None

    def trains(self, name):
        return True

    def frozen(self, base):
        if self.o.mode == "f":
            return {}
        return {f"childtuning.mask.{k}": s for k, s in base.items() if k.startswith("blocks.")}

    def gradient(self, name, grad, masks, params):
        mask = params.get(f"childtuning.mask.{name}")
        if self.o.mode == "f":
            mask = masks.get(f"childtuning.{name}")
            if mask is None:
                raise SystemExit(f"FAIL masks.npz: no childtuning.{name}")
        return grad if mask is None else grad * mask.reshape(grad.shape)


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
