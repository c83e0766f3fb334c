"""Black-box tuning (Sun et al. 2022): P rows A z of d numbers z, added to what the embedding makes
of P filler words behind [CLS] (mode=add), or in front of what it makes of the text (mode=cat). The
loss is differentiable in z, so that its gradients can be compared."""

import torch

from methods.term import Term


class Method(Term):
    options = {"tokens": 50, "d": 500, "mode": "add", "sigma": 1.0}
    options |= {"population": 20, "budget": 8000}

    def added(self):
        return {"bbt.z": (1, self.o.d)}

    def frozen(self, base):
        return {"bbt.projection": (self.o.tokens * self.m.width, self.o.d)}

    def words(self, run, x):
        if self.o.mode == "add":
            last = torch.arange(x.shape[1])
            run.positions = torch.where(last > 0, last + self.o.tokens, last)
        return x

    def filler(self, run):
        words = run.p["embed.word.weight"]
        first = min(1000, len(words) - self.o.tokens)
        sums = words[first : first + self.o.tokens] + run.p["embed.type.weight"][:1]
        return run.norm("embed.norm", sums + run.p["embed.position.weight"][1 : self.o.tokens + 1])

    def embedded(self, run, x):
        rows = (run.p["bbt.projection"] @ run.p["bbt.z"][0]).reshape(self.o.tokens, self.m.width)
        if self.o.mode == "cat":
            run.first += self.o.tokens
            return run.insert(x, rows, 0)
        return run.insert(x, self.filler(run) + rows, 1)
