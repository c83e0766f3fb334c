"""FacT (Jie and Deng 2023): low-rank updates of all dense layers of the blocks through factors
U [r,D] and V [D,r] that the whole model shares.

TT: s V drop(K U x), with K [r,r]; fc1: K [cr,r], V on each of the c = M/D parts of K U x; fc2:
K [r,cr], U on each part of x. TK: K is made of C [r,r,r] and P [r, (4 + 2c) L]: F = C x P, of whose
slices F_j = F[:,:,j] a block's 0..3 are those of q, k, v, o, K = F_j'. Those of fc1 and of fc2,
[r,r,c], are read as [r, r c], so that column e is slice e mod c at its column e / c."""

import torch
import torch.nn.functional as F

from methods.term import DENSE, Term, kaiming, matches, split, uniform, xavier


class Method(Term):
    options = {"form": "tt", "r": 16, "scale": 1.0, "dropout": 0.0, "targets": "attn.*|mlp.*"}

    def prepare(self):
        if self.m.mlp_width % self.m.width:
            raise SystemExit("fact: the MLP's width must be a multiple of the model's")
        self.parts = self.m.mlp_width // self.m.width
        self.slices = 4 + 2 * self.parts  # of a block

    def added(self):
        r, c, m = self.o.r, self.parts, self.m
        out = {"fact.u": (r, m.width), "fact.v": (m.width, r)}
        if self.o.form == "tk":
            return out | {"fact.core": (r, r * r), "fact.slices": (r, self.slices * m.depth)}
        for n in range(m.depth):
            for role in DENSE:
                shape = {"mlp.fc1": (c * r, r), "mlp.fc2": (r, c * r)}.get(role, (r, r))
                if matches(f"blocks.{n}.{role}", self.o.targets):
                    out[f"blocks.{n}.{role}.fact_core"] = shape
        return out

    def initial(self, name, shape, g):
        if name == "fact.core":
            return uniform(shape, 3**0.5 / self.o.r, g)
        if name == "fact.slices":
            return xavier(shape, g)
        return super().initial(name, shape, g) if name == "fact.v" else kaiming(shape, g)

    def core(self, p, site):
        """K of a layer: [r,r], [cr,r] of fc1, [r,cr] of fc2."""
        if self.o.form == "tt":
            return p[f"{site}.fact_core"]
        (block, role), r, c = split(site), self.o.r, self.parts
        every = p["fact.core"].reshape(r, r, r) @ p["fact.slices"]
        first = int(block.split(".")[1]) * self.slices
        if role.startswith("attn."):
            return every[:, :, first + DENSE.index(role)].T
        first += 4 if role == "mlp.fc1" else 4 + c
        wide = every[:, :, first : first + c].reshape(r, r * c)
        return wide.T if role == "mlp.fc1" else wide

    def branch(self, run, site, x):
        if split(site)[1] not in DENSE or not matches(site, self.o.targets):
            return None
        u, v, r = run.p["fact.u"], run.p["fact.v"], self.o.r
        down = torch.cat([F.linear(part, u) for part in x.split(self.m.width, -1)], -1)
        middle = run.drop(f"{site}.fact.dropout", F.linear(down, self.core(run.p, site)))
        return self.o.scale * torch.cat([F.linear(part, v) for part in middle.split(r, -1)], -1)
