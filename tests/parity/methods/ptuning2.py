"""P-Tuning v2 (Liu et al. 2022): keys and values as in Prefix-Tuning, as
parameters themselves. With `shift` the positions of a text's tokens start at P."""

from methods import prefix
from methods.term import normal


class Method(prefix.Method):
    options = {"tokens": 20, "shift": False}
    kind = "ptuning2"

    def prepare(self):
        self.o.mlp = 0

    def initial(self, name, shape, g):
        return normal(shape, 0.02, g)
