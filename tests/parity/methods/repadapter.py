"""RepAdapter (Luo et al. 2023): f(x) = x + s (G(drop(A x + a)) + b) in front of
q, k, v and of fc1, with G dense within each of `groups` groups."""

import torch
import torch.nn.functional as F

from methods.term import Term, split, xavier


class Method(Term):
    options = {"r": 8, "groups": 2, "scale": 1.0, "dropout": 0.0, "site": "both"}

    def prepare(self):
        self.roles = {}  # of a dense layer: the adapter that it reads
        if self.o.site != "mlp":
            self.roles |= dict.fromkeys(("attn.q", "attn.k", "attn.v"), "attn.rep")
        if self.o.site != "attn":
            self.roles["mlp.fc1"] = "mlp.rep"

    def added(self):
        r, width, out = self.o.r, self.m.width, {}
        for n in range(self.m.depth):
            for role in dict.fromkeys(self.roles.values()):
                site = f"blocks.{n}.{role}"
                out[f"{site}_a"], out[f"{site}_a_bias"] = (r, width), (r,)
                out[f"{site}_b"], out[f"{site}_b_bias"] = (width, r // self.o.groups), (width,)
        return out

    def initial(self, name, shape, g):
        return xavier(shape, g) if name.endswith("rep_a") else super().initial(name, shape, g)

    def reads(self, run, site, x):
        block, role = split(site)
        if role not in self.roles:
            return x
        prefix = block + self.roles[role]
        if prefix not in run.edges:  # q, k and v read the same
            run.edges[prefix] = self.adapted(run, prefix, x)
        return run.edges[prefix]

    def adapted(self, run, prefix, x):
        p = run.p
        hidden = F.linear(x, p[f"{prefix}_a"], p[f"{prefix}_a_bias"])
        groups = run.drop(f"{prefix}.dropout", hidden).chunk(self.o.groups, -1)
        parts = zip(groups, p[f"{prefix}_b"].chunk(self.o.groups, 0))
        up = torch.cat([F.linear(h, b) for h, b in parts], -1)
        return x + self.o.scale * (up + p[f"{prefix}_b_bias"])
