"""AdaptFormer (Chen et al. 2022): a bottleneck beside the MLP. ViT: y = x1 + drop_path(u) + s
f(x1). BERT: h2 = LN(h1 + u + s f(h1))."""

from methods.term import Adapter


class Method(Adapter):
    options = {"r": 8, "scale": 0.1, "act": "relu", "dropout": 0.0}
    places = {"u_dropped": "mlp.adaptformer"}

    def edge(self, run, block, name, value):
        if name not in self.places:
            return value
        return value + self.f(run, block, name, run.edges[self.m.edges["mlp"]])
