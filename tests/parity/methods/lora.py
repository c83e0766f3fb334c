"""LoRA (Hu et al. 2021): y + s B A drop(x), s = alpha / r or alpha / sqrt r."""

import math

import torch.nn.functional as F

from methods.term import DENSE, Term, kaiming, matches


class Method(Term):
    options = {
        "r": 8,
        "alpha": "r",
        "dropout": 0.0,
        "targets": "attn.q|attn.v",
        "rslora": False,
        "bias": "none",
    }

    def prepare(self):
        r = self.o.r
        alpha = float(r if self.o.alpha == "r" else self.o.alpha)
        self.scale = alpha / (math.sqrt(r) if self.o.rslora else r)
        self.shapes = {
            f"blocks.{n}.{role}": self.m.features(role)
            for n in range(self.m.depth)
            for role in DENSE
        }
        if self.m.family == "bert":
            self.shapes["pooler"] = (self.m.width, self.m.width)
        self.sites = [site for site in self.shapes if matches(site, self.o.targets)]

    def added(self):
        out = {}
        for site in self.sites:
            rows, columns = self.shapes[site]
            out[f"{site}.lora_a"] = self.o.r, columns
            out[f"{site}.lora_b"] = rows, self.o.r
        return out

    def initial(self, name, shape, g):
        return kaiming(shape, g) if name.endswith("lora_a") else super().initial(name, shape, g)

    def trains(self, name):
        site = name.removesuffix(".bias")
        if site == name or self.o.bias == "none":
            return False
        return self.o.bias == "all" or site in self.sites

    def branch(self, run, site, x):
        if site not in self.sites:
            return None
        down = F.linear(run.drop(f"{site}.dropout", x), run.p[f"{site}.lora_a"])
        return self.scale * F.linear(down, run.p[f"{site}.lora_b"])
