"""The MAM adapter (He et al. 2022): a prefix in every attention and a scaled parallel adapter
beside every MLP."""

from methods import parallel, prefix
from methods.term import Term


class Method(Term):
    options = {"tokens": 16, "r": 16, "scale": 2.0, "mlp": 0, "act": "relu"}

    def prepare(self):
        o = self.o
        self.prefix = prefix.Method(self.m, {"tokens": o.tokens, "mlp": o.mlp})
        self.parallel = parallel.Method(self.m, {"r": o.r, "scale": o.scale, "act": o.act})
        self.edge, self.keys_values = self.parallel.edge, self.prefix.keys_values

    def added(self):
        return self.prefix.added() | self.parallel.added()

    def initial(self, name, shape, g):
        part = self.parallel if ".parallel_" in name else self.prefix
        return part.initial(name, shape, g)
