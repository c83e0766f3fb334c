"""One forward pass of an encoder under a method: what the ViT and the BERT share."""

import math

import torch
import torch.nn.functional as F


class Pass:
    """What methods read of a pass.

    p: parameters by name; edges: of the present block; present [batch, tokens]: False for rows of
    padding, None where there are none; first: the row that the head reads; inserted: rows that a
    method has put in; masks: {site: multipliers [rows, width]} of dropout, rows without padding."""

    def __init__(self, params, config, method=None, masks=None, record=None):
        self.p, self.config, self.method = params, config, method
        self.masks, self.record = masks or {}, record
        self.edges, self.present, self.first, self.inserted = {}, None, 0, 0

    def call(self, hook, *arguments):
        """The method's hook, which returns its last argument where there is no method."""
        return getattr(self.method, hook)(self, *arguments) if self.method else arguments[-1]

    def edge(self, block, name, value):
        value = self.edges[name] = self.call("edge", block, name, value)
        self.note(f"blocks.{block}.{name}", value)
        return value

    def note(self, name, value):
        if self.record:
            self.record(name, value.reshape(-1, value.shape[-1]))

    def dense(self, site, x):
        w, b = self.p[f"{site}.weight"], self.p[f"{site}.bias"]
        if not self.method:
            return F.linear(x, w, b)
        w, b = self.method.weight(self, site, w, b)
        x = self.method.reads(self, site, x)
        y = F.linear(x, w, b)
        for branch in self.method.branches(self, site, x):
            y = y + branch
        return self.method.output(self, site, y)

    def norm(self, site, x):
        p = self.p
        y = F.layer_norm(x, x.shape[-1:], p[f"{site}.weight"], p[f"{site}.bias"], self.config.eps)
        return self.call("output", site, y)

    def drop(self, site, x):
        """x under the mask of a site, if there is one."""
        mask = self.masks.get(site)
        if mask is None:
            return x
        if self.present is None or mask.shape[0] != int(self.present.sum()):
            return x * mask.reshape(x.shape)
        multiplier = torch.ones_like(x)
        multiplier[self.present] = mask
        return x * multiplier

    def drop_rows(self, site, rows, others, at):
        """The same rows [P, width] for each sequence, [batch, P, width], under the mask of a site:
        of those rows alone, or of whole sequences, in which they stand at `at` among others
        [batch, tokens, width]."""
        count, width = rows.shape
        rows, mask = rows.expand(len(others), -1, -1), self.masks.get(site)
        if mask is None:
            return rows
        lengths = [others.shape[1]] * len(others)
        if self.present is not None:
            lengths = self.present.sum(1).tolist()
            lengths = [n + others.shape[1] - self.present.shape[1] for n in lengths]
        if mask.shape[0] == sum(lengths) + count * len(rows):
            pieces = mask.split([n + count for n in lengths])
            mask = torch.stack([piece[at : at + count] for piece in pieces])
        return rows * mask.reshape(-1, count, width)

    def insert(self, x, rows, at):
        """Rows [P, width], or [batch, P, width], into each sequence in front of its row `at`."""
        count = rows.shape[-2]
        if self.present is not None:
            ones = self.present.new_ones(len(x), count)
            self.present = torch.cat([self.present[:, :at], ones, self.present[:, at:]], 1)
        self.inserted += count
        return torch.cat([x[:, :at], rows.expand(len(x), -1, -1), x[:, at:]], 1)

    def apart(self, t):
        """[batch, heads, tokens, width / heads]"""
        return t.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)

    def scores(self, q, k, front):
        """[batch, heads, queries, keys]; the first `front` keys are not of the sequence's rows, and
        there for all of them."""
        q, k = self.apart(q), self.apart(k)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.present is None or k.shape[2] == front:
            return scores
        seen = torch.cat([self.present.new_ones(len(q), front), self.present], 1)
        return scores.masked_fill(~seen[:, None, None], -math.inf)

    def join(self, shares, v):
        return (shares @ self.apart(v)).transpose(1, 2).flatten(2)

    def attention(self, block, x):
        """The context [batch, tokens, width] of the heads, from what they read."""
        site = f"blocks.{block}.attn"
        q, k, v = (
            self.edge(block, part, self.dense(f"{site}.{part}", x)) for part in ("q", "k", "v")
        )
        if self.method:
            k, v = self.method.keys_values(self, block, k, v)
        scores = self.scores(q, k, k.shape[1] - q.shape[1])
        return self.join(torch.softmax(scores, -1), v)

    def mlp(self, block, x, act):
        h = self.edge(block, "h", self.dense(f"blocks.{block}.mlp.fc1", x))
        g = self.edge(block, "g", act(h))
        return self.edge(block, "u", self.dense(f"blocks.{block}.mlp.fc2", g))
