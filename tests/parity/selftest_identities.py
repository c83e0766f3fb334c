"""Methods that are another one at some setting: equal logits and, as functions of the same
parameters, equal gradients."""

import torch
import torch.nn.functional as F

DENSE = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.fc1", "mlp.fc2")


class Case:
    """A method at parameters of its own, and another whose parameters are made of them."""

    def __init__(self, subject, text):
        self.subject, self.text = subject, text
        self.p = {k: v.clone().requires_grad_() for k, v in subject.moved(text).items()}
        self.added = {k: self.p[k] for k in subject.method(text).added()}

    def equals(self, checks, other, make, gradients=True):
        """make(added, all parameters) gives the other's added parameters, or changed ones."""
        subject, what = self.subject, f"{self.subject.name}, {self.text} = {other}"
        mine = subject.logits(self.p, self.text)
        base = {k: v for k, v in self.p.items() if k not in self.added}
        theirs = subject.logits(base | make(self.added, self.p), other)
        checks.close(theirs, mine, what)
        if gradients:
            weight = torch.sin(torch.arange(mine.numel()).double()).reshape(mine.shape)
            wanted = list(self.added.values())
            pairs = [torch.autograd.grad((z * weight).sum(), wanted, materialize_grads=True)
                     for z in (mine, theirs)]  # fmt: skip
            a, b = (torch.cat([g.flatten() for g in gradient]) for gradient in pairs)
            checks.close(b, a, f"{what}: gradients", 1e-10)


def blocks(subject):
    return range(subject.model.config.depth)


def renamed(*pairs):
    def make(added, p):
        out = {}
        for name, value in added.items():
            for a, b in pairs:
                name = name.replace(a, b)
            out[name] = value
        return out

    return make


def prompts_as_keys(subject):
    """VPT-deep: the rows of a block are read through its keys and values alone."""

    def make(added, p):
        out = {}
        for n in blocks(subject):
            rows = added[f"blocks.{n}.prompt"]
            if subject.name == "vit":
                site, eps = f"blocks.{n}.norm1", subject.model.config.eps
                gain, bias = p[f"{site}.weight"], p[f"{site}.bias"]
                rows = F.layer_norm(rows, rows.shape[-1:], gain, bias, eps)
            for part in "kv":
                site = f"blocks.{n}.attn.{part}"
                out[f"blocks.{n}.attn.prefix_{part}"] = F.linear(
                    rows, p[f"{site}.weight"], p[f"{site}.bias"]
                )
        return out

    return make


def glora_sites(subject, part):
    """(site of GLoRA, its layers) of a block's parts."""
    for n in blocks(subject):
        for role in ("attn.qkv", "attn.o", "mlp.fc1", "mlp.fc2"):
            layers = [f"attn.{x}" for x in "qkv"] if role == "attn.qkv" else [role]
            yield f"blocks.{n}.{role}.glora_{part}", [f"blocks.{n}.{x}" for x in layers]


def glora_as_lora(subject):
    """B alone: the branch of LoRA, whose q, k and v share their first factor."""

    def make(added, p):
        out = {}
        for site, layers in glora_sites(subject, "b"):
            for layer, rows in zip(layers, added[f"{site}_down"].chunk(len(layers), 0)):
                out[f"{layer}.lora_a"], out[f"{layer}.lora_b"] = added[f"{site}_up"], rows
        return out

    return make


def glora_as_bias(subject):
    """E alone: BitFit of the blocks' dense layers, b = b0 + E."""

    def make(added, p):
        out = {}
        for site, layers in glora_sites(subject, "e"):
            for layer, rows in zip(layers, added[site].chunk(len(layers), 0)):
                out[f"{layer}.bias"] = p[f"{layer}.bias"] + rows
        return out

    return make


def ssf_as_glora(subject, with_d):
    """Of dense layers: A = scale - 1, and either D = scale - 1 with E = shift, or without D
    E = (scale - 1) b0 + shift."""

    def make(added, p):
        out = {}
        for site, layers in glora_sites(subject, ""):
            scale = torch.cat([added[f"{x}.ssf_scale"] for x in layers]) - 1
            shift = torch.cat([added[f"{x}.ssf_shift"] for x in layers])
            bias = torch.cat([p[f"{x}.bias"] for x in layers])
            out[f"{site}a_down"] = scale[:, None]
            out[f"{site}e"] = shift if with_d else scale * bias + shift
            if with_d:
                out[f"{site}d"] = scale
        return out

    return make


def fact_as_lora(subject, rank):
    """TT: every layer has LoRA's branch with factors made of the shared ones; of fc2 the first
    factor is K U, part by part."""

    def make(added, p):
        u, v, out = added["fact.u"], added["fact.v"], {}
        for n in blocks(subject):
            for role in DENSE:
                site = f"blocks.{n}.{role}"
                core = added[f"{site}.fact_core"]
                down, up = u, torch.cat([v @ k for k in core.split(len(u), 0)])
                if role == "mlp.fc2":
                    down, up = torch.cat([k @ u for k in core.split(len(u), 1)], 1), v
                out[f"{site}.lora_a"], out[f"{site}.lora_b"] = down, up
        return out

    return make


def evaluated_prefix(subject):
    """Prefix-Tuning's MLP, evaluated once: block by block, keys before values."""

    def make(added, p):
        a = {k.removeprefix("prefix."): v for k, v in added.items()}
        middle = torch.tanh(a["tokens"] @ a["down.weight"].T + a["down.bias"])
        rows = (middle @ a["up.weight"].T + a["up.bias"]).chunk(2 * len(blocks(subject)), 1)
        return {f"blocks.{n}.attn.prefix_{part}": rows[2 * n + j]
                for n in blocks(subject) for j, part in enumerate("kv")}  # fmt: skip

    return make


def moved_positions(subject, count):
    """A text whose positions start later reads later rows of the table."""

    def make(added, p):
        table = p["embed.position.weight"]
        out = renamed(("ptuning2", "prefix"))(added, p)
        return out | {"embed.position.weight": torch.cat([table[count:], table[:count]])}

    return make


def unified(checks, subject):
    """The rows of the table (He et al. 2022) are methods that have their own names."""

    def case(text, other, *pairs):
        Case(subject, text).equals(checks, other, renamed(*pairs))

    case(
        "prefix(tokens=3,mlp=0)",
        "unified(form=prefix,site=heads,composition=gated,r=3)",
        ("prefix", "unified"),
    )
    for site, place in (("ffn", "ffn"), ("attn", "heads")):
        case(
            f"parallel(r=4,site={site})",
            f"unified(form=parallel,site={place},r=4)",
            ("parallel", "unified"),
        )
        case(
            f"parallel(r=4,site={site},scale=4)",
            f"unified(form=parallel,site={place},composition=scaled,r=4)",
            ("parallel", "unified"),
        )
    case(
        "lora(r=4)",
        "unified(form=lora,site=attn,r=4)",
        ("lora_a", "unified_down"),
        ("lora_b", "unified_up"),
    )
    case(
        "houlsby(r=4,act=relu)",
        "unified(form=adapter,site=attn,r=4)+unified(form=adapter,site=ffn,r=4)",
        ("houlsby", "unified"),
    )


def check(checks, subject):
    def case(text, other, make, gradients=True):
        Case(subject, text).equals(checks, other, make, gradients)

    case("vpt-deep(tokens=3)", "prefix(tokens=3,mlp=0)", prompts_as_keys(subject))
    case("prefix(tokens=3,mlp=5)", "prefix(tokens=3,mlp=0)", evaluated_prefix(subject))
    case("ptuning2(tokens=3)", "prefix(tokens=3,mlp=0)", renamed(("ptuning2", "prefix")))
    if subject.name == "bert":
        case("ptuning2(tokens=3,shift=true)", "prefix(tokens=3,mlp=0)", moved_positions(subject, 3))
    else:
        case("prompt(tokens=3)", "vpt(tokens=3)", renamed(("prompt.tokens", "blocks.0.prompt")))
    case("mam(tokens=3,r=4)", "prefix(tokens=3,mlp=0)+parallel(r=4,scale=2)", renamed())
    case("adaptformer(r=4)", "parallel(r=4,scale=0.1)", renamed(("adaptformer", "parallel")))
    case(
        "glora(r=4,a=none,c=none,d=none,e=none)",
        "lora(r=4,targets=attn.*|mlp.*)",
        glora_as_lora(subject),
    )
    case("glora(a=none,b=none,c=none,d=none)", "linear", glora_as_bias(subject))
    dense = "ssf(targets=attn.*|mlp.*)"
    case(dense, "glora(a=vector,b=none,c=none)", ssf_as_glora(subject, True))
    case(dense, "glora(a=vector,b=none,c=none,d=none)", ssf_as_glora(subject, False))
    case("fact(r=4)", "lora(r=4,targets=attn.*|mlp.*)", fact_as_lora(subject, 4))
    unified(checks, subject)
