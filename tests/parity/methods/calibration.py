"""Contextual calibration (Zhao et al. 2021): nothing trains; the probabilities are divided by those
of inputs without content, which is a shift of the logits that folds into the head's bias. It is 0
as long as the model trains."""

import torch

from methods.term import Term


class Method(Term):
    options = {"inputs": "blank"}

    def frozen(self, base):
        return {"calibration.shift": base["head.bias"]}

    def logits(self, run, z):
        return z + run.p["calibration.shift"]


def content_free(logits, least=1e-8):
    """p_cf [classes] of the logits [inputs, classes] of inputs without content: the mean of their
    probabilities, which add up to 1."""
    p = torch.softmax(logits, -1).mean(0)
    return (p / p.sum()).clamp_min(least)


def shift(p_cf):
    """Of the logits: softmax(z - log p_cf) is p / p_cf, made to add up to 1."""
    return -torch.log(p_cf)
