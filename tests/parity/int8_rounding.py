#!/usr/bin/env python3
"""What int8 must lose of a BERT classifier, whoever computes it: frozen products in PyTorch with
weights (a scale per output column), rows of activations (a scale and a zero per row), or both
rounded to bytes, and all else in f32; rows and weights as they are, transformed before (as Graft
does, ops/hadamard.h), transformed with channels scaled by what PyTorch has seen of them, or with
scales of their own for groups of 128 or 64 inputs. Prints by how much logits then differ.

usage: int8_rounding.py MODEL DATA.tsv
MODEL: a directory of transformers' BertForSequenceClassification, such as `graft fuse` writes.
DATA: lines of a text and a label. In percent of the range of f32's logits.
"""

import sys

import torch
from transformers import AutoTokenizer, BertForSequenceClassification


def in_groups(rounded, x, group):
    """Applies it to every `group` of the last dimension, or to all of it."""
    return rounded(x.unflatten(-1, (-1, group)) if group else x).reshape(x.shape)


def rounded_weights(w):
    scale = w.abs().amax(-1, keepdim=True) / 127
    return (w / scale).round() * scale


def rounded_rows(x):
    low = x.amin(-1, keepdim=True).clamp(max=0)
    scale = (x.amax(-1, keepdim=True).clamp(min=0) - low) / 255
    scale[scale == 0] = 1
    return (x / scale).round() * scale


def transformed(x):
    """The orthonormal Walsh-Hadamard transform over up to 16 neighbours that lie 16 apart and then
    over every 8."""
    vectors = 1
    while vectors < 16 and x.shape[-1] % (32 * vectors) == 0:
        vectors *= 2
    parts = x.unflatten(-1, (-1, vectors, 2, 8))
    for axis, n in ((-3, vectors), (-1, 8)):
        h = torch.ones(1, 1)
        while len(h) < n:
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
        parts = (parts.movedim(axis, -1) @ h / n**0.5).movedim(-1, axis)
    return parts.flatten(-4)


def sizes_of_inputs(model, batches):
    """The root mean square of each channel that a product reads."""
    seen, hooks = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):

            def look(_layer, given, _out, name=name):
                x = given[0].flatten(0, -2)
                sums, rows = seen.get(name, (0, 0))
                seen[name] = (sums + x.square().sum(0), rows + len(x))

            hooks.append(layer.register_forward_hook(look))
    logits(model, batches)
    for hook in hooks:
        hook.remove()
    return {name: (sums / rows).sqrt() for name, (sums, rows) in seen.items()}


def logits(model, batches):
    with torch.no_grad():
        return torch.cat([model(**batch).logits for batch in batches])


def with_hooks(model, batches, weights, rows, shift, group=0, turn=False, sizes=None):
    """`shift`: products take the input without the layer norm's bias, whose share is exact.
    `sizes` of inputs: channels are divided by the root of their size over that of their weights,
    which makes the product of both operands' norms, and with it the error, least."""
    hooks, norm = [], model.bert.embeddings.LayerNorm
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.LayerNorm):
            norm = layer
        if not isinstance(layer, torch.nn.Linear) or not name.startswith("bert.encoder"):
            continue
        w, t = layer.weight.data, torch.ones(layer.weight.shape[1])
        if sizes:
            t = (sizes[name] / w.square().mean(0).sqrt().clamp(min=1e-6)).sqrt()
        basis = transformed if turn else lambda x: x
        w = basis(w * t)
        w = in_groups(rounded_weights, w, group) if weights else w
        of_norm = shift and name.endswith(("query", "key", "value", "intermediate.dense"))
        c = norm.bias.data if of_norm else torch.zeros(w.shape[1])
        bias = layer.bias.data + layer.weight.data @ c

        def product(_layer, given, _out, w=w, c=c, bias=bias, t=t, basis=basis):
            x = basis((given[0] - c) / t)
            x = in_groups(rounded_rows, x, group) if rows else x
            return torch.nn.functional.linear(x, w, bias)

        hooks.append(layer.register_forward_hook(product))
    result = logits(model, batches)
    for hook in hooks:
        hook.remove()
    return result


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    model = BertForSequenceClassification.from_pretrained(sys.argv[1]).eval()
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    with open(sys.argv[2]) as f:
        texts = [line.rstrip("\n").split("\t")[0] for line in f]
    batches = [
        tokenizer(texts[i : i + 32], padding=True, truncation=True, return_tensors="pt")
        for i in range(0, len(texts), 32)
    ]
    exact = logits(model, batches)
    spread = (exact.max() - exact.min()).item()
    sizes = sizes_of_inputs(model, batches[:6])
    print(f"{len(texts)} texts, logits within {spread:.2f}; differences in percent of that")
    for what, *switches in (
        ("weights and rows", True, True, False),
        ("weights alone", True, False, False),
        ("rows alone", False, True, False),
        ("both, rows without the norm's bias", True, True, True),
        ("both, transformed", True, True, False, 0, True),
        ("weights alone, transformed", True, False, False, 0, True),
        ("rows alone, transformed", False, True, False, 0, True),
        ("both, transformed, channels scaled", True, True, False, 0, True, sizes),
        ("both, a scale for 128 inputs", True, True, False, 128),
        ("both, a scale for 64 inputs", True, True, False, 64),
    ):
        off = 100 * (with_hooks(model, batches, *switches) - exact) / spread
        same = 100 * (exact + off * spread / 100).argmax(1).eq(exact.argmax(1)).float().mean()
        print(
            f"{what:36}largest {off.abs().max():5.2f}, root mean square "
            f"{off.square().mean().sqrt():5.2f}, same class {same:.1f} %"
        )


if __name__ == "__main__":
    main()
