"""The parallel adapter (He et al. 2022): a bottleneck beside the MLP, or beside
the attention, where it is added to the context in front of Wo."""

from methods import adaptformer
from methods.term import bottleneck


class Method(adaptformer.Method):
    options = {"r": 8, "site": "ffn", "scale": 1.0, "act": "relu"}

    def prepare(self):
        attention = self.o.site == "attn"
        self.part = "attn.parallel" if attention else "mlp.parallel"
        self.read = self.m.edges["attn" if attention else "mlp"]
        self.add = "c" if attention else "u_dropped"

    def edge(self, run, block, name, value):
        if name != self.add:
            return value
        f = bottleneck(run, f"blocks.{block}.{self.part}", run.edges[self.read], self.o.act)
        return value + self.o.scale * f
