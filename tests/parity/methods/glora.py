"""GLoRA (Chavan et al. 2023; the form of the released code), of a dense layer:

    W = W0 + W0 * A + B,   b = b0 + b0 * D + E + W0 C,   `*` by elements.

A, B [out,in] and C [in,1] are products (lora), a column (vector), one number (constant; not C) or
not there (none); D and E [out] are vectors, a number, or not there. q, k and v of a block are one
layer of 3D rows, unless qkv=apart."""

import torch

from methods.term import DENSE, Term, matches, split, xavier

SHARED = {f"attn.{x}": "attn.qkv" for x in "qkv"}


class Method(Term):
    options = {
        "r": 4,
        "a": "lora",
        "b": "lora",
        "c": "lora",
        "d": "vector",
        "e": "vector",
        "targets": "*",
        "qkv": "joint",
    }

    def prepare(self):
        shared = SHARED if self.o.qkv == "joint" else {}
        self.owners = {role: shared.get(role, role) for role in DENSE}

    def site_of(self, site):
        """The site of a layer, or None where it is no target."""
        block, role = split(site)
        own = block + self.owners.get(role, "")
        return own if role in self.owners and matches(own, self.o.targets) else None

    def added(self):
        m, r, out = self.m, self.o.r, {}
        for n in range(m.depth):
            for role in dict.fromkeys(self.owners.values()):
                site = f"blocks.{n}.{role}"
                if not matches(site, self.o.targets):
                    continue
                rows, columns = (3 * m.width, m.width) if "qkv" in role else m.features(role)
                for part, size, other in (
                    ("a", rows, columns),
                    ("b", rows, columns),
                    ("c", columns, 1),
                ):
                    kind, name = getattr(self.o, part), f"{site}.glora_{part}"
                    if kind == "lora":
                        out[f"{name}_down"], out[f"{name}_up"] = (size, r), (r, other)
                    elif kind != "none":
                        out[f"{name}_down"] = (size, 1) if kind == "vector" else (1,)
                for part in "de":
                    kind = getattr(self.o, part)
                    if kind != "none":
                        out[f"{site}.glora_{part}"] = (rows,) if kind == "vector" else (1,)
        return out

    def initial(self, name, shape, g):
        return xavier(shape, g) if name.endswith("_up") else super().initial(name, shape, g)

    def weight(self, run, site, w, b):
        own = self.site_of(site)
        if own is None:
            return w, b
        rows = slice(None)
        if own.endswith("qkv"):
            first = "qkv".index(site[-1]) * len(w)
            rows = slice(first, first + len(w))

        def value(part, rows=slice(None)):
            """0, or a value that is broadcast over what it is applied to."""
            kind, name = getattr(self.o, part), f"{own}.glora_{part}"
            if kind == "none":
                return torch.zeros((), dtype=w.dtype)
            down = run.p[name if part in "de" else f"{name}_down"]
            down = down if kind == "constant" else down[rows]
            return down @ run.p[f"{name}_up"] if kind == "lora" else down

        c = value("c").expand(w.shape[1], 1)
        bias = b + b * value("d", rows) + value("e", rows) + (w @ c)[:, 0]
        return w + w * value("a", rows) + value("b", rows), bias
