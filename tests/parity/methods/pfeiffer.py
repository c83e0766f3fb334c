"""Pfeiffer's placement (Pfeiffer et al. 2021): one bottleneck a block, behind the MLP. ViT:
y + s f(y) with the block's y. BERT: t = LN(h1 + u), h2 = LN(h1 + u + s f(t)), twice by the same
norm."""

from methods import houlsby
from methods.term import Adapter, normal


class Method(houlsby.Method):
    options = {"r": 8, "act": "relu", "scale": 1.0, "ln": False}

    def prepare(self):
        self.places = {"y" if self.m.family == "vit" else "u_dropped": "mlp.pfeiffer"}

    def initial(self, name, shape, g):
        if not name.endswith(("_down", "_up")):
            return Adapter.initial(self, name, shape, g)
        return normal(shape, 0.02, g)

    def edge(self, run, block, name, value):
        if self.m.family == "vit" or name not in self.places:
            return super().edge(run, block, name, value)
        t = run.norm(f"blocks.{block}.norm2", run.edges["h1"] + value)
        return value + self.f(run, block, name, t)
