"""Prefix-Tuning (Li and Liang 2021): P keys and P values in front of those of
every attention. With mlp > 0 they are up(tanh(down E)) [P, 2LD], block by block K then V; with
mlp = 0 they are parameters themselves."""

import torch
import torch.nn.functional as F

from methods.term import Term, kaiming, normal, uniform


class Method(Term):
    options = {"tokens": 20, "mlp": 512, "dropout": 0.0, "shift": False}
    kind = "prefix"

    def words(self, run, x):
        """With `shift` the positions of a text's tokens start at P."""
        run.shift = self.o.tokens if self.o.shift else 0
        return x

    def added(self):
        rows, middle, m = self.o.tokens, self.o.mlp, self.m
        if middle == 0:
            names = [f"blocks.{n}.attn.{self.kind}" for n in range(m.depth)]
            return {f"{n}_{part}": (rows, m.width) for n in names for part in "kv"}
        wide = 2 * m.depth * m.width
        return {
            "prefix.tokens": (rows, m.width),
            "prefix.down.weight": (middle, m.width),
            "prefix.down.bias": (middle,),
            "prefix.up.weight": (wide, middle),
            "prefix.up.bias": (wide,),
        }

    def initial(self, name, shape, g):
        if name.endswith(".bias"):
            return uniform(shape, (self.m.width if ".down" in name else self.o.mlp) ** -0.5, g)
        return kaiming(shape, g) if name.endswith(".weight") else normal(shape, 1.0, g)

    def pair(self, run, block):
        """(K, V) [P, D] of a block."""
        p = run.p
        if self.o.mlp == 0:
            return [p[f"blocks.{block}.attn.{self.kind}_{part}"] for part in "kv"]
        middle = F.linear(p["prefix.tokens"], p["prefix.down.weight"], p["prefix.down.bias"])
        all_of = F.linear(torch.tanh(middle), p["prefix.up.weight"], p["prefix.up.bias"])
        return all_of.split(self.m.width, 1)[2 * block : 2 * block + 2]

    def keys_values(self, run, block, k, v):
        out = []
        for part, rows, x in zip("kv", self.pair(run, block), (k, v)):
            site = f"blocks.{block}.attn.{self.kind}_{part}.dropout"
            out.append(torch.cat([run.drop_rows(site, rows, x, 0), x], 1))
        return out
