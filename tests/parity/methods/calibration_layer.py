"""A layer behind the logits, from the identity (null prompts, Logan et al. 2021)."""

import torch

from methods.term import Term

WEIGHT, BIAS = "calibration_layer.weight", "calibration_layer.bias"


class Method(Term):
    def added(self):
        return {WEIGHT: (self.m.classes, self.m.classes), BIAS: (self.m.classes,)}

    def initial(self, name, shape, generator):
        return torch.eye(shape[0]) if name == WEIGHT else torch.zeros(shape)

    def logits(self, run, z):
        return z @ run.p[WEIGHT].T + run.p[BIAS]
