"""NF4 with double quantisation (Dettmers et al. 2023): the frozen weights of the blocks' dense
layers in four bits. Row by row in blocks of 64, a weight is the nearest of 16 levels times the
block's absolute maximum; the maxima, less their mean, are eight-bit numbers in blocks of 256 with a
scale in float32 each. A trace's init.safetensors has the codes, as X.weight.nf4 and its scales, or,
of a training loop of selftest.py, the weights as they were before."""

import re
from types import SimpleNamespace

import numpy as np
import torch

from methods.term import DENSE, Term, matches, split

LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
     0.7229568362236023, 1.0], np.float32)  # fmt: skip
# The upper ends of the levels' ranges: a number at the middle of two levels takes the lower one.
MIDDLES = ((LEVELS[1:].astype(np.float64) + LEVELS[:-1]) / 2).astype(np.float32)


def dynamic_table():
    """256 numbers in [-1, 1]: for i = 0..6 the middles of 2^i equal parts of [0.1, 1], times
    10^(i-6), with both signs; 0 and 1. In float32 throughout, as bitsandbytes does."""
    out = [torch.tensor([0.0, 1.0])]
    for i in range(7):
        ends = torch.linspace(0.1, 1, 2**i + 1)
        middles = (ends[1:] + ends[:-1]) / 2 * 10 ** (i - 6)
        out += [middles, -middles]
    return torch.cat(out).sort().values.numpy()


def blocks_of(flat, size):
    padded = np.zeros(-(-len(flat) // size) * size, np.float32)
    padded[: len(flat)] = flat
    return padded.reshape(-1, size)


def nearest(values, table):
    """Indices of the nearest entries; at the middle of two the lower."""
    middles = (table[1:].astype(np.float64) + table[:-1]) / 2
    return np.searchsorted(middles, values.astype(np.float64)).astype(np.uint8)


def scaled(rows):
    """(rows over their absolute maximum, the maxima), float32; 0 where a row is 0."""
    most = np.abs(rows).max(1)
    inverse = np.divide(np.float32(1), most, out=np.zeros_like(most), where=most > 0)
    return rows * inverse[:, None], most


def quantise(weight, block=64, double=True):
    """codes: two levels a byte, the first in the high half; and the maxima, or their codes with
    offset (the mean of the maxima) and scales (one for each 256 of them)."""
    rows, most = scaled(blocks_of(np.asarray(weight, np.float32).ravel(), block))
    levels = np.searchsorted(MIDDLES, rows.ravel())[: np.asarray(weight).size].astype(np.uint8)
    levels = np.append(levels, np.full(len(levels) % 2, 7, np.uint8))  # a half byte of 0
    out = SimpleNamespace(codes=levels[::2] << 4 | levels[1::2], maxima=most, double=double)
    out.shape, out.block = np.asarray(weight).shape, block
    if double:
        out.offset = most.mean(dtype=np.float32)
        second, out.scales = scaled(blocks_of(most - out.offset, 256))
        out.second = second.ravel()[: len(most)]
        out.maxima = nearest(out.second, dynamic_table())
    return out


def distance(weight, there, block, double):
    """How far weights are from those of this weight's codes. The mean of the maxima is a sum in
    float32, whose last bit decides for a maximum in the middle of two entries: either is right."""
    q = quantise(weight, block, double)
    apart = np.abs(dequantise(q) - there)
    if double:
        table = dynamic_table().astype(np.float64)
        middles = (table[1:] + table[:-1]) / 2
        codes = q.maxima.astype(np.int64)
        for step in (-1, 1):
            middle = middles[np.clip(codes - (step < 0), 0, 254)]
            either = np.abs(q.second - middle) < 1e-6
            q.maxima = np.clip(codes + step * either, 0, 255)
            apart = np.minimum(apart, np.abs(dequantise(q) - there))
    return apart.max() / np.abs(there).max()


def dequantise(q):
    """float32"""
    maxima = q.maxima
    if q.double:
        scales = np.repeat(q.scales, 256)[: len(maxima)]
        maxima = dynamic_table()[maxima] * scales + q.offset
    levels = np.stack([q.codes >> 4, q.codes & 15], 1).ravel()[: int(np.prod(q.shape))]
    return (LEVELS[levels] * np.repeat(maxima, q.block)[: len(levels)]).reshape(q.shape)


def opened(init, method):
    """The initial tensors of a trace with weights where the command has codes, and those weights by
    site. Of other methods codes stay what they are, names that nobody expects."""
    if not re.search(r"\bnf4\b", method):
        return init, {}
    options = method.split("nf4", 1)[-1]
    block = re.match(r"\([^)]*\bblock=(\d+)", options)
    weights = {}
    for name in [k for k in init if k.endswith(".weight.nf4")]:
        site = name.removesuffix(".weight.nf4")
        part = {k: init[f"{name}.{k}"].numpy() for k in ("absmax", "absmax2", "offset")
                if f"{name}.{k}" in init}  # fmt: skip
        codes, out = init[name].numpy().astype(np.uint8), len(init[site + ".bias"])
        there = SimpleNamespace(codes=codes, maxima=part["absmax"], double="absmax2" in part)
        there.shape, there.block = (out, 2 * len(codes) // out), int(block[1]) if block else 64
        if there.double:
            there.maxima = there.maxima.astype(np.uint8)
            there.scales, there.offset = part["absmax2"], part["offset"][0]
        weights[site] = torch.from_numpy(dequantise(there))
    left = {k: v for k, v in init.items() if ".weight.nf4" not in k}
    return left | {f"{site}.weight": w for site, w in weights.items()}, weights


class Method(Term):
    options = {"block": 64, "double": True, "targets": "*"}

    def prepare(self):
        self.kept = {}

    def weight(self, run, site, w, b):
        if split(site)[1] not in DENSE or not matches(site, self.o.targets):
            return w, b
        if site not in self.kept:
            there = quantise(w.detach().float().numpy(), self.o.block, self.o.double)
            self.kept[site] = torch.from_numpy(dequantise(there))
        return self.kept[site].to(w.dtype), b

    def wrong_start(self, files, init):
        """Of a trace whose weights were codes: they are those of the model's files."""
        base = files()
        for site, there in self.kept.items():
            w = base[site + ".weight"].float().numpy()
            apart = distance(w, there.numpy(), self.o.block, self.o.double)
            if apart > 1e-6:
                return f"{site}: codes of other weights, off by {apart:.1e}"
        return ""
