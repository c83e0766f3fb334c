"""The parallel adapter (He et al. 2022): a bottleneck beside the MLP, or beside the attention,
where it is added to the context in front of Wo."""

from methods.term import Adapter


class Method(Adapter):
    options = {"r": 8, "site": "ffn", "scale": 1.0, "act": "relu", "dropout": 0.0}

    def prepare(self):
        attention = self.o.site == "attn"
        self.places = {"c": "attn.parallel"} if attention else {"u_dropped": "mlp.parallel"}
        self.read = self.m.edges["attn" if attention else "mlp"]

    def edge(self, run, block, name, value):
        if name not in self.places:
            return value
        return value + self.f(run, block, name, run.edges[self.read])
