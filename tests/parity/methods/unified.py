"""The unified view (He et al. 2022, table 1): what changes a representation h, from x, the input of
its sublayer, where, and how it is composed.

form         prefix: softmax(x Wq Pk') Pv for each head; adapter: up(act(down h)); parallel:
             up(act(down x)); lora: up(down x), without biases, on q and v for site=attn
site         attn: the attention's output; heads: the context in front of Wo; ffn: the MLP's output
composition  add: h + d; scaled: h + scale d; gated (of a prefix): (1 - l) h + l d, where l is the
             share of the softmax that the prefix takes, which is Prefix-Tuning itself
"""

import torch
import torch.nn.functional as F

from methods.term import Term, bottleneck, bottleneck_shapes, kaiming, normal, split


class Method(Term):
    options = {
        "form": "parallel",
        "site": "ffn",
        "composition": "add",
        "act": "relu",
        "r": 8,
        "scale": 4.0,
    }

    def prepare(self):
        o = self.o
        if (o.form == "prefix" and o.site != "heads") or (
            o.form != "prefix" and o.composition == "gated"
        ):
            raise SystemExit("unified: a prefix changes the heads, and no other form is gated")
        self.scale = o.scale if o.composition == "scaled" else 1.0
        self.add = {"attn": "o_dropped", "heads": "c", "ffn": "u_dropped"}[o.site]
        self.part = "mlp.unified" if o.site == "ffn" else "attn.unified"
        self.layers = ("attn.q", "attn.v") if (o.form, o.site) == ("lora", "attn") else ()

    def added(self):
        o, width, out = self.o, self.m.width, {}
        for n in range(self.m.depth):
            prefix = f"blocks.{n}.{self.part}"
            if o.form == "prefix":
                out |= {f"{prefix}_k": (o.r, width), f"{prefix}_v": (o.r, width)}
            elif o.form == "lora":
                for place in [f"blocks.{n}.{q}.unified" for q in self.layers] or [prefix]:
                    out |= {f"{place}_down": (o.r, width), f"{place}_up": (width, o.r)}
            else:
                out |= bottleneck_shapes(prefix, width, o.r)
        return out

    def initial(self, name, shape, g):
        if name.endswith("_down"):
            return kaiming(shape, g)
        return normal(shape, 0.02 if self.o.form == "prefix" else 0.0, g)

    def branch(self, run, site, x):
        if split(site)[1] not in self.layers:
            return None
        down = F.linear(x, run.p[f"{site}.unified_down"])
        return self.scale * F.linear(down, run.p[f"{site}.unified_up"])

    def edge(self, run, block, name, value):
        if name != self.add or self.layers:
            return value
        prefix = f"blocks.{block}.{self.part}"
        if self.o.form == "prefix":
            return self.compose_prefix(run, prefix, value)
        if self.o.form == "adapter":
            return value + self.scale * bottleneck(run, prefix, value, self.o.act)
        x = run.edges[self.m.edges["mlp" if self.o.site == "ffn" else "attn"]]
        if self.o.form == "lora":
            down = F.linear(x, run.p[f"{prefix}_down"])
            return value + self.scale * F.linear(down, run.p[f"{prefix}_up"])
        return value + self.scale * bottleneck(run, prefix, x, self.o.act)

    def compose_prefix(self, run, prefix, c):
        q, k = run.edges["q"], run.edges["k"]
        pk, pv = (run.p[f"{prefix}_{part}"].expand(len(c), -1, -1) for part in "kv")
        there = run.scores(q, pk, self.o.r)
        delta = run.join(torch.softmax(there, -1), pv)
        if self.o.composition != "gated":
            return c + self.scale * delta
        mass = torch.logsumexp(there, -1) - torch.logsumexp(run.scores(q, k, 0), -1)
        share = torch.sigmoid(mass).transpose(1, 2)[..., None]  # [batch, tokens, heads, 1]

        def by_head(t):
            return t.unflatten(-1, (self.m.heads, -1))

        return (by_head(c) * (1 - share) + by_head(delta) * share).flatten(2)
