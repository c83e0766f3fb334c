"""What a method may define, and what several of them are made of.

A file methods/NAME.py has a class Method(Term). All of Term is optional but `options`; what a
method leaves out changes nothing. Hooks get `run`, the forward pass (encoder.py): run.p are the
parameters by name, run.edges the edges of the present block that are known by now.

A dense layer is, whatever the order of the terms:

    output(W reads(x) + b + sum of branch(reads(x))),   (W, b) = weight(W0, b0)

so that a scale behind a layer (SSF) also scales the branch of another term (LoRA), and a branch
reads what the layer reads.
"""

import fnmatch
import math
import re
from types import SimpleNamespace

import torch
import torch.nn.functional as F

DENSE = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.fc1", "mlp.fc2")
# Edges by their part: what a block, its attention and its MLP's branch read, and what it returns.
EDGES = {
    "vit": {"block": "x", "attn": "a", "mlp": "x1", "out": "y"},
    "bert": {"block": "h0", "attn": "h0", "mlp": "h1", "out": "h2"},
}


class Facts:
    """Of a model: family ("vit" or "bert"), depth, width, mlp_width, heads, eps, classes."""

    def __init__(self, family, depth, width, mlp_width, heads, eps, classes=0):
        self.family, self.depth, self.width = family, depth, width
        self.mlp_width, self.heads, self.eps, self.classes = mlp_width, heads, eps, classes
        self.edges = EDGES[family]

    @staticmethod
    def of(params, config):
        family = "bert" if "embed.word.weight" in params else "vit"
        # By vectors, as weights may be codes.
        mlp_width = len(params["blocks.0.mlp.fc1.bias"])
        width = len(params["blocks.0.norm1.weight"])
        classes = len(params["head.bias"]) if "head.bias" in params else 0
        return Facts(family, config.depth, width, mlp_width, config.heads, config.eps, classes)

    def features(self, role):
        """(out, in) of a dense layer, of its role in a block."""
        wide = {"mlp.fc1": (self.mlp_width, self.width), "mlp.fc2": (self.width, self.mlp_width)}
        return wide.get(role, (self.width, self.width))


def split(site):
    """("blocks.3.", "attn.q"); a site outside the blocks has no block."""
    block = re.match(r"blocks\.\d+\.", site)
    return (block[0], site[block.end() :]) if block else ("", site)


def matches(site, targets):
    """Whether a site is meant: by its role, by its whole name, or by a pattern of either."""
    patterns = targets.split("|") if isinstance(targets, str) else targets
    return any(fnmatch.fnmatch(s, p) for p in patterns for s in (site, split(site)[1]))


def convert(text, default):
    """An option's text as the type of its default."""
    if isinstance(default, bool):
        return str(text).lower() in ("true", "1")
    if text == "learned":
        return text
    return type(default)(text)


class Term:
    options = {}  # {name: default}
    gradient_rate = None  # of zeros in masks of gradients, where each tensor's is the same

    def __init__(self, facts, given):
        unknown = given.keys() - self.options.keys() - {"head"}
        if unknown:
            raise SystemExit(f"{type(self).__module__}: no options {sorted(unknown)}")
        values = {k: convert(given.get(k, v), v) for k, v in self.options.items()}
        self.m, self.o = facts, SimpleNamespace(**values)
        self.prepare()

    def prepare(self):
        """Whatever follows from self.m (Facts) and self.o (options)."""

    def added(self):
        """{name: shape} of the parameters that the method adds; all of them train."""
        return {}

    def initial(self, name, shape, generator):
        """How an added parameter starts."""
        return torch.zeros(shape)

    def frozen(self, base):
        """{name: shape} of what the method adds that does not train, from those of the model."""
        return {}

    def trains(self, name):
        """Whether a parameter of the model itself trains. The head does in any case."""
        return False

    def weight(self, run, site, w, b):
        """The weight [out,in] and bias of a dense layer."""
        return w, b

    def reads(self, run, site, x):
        """What a dense layer reads."""
        return x

    def branch(self, run, site, x):
        """What is added to a dense layer's result, or None."""

    def output(self, run, site, y):
        """What comes out of a dense layer, a layer norm or the patch embedding."""
        return y

    def edge(self, run, block, name, value):
        """An edge of a block: ViT x a q k v c o x1 m h g u y, BERT h0 q k v c o h1 h g u h2, and
        o_dropped, u_dropped, which are o and u behind their drop path."""
        return value

    def words(self, run, x):
        """Rows of the word embeddings (BERT)."""
        return x

    def embedded(self, run, x):
        """The first block's input: behind the position embeddings (ViT), behind embed.norm."""
        return x

    def logits(self, run, z):
        """The head's result."""
        return z

    def gradient(self, name, grad, masks, params):
        """What the optimizer gets for a parameter's gradient, behind clipping."""
        return grad

    def wrong_start(self, files, init):
        """What is wrong with the initial tensors of a trace, or ""; files() are those of the
        model's files."""
        return ""

    def keys_values(self, run, block, k, v):
        """Of an attention, before they are split into heads."""
        return k, v


def uniform(shape, bound, g):
    return (torch.rand(shape, generator=g, dtype=torch.float64) * 2 - 1) * bound


def normal(shape, std, g, mean=0.0):
    return torch.randn(shape, generator=g, dtype=torch.float64) * std + mean


def kaiming(shape, g):
    """kaiming_uniform(a=sqrt 5) of a weight [out,in], as torch's Linear starts."""
    return uniform(shape, 1 / math.sqrt(shape[1]), g)


def xavier(shape, g):
    return uniform(shape, math.sqrt(6 / (shape[0] + shape[1])), g)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,
}


def bottleneck_shapes(prefix, width, rank):
    """Of up(act(down x + down_bias)) + up_bias."""
    return {
        f"{prefix}_down": (rank, width),
        f"{prefix}_down_bias": (rank,),
        f"{prefix}_up": (width, rank),
        f"{prefix}_up_bias": (width,),
    }


def bottleneck(run, prefix, x, act):
    """up(drop(act(down x + down_bias))) + up_bias"""
    down, down_bias, up, up_bias = (run.p[name] for name in bottleneck_shapes(prefix, 0, 0))
    hidden = run.drop(f"{prefix}.dropout", ACTIVATIONS[act](F.linear(x, down, down_bias)))
    return F.linear(hidden, up, up_bias)


class Adapter(Term):
    """One with a bottleneck in each block: s f(x), where s is a number or, with scale=learned, a
    parameter PREFIX_scale [1] that starts at 1."""

    places = {}  # {the edge that it is added to: its name in a block}

    def added(self):
        out = {}
        for n in range(self.m.depth):
            for place in self.places.values():
                out |= bottleneck_shapes(f"blocks.{n}.{place}", self.m.width, self.o.r)
                if self.o.scale == "learned":
                    out[f"blocks.{n}.{place}_scale"] = (1,)
        return out

    def initial(self, name, shape, g):
        """As LoRA: up and the biases start at 0."""
        if name.endswith("_scale"):
            return torch.ones(shape)
        return kaiming(shape, g) if name.endswith("_down") else super().initial(name, shape, g)

    def f(self, run, block, edge, x):
        prefix = f"blocks.{block}.{self.places[edge]}"
        scale = run.p[f"{prefix}_scale"] if self.o.scale == "learned" else self.o.scale
        return scale * bottleneck(run, prefix, x, self.o.act)
