"""VPT-shallow (Jia et al. 2022): rows behind the class token, put in behind
the position embeddings (BERT: behind the embeddings' norm)."""

from methods.term import Term, uniform


class Method(Term):
    options = {"tokens": 10, "dropout": 0.0}
    names = ["blocks.0.prompt"]

    def added(self):
        return {name: (self.o.tokens, self.m.width) for name in self.names}

    def initial(self, name, shape, g):
        """The published bound, of patches of 16x16 pixels."""
        return uniform(shape, (6 / (3 * 16 * 16 + self.m.width)) ** 0.5, g)

    def embedded(self, run, x):
        name = self.names[0]
        return run.insert(x, run.drop_rows(f"{name}.dropout", run.p[name], x, 1), 1)
