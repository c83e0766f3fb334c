"""Compares methods/nf4.py with bitsandbytes on the CPU: levels, tables and values are equal bit
for bit; eight-bit codes of maxima are equal or, as its kernel for the CPU looks them up coarsely,
beside each other.

usage: python check_bitsandbytes.py        (an environment with torch and bitsandbytes)
"""

import sys

import numpy as np
import torch
from bitsandbytes import functional

from methods import nf4

SHAPES = ((64, 64), (768, 768), (384, 1536), (10, 24), (33, 7), (24, 48))


def compare(weight, double):
    """What differs, as text; "" where all is equal. Weights are flat, as version 0.50 dequantises
    rows that are no multiple of a block by the maxima of others."""
    weight = weight.flatten()
    theirs, state = functional.quantize_4bit(
        weight, quant_type="nf4", blocksize=64, compress_statistics=double
    )
    ours, wrong = nf4.quantise(weight.numpy(), 64, double), []
    if not np.array_equal(theirs.flatten().numpy(), ours.codes):
        wrong.append("levels")
    maxima = state.absmax.numpy()
    if double:
        apart = np.abs(maxima.astype(int) - ours.maxima)
        if apart.max() > 1 or (apart != 0).mean() > 0.005:
            wrong.append(f"codes of maxima: {np.count_nonzero(apart)} of {len(apart)}")
        if abs(state.offset.item() - ours.offset) > 2e-7 * abs(ours.offset):
            wrong.append("offset")
        ours.maxima, ours.offset = maxima, np.float32(state.offset.item())
        ours.scales = state.state2.absmax.numpy()
    elif not np.array_equal(maxima, ours.maxima):
        wrong.append("maxima")
    values = functional.dequantize_4bit(theirs, state).flatten().numpy()
    if not np.array_equal(values, nf4.dequantise(ours)):
        wrong.append("values of the same codes")
    return ", ".join(wrong)


def main():
    torch.manual_seed(0)
    table = np.array_equal(functional.create_dynamic_map().numpy(), nf4.dynamic_table())
    results = {"dynamic table": "" if table else "differs"}
    for shape in SHAPES:
        for double in (False, True):
            found = compare(torch.randn(shape) * 0.02, double)
            results[f"{shape}, {'double' if double else 'single'}"] = found
    for what, wrong in results.items():
        print(f"{'FAIL' if wrong else 'ok  '} {what} {wrong}")
    failed = sum(1 for wrong in results.values() if wrong)
    print(f"{len(results)} comparisons with bitsandbytes, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
