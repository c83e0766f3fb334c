"""SSF (Lian et al. 2022): scale * z + shift behind every dense layer of the blocks, every layer
norm and the patch embedding."""

from methods.term import DENSE, Term, matches, normal


class Method(Term):
    options = {"targets": "*"}

    def prepare(self):
        m, vit = self.m, self.m.family == "vit"
        self.widths = dict.fromkeys(("patch_embed", "norm") if vit else ("embed.norm",), m.width)
        for n in range(m.depth):
            for role in (*DENSE, "norm1", "norm2"):
                self.widths[f"blocks.{n}.{role}"] = m.features(role)[0]
        self.widths = {s: w for s, w in self.widths.items() if matches(s, self.o.targets)}

    def added(self):
        kinds = ("ssf_scale", "ssf_shift")
        return {f"{site}.{k}": (width,) for site, width in self.widths.items() for k in kinds}

    def initial(self, name, shape, g):
        return normal(shape, 0.02, g, 1.0 if name.endswith("scale") else 0.0)

    def output(self, run, site, y):
        if site not in self.widths:
            return y
        return y * run.p[f"{site}.ssf_scale"] + run.p[f"{site}.ssf_shift"]
