"""What folds into the weights of dense layers, norms and the patch embedding, as dense formulas
that share no code with methods/."""

import torch

DENSE = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.fc1", "mlp.fc2")


def sites(subject, roles=DENSE):
    return [f"blocks.{n}.{role}" for n in range(subject.model.config.depth) for role in roles]


def add(p, site, delta, shift=None):
    p[f"{site}.weight"] = p[f"{site}.weight"] + delta
    if shift is not None:
        p[f"{site}.bias"] = p[f"{site}.bias"] + shift


def lora(subject, p, scale=1.0):
    for site in [k.removesuffix(".lora_a") for k in p if k.endswith(".lora_a")]:
        add(p, site, scale * p[f"{site}.lora_b"] @ p[f"{site}.lora_a"])


def ssf(subject, p):
    """W' = diag(g) W, b' = g b + h; a norm's gain and bias alike."""
    for site in [k.removesuffix(".ssf_scale") for k in p if k.endswith(".ssf_scale")]:
        g, h = p[f"{site}.ssf_scale"], p[f"{site}.ssf_shift"]
        w = p[f"{site}.weight"]
        p[f"{site}.weight"] = g.reshape(-1, *[1] * (w.dim() - 1)) * w
        p[f"{site}.bias"] = g * p[f"{site}.bias"] + h


def fact_tt(subject, p, scale=1.0):
    u, v = p["fact.u"], p["fact.v"]
    r, d = u.shape
    for site in sites(subject):
        core, delta = p[f"{site}.fact_core"], torch.zeros_like(p[f"{site}.weight"])
        for c in range(len(delta) // d):
            for e in range(delta.shape[1] // d):
                k = core[c * r : (c + 1) * r, e * r : (e + 1) * r]
                delta[c * d : (c + 1) * d, e * d : (e + 1) * d] = scale * v @ k @ u
        add(p, site, delta)


def fact_tk(subject, p, scale=1.0, interleaved=True):
    u, v = p["fact.u"], p["fact.v"]
    r, d = u.shape
    c = len(p["blocks.0.mlp.fc1.weight"]) // d
    cube = p["fact.core"].reshape(r, r, r)
    every = torch.einsum("ijk,ks->ijs", cube, p["fact.slices"])
    for n in range(subject.model.config.depth):
        f = every[:, :, (4 + 2 * c) * n : (4 + 2 * c) * (n + 1)]
        for j, part in enumerate("qkvo"):
            add(p, f"blocks.{n}.attn.{part}", scale * v @ f[:, :, j].T @ u)
        for chunk in range(c):
            for site, first in (("mlp.fc1", 4), ("mlp.fc2", 4 + c)):
                if interleaved:
                    at = [chunk * r + t for t in range(r)]
                    k = torch.stack([f[:, x // c, first + x % c] for x in at], 1)
                else:
                    k = f[:, :, first + chunk]
                delta, rows = torch.zeros_like(p[f"blocks.{n}.{site}.weight"]), slice(None)
                here = slice(chunk * d, (chunk + 1) * d)
                if site == "mlp.fc1":
                    delta[here] = scale * v @ k.T @ u
                else:
                    delta[rows, here] = scale * v @ k @ u
                add(p, f"blocks.{n}.{site}", delta)


def repadapter(subject, p, scale=1.0, groups=2, interleaved=False):
    """W' = W (I + s G A), b' = b + s W (G a + b); G [D,r] is 0 but in its groups' blocks."""
    d = len(p["blocks.0.norm1.weight"])
    for site in [k.removesuffix("_a") for k in p if k.endswith(".rep_a")]:
        a, a_bias, b, b_bias = (p[f"{site}_{k}"] for k in ("a", "a_bias", "b", "b_bias"))
        g, width = torch.zeros(d, len(a), dtype=a.dtype), len(a) // groups
        for i in range(d):
            first = (i % groups if interleaved else i * groups // d) * width
            g[i, first : first + width] = b[i]
        block = site.rpartition(".")[0]
        for role in ("q", "k", "v") if block.endswith("attn") else ("fc1",):
            w = p[f"{block}.{role}.weight"]
            add(p, f"{block}.{role}", scale * w @ g @ a, scale * w @ (g @ a_bias + b_bias))


def glora(subject, p, merged_first=False):
    """W' = W0 + W0 * A + B, b' = b0 + b0 * D + E + W0 C, over the 3D rows of q, k and v."""
    for n in range(subject.model.config.depth):
        for role in ("attn.qkv", "attn.o", "mlp.fc1", "mlp.fc2"):
            names = [f"blocks.{n}.attn.{x}" for x in "qkv"]
            names = names if role == "attn.qkv" else [f"blocks.{n}.{role}"]
            w = torch.cat([p[f"{s}.weight"] for s in names])
            b = torch.cat([p[f"{s}.bias"] for s in names])
            told = {k: p.get(f"blocks.{n}.{role}.glora_{k}") for k in
                    ("a_down", "a_up", "b_down", "b_up", "c_down", "c_up", "d", "e")}  # fmt: skip

            def matrix(x, shape):
                down, up = told[f"{x}_down"], told[f"{x}_up"]
                if down is None:
                    return torch.zeros(shape, dtype=w.dtype)
                return down @ up if up is not None else down.expand(shape)

            weight = w + w * matrix("a", w.shape) + matrix("b", w.shape)
            through = weight if merged_first else w
            bias = b + through @ matrix("c", (w.shape[1], 1))[:, 0]
            bias = bias + (0 if told["d"] is None else b * told["d"])
            bias = bias + (0 if told["e"] is None else told["e"])
            at = 0
            for s in names:
                size = len(p[f"{s}.bias"])
                p[f"{s}.weight"], p[f"{s}.bias"] = weight[at : at + size], bias[at : at + size]
                at += size


CASES = (
    ("lora(r=4,alpha=8,targets=attn.*|mlp.*)", lora, {"scale": 2.0}),
    ("ssf", ssf, {}),
    ("fact(r=4,scale=0.5)", fact_tt, {"scale": 0.5}),
    ("fact(form=tk,r=4,scale=0.5)", fact_tk, {"scale": 0.5}),
    ("repadapter(r=4,scale=0.5)", repadapter, {"scale": 0.5}),
    ("repadapter(r=6,groups=3)", repadapter, {"groups": 3}),
    ("repadapter(r=4,site=mlp)", repadapter, {}),
    ("glora(r=2)", glora, {}),
    ("glora(a=vector,b=vector,c=vector,d=constant,e=constant)", glora, {}),
    ("glora(r=3,a=constant,b=lora,c=none,d=none,e=vector)", glora, {}),
    ("glora(r=3,a=none,b=constant,c=lora,d=vector,e=none)", glora, {}),
)
# What folds otherwise, and must be seen to.
WRONG = (
    ("lora(r=4,alpha=8,targets=attn.*|mlp.*)", lora, {"scale": 1.0}),
    ("fact(form=tk,r=4)", fact_tk, {"interleaved": False}),
    ("repadapter(r=6,groups=3)", repadapter, {"groups": 3, "interleaved": True}),
    ("glora(r=2)", glora, {"merged_first": True}),
)


def check(checks, subject):
    for text, fold, options in CASES:
        p = subject.moved(text)
        unfolded = subject.logits(p, text)
        fold(subject, folded := dict(p), **options)
        checks.close(subject.logits(folded), unfolded, f"{subject.name}, {text}: folded")
    for text, fold, options in WRONG:
        p = subject.moved(text)
        fold(subject, folded := dict(p), **options)
        checks.apart(
            subject.logits(folded),
            subject.logits(p, text),
            f"{subject.name}, {text}: folded with {options}",
        )
    # A scale behind a layer also scales the branch, in whichever order the terms stand.
    for text in ("ssf+lora(r=4,alpha=8)", "lora(r=4,alpha=8)+ssf"):
        p = subject.moved(text)
        lora(subject, folded := dict(p), 2.0)
        ssf(subject, folded)
        checks.close(
            subject.logits(folded),
            subject.logits(p, text),
            f"{subject.name}, {text}: folded, the branch first",
        )
    # A branch reads what the layer reads: the adapter's result.
    for text in ("repadapter(r=4)+lora(r=4)", "lora(r=4)+repadapter(r=4)"):
        p = subject.moved(text)
        lora(subject, folded := dict(p))
        repadapter(subject, folded)
        checks.close(
            subject.logits(folded),
            subject.logits(p, text),
            f"{subject.name}, {text}: folded, the branch first",
        )
