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

    def rows(self, run, name, sequences):
        """The prompt of each sequence, under its own mask of dropout."""
        prompt = run.p[name].expand(sequences, -1, -1)
        mask = run.masks.get(f"{name}.dropout")
        return prompt if mask is None else prompt * mask.reshape(prompt.shape)

    def embedded(self, run, x):
        return run.insert(x, self.rows(run, self.names[0], len(x)), 1)
