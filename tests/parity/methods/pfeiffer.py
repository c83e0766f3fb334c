"""Pfeiffer's placement (Pfeiffer et al. 2021): one bottleneck a block, behind the MLP. ViT:
y + s f(y) with the block's y. BERT: t = LN(h1 + u), h2 = LN(h1 + u + s f(t)), twice by the same
norm."""

from methods import houlsby
from methods.term import bottleneck, normal


class Method(houlsby.Method):
    options = houlsby.Method.options | {"act": "relu"}
    places = {"y": "mlp.pfeiffer"}

    def initial(self, name, shape, g):
        return normal(shape, 0.0 if name.endswith("bias") else 0.02, g)

    def edge(self, run, block, name, value):
        if self.m.family == "vit":
            return super().edge(run, block, name, value)
        if name != "u_dropped":
            return value
        t = run.norm(f"blocks.{block}.norm2", run.edges["h1"] + value)
        f = bottleneck(run, f"blocks.{block}.mlp.pfeiffer", t, self.o.act)
        return value + self.o.scale * f
