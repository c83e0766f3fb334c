"""The equations of adapters, each on the edges of a block that a forward pass recorded."""

import torch
import torch.nn.functional as F

ACTS = {"relu": torch.relu, "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))}


class Block:
    """Edges and parameters of block 1 under a method; `f` is its bottleneck."""

    def __init__(self, subject, text):
        self.p, self.edges = subject.moved(text), {}
        self.eps, self.heads = subject.model.config.eps, subject.model.config.heads

        def record(name, value):
            block, _, edge = name.rpartition(".")
            if block == "blocks.1":
                self.edges[edge] = value

        subject.model.logits(self.p, subject.method(text), record)

    def __getitem__(self, edge):
        return self.edges[edge]

    def f(self, place, x, act):
        down, down_bias, up, up_bias = (
            self.p[f"blocks.1.{place}_{k}"] for k in ("down", "down_bias", "up", "up_bias")
        )
        return ACTS[act](x @ down.T + down_bias) @ up.T + up_bias

    def norm(self, name, x):
        p = self.p
        gain, bias = p[f"blocks.1.{name}.weight"], p[f"blocks.1.{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], gain, bias, self.eps)

    def dense(self, name, x):
        return x @ self.p[f"blocks.1.{name}.weight"].T + self.p[f"blocks.1.{name}.bias"]


# Method: {what its block computes: (the recorded edge, the equation)} for each family.
VIT = {
    "houlsby(r=4,scale=2)": {
        "x1": lambda b: b["x"] + b["o"] + 2 * b.f("attn.houlsby", b["o"], "gelu"),
        "y": lambda b: b["x1"] + b["u"] + 2 * b.f("mlp.houlsby", b["u"], "gelu"),
    },
    "pfeiffer(r=4,act=relu)": {
        "y": lambda b: b["x1"] + b["u"] + b.f("mlp.pfeiffer", b["x1"] + b["u"], "relu"),
    },
    "adaptformer(r=4)": {
        "y": lambda b: b["x1"] + b["u"] + 0.1 * b.f("mlp.adaptformer", b["x1"], "relu"),
        "m": lambda b: b.norm("norm2", b["x1"]),
    },
    "parallel(r=4,scale=2)": {
        "y": lambda b: b["x1"] + b["u"] + 2 * b.f("mlp.parallel", b["x1"], "relu"),
    },
}
BERT = {
    "houlsby(r=4,scale=2)": {
        "h1": lambda b: b.norm("norm1", b["h0"] + b["o"] + 2 * b.f("attn.houlsby", b["o"], "gelu")),
        "h2": lambda b: b.norm("norm2", b["h1"] + b["u"] + 2 * b.f("mlp.houlsby", b["u"], "gelu")),
    },
    "pfeiffer(r=4,act=relu)": {
        "h2": lambda b: b.norm(
            "norm2",
            b["h1"] + b["u"] + b.f("mlp.pfeiffer", b.norm("norm2", b["h1"] + b["u"]), "relu"),
        ),
    },
    "adaptformer(r=4)": {
        "h2": lambda b: b.norm(
            "norm2", b["h1"] + b["u"] + 0.1 * b.f("mlp.adaptformer", b["h1"], "relu")
        ),
        "h": lambda b: b.dense("mlp.fc1", b["h1"]),
    },
    "parallel(r=4,scale=2)": {
        "h2": lambda b: b.norm(
            "norm2", b["h1"] + b["u"] + 2 * b.f("mlp.parallel", b["h1"], "relu")
        ),
    },
}


def check(checks, subject):
    for text, edges in (VIT if subject.name == "vit" else BERT).items():
        block = Block(subject, text)
        for edge, equation in edges.items():
            checks.close(block[edge], equation(block), f"{subject.name}, {text}: edge {edge}")
    # Beside the attention: what is added to the context, which is that of the model itself.
    text = "parallel(r=4,site=attn,scale=2)"
    block = Block(subject, text)
    q, k, v = (block[part] for part in "qkv")
    read = block["a" if subject.name == "vit" else "h0"]
    context = attention(subject, q, k, v, block.heads)
    added = 2 * block.f("attn.parallel", read, "relu")
    checks.close(block["c"], context + added, f"{subject.name}, {text}: edge c")
    checks.close(block["o"], block.dense("attn.o", block["c"]), f"{subject.name}, {text}: edge o")
    if subject.name == "bert":
        check_pooled(checks, subject)


def check_pooled(checks, subject):
    """Which row of the last block, here block 1, the pooler reads."""
    for pool, row in (("token", 3), ("first", 0)):
        text = f"prompt(tokens=3,pool={pool})"
        block = Block(subject, text)
        p, hidden = block.p, block["h2"].reshape(4, -1, block["h2"].shape[-1])
        pooled = torch.tanh(hidden[:, row] @ p["pooler.weight"].T + p["pooler.bias"])
        logits = pooled @ p["head.weight"].T + p["head.bias"]
        checks.close(subject.logits(p, text), logits, f"bert, {text}: the pooler's row")


def attention(subject, q, k, v, heads):
    """By sequences and heads, in loops; rows of padding read the keys of their text."""
    count, out = 4, torch.zeros_like(q)
    rows, width = len(q) // count, q.shape[1] // heads
    lengths = [rows] * count
    if subject.name == "bert":
        lengths = subject.model.input["attention_mask"].sum(1).tolist()
    for i, length in enumerate(lengths):
        here, keys = slice(i * rows, (i + 1) * rows), slice(i * rows, i * rows + length)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = q[here, part] @ k[keys, part].T / width**0.5
            out[here, part] = torch.softmax(scores, 1) @ v[keys, part]
    return out
