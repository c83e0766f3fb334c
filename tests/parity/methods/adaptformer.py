"""AdaptFormer (Chen et al. 2022): a bottleneck beside the MLP. ViT: y = x1 +
drop_path(u) + s f(x1). BERT: h2 = LN(h1 + u + s f(h1))."""

from methods.term import Term, bottleneck, bottleneck_shapes, kaiming


class Method(Term):
    options = {"r": 8, "scale": 0.1, "act": "relu", "dropout": 0.0}
    part = "mlp.adaptformer"

    def added(self):
        out = {}
        for n in range(self.m.depth):
            out |= bottleneck_shapes(f"blocks.{n}.{self.part}", self.m.width, self.o.r)
        return out

    def initial(self, name, shape, g):
        return kaiming(shape, g) if name.endswith("_down") else super().initial(name, shape, g)

    def edge(self, run, block, name, value):
        if name != "u_dropped":
            return value
        x = run.edges[self.m.edges["mlp"]]
        return value + self.o.scale * bottleneck(run, f"blocks.{block}.{self.part}", x, self.o.act)
