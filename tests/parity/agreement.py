"""How far a run of graft may be from its replay, and why. The figures are some ten times those by
which runs that are right differ."""

import math

# Of every step's loss, relative.
LOSS = 2e-4
# ||difference|| / ||update||, of all tensors together and of each: what another order of sums
# leaves.
TOGETHER, TENSOR = 4e-4, 1e-3
# The first step of AdamW is the sign of the gradient. A factor that starts at 0, such as lora_b,
# has nothing of an element but the sign of a gradient that may be hardly more than rounding, and
# the factor beside it, lora_a, whose gradient is through lora_b, learns from it.
LATE = 5e-3
# What is added to all scores of a query, as key biases are, or to all channels of a norm's input
# has a gradient of 0, and Adam follows rounding. In float64 that is less than this of the largest.
INERT = 1e-12
# What rounding each weight to float32 after each step may add, times its expected size: it counts
# where a weight is large and moves little, as the norms of a whole model do at a small rate.
ROUNDING = 2
# How much further from a replay in float64 than PyTorch in float32 a run may be, where rounding
# grows beyond the tolerances above: all updates together and losses, and one tensor or the decay,
# which hang on a few roundings that fell one way or the other.
AS_NEAR, AS_NEAR_ALONE = 2, 4
# Of the recorded rates, over the base rate.
RATE = 1e-9
# Of the weight decay: relative, and at least.
DECAY, LEAST_DECAY = 1e-2, 2e-5
# Of the multipliers in masks.npz.
MASK = 1e-6


class Updates:
    """What training moved, compared: a weight that hardly moves agrees whatever was done to it.
    Numbers that are inert are left out."""

    def __init__(self, init, ours, final, steps):
        self.rows = []  # (difference over what is allowed, difference, name), the worst first
        self.inert = 0
        difference = movement = rounding = along = weight = 0.0
        for name, theirs in final.items():
            live = ~ours.inert[name].flatten()
            self.inert += int((~live).sum())
            if not live.any():
                continue
            start, mine, theirs = (
                t.detach().double().flatten()[live] for t in (init[name], ours.params[name], theirs)
            )
            apart, moved = (mine - theirs).norm().item(), (mine - start).norm().item()
            rounded = 2.0**-24 * math.sqrt(steps) * mine.norm().item()
            relative = LATE if name in ours.late else TENSOR
            allowed = relative * moved + ROUNDING * rounded
            self.rows.append((apart / max(allowed, 1e-30), apart / max(moved, 1e-30), name))
            difference += apart**2
            movement += moved**2
            rounding += rounded**2
            along += (mine - theirs).dot(start).item()
            weight += start.dot(start).item()
        # NaN is worse than any number.
        self.rows.sort(key=lambda r: (r[0] == r[0], -r[0]))
        movement = max(movement, 1e-60)
        self.together = (difference / movement) ** 0.5
        self.allowed = TOGETHER + ROUNDING / 2 * (rounding / movement) ** 0.5
        self.along, self.weight = along, weight

    def decay(self, rates):
        """The weight decay of the run over that of its replay, less 1 in absolute terms: what the
        final tensors are apart along the initial ones, over many more directions than one, in which
        rounding is as good as nothing."""
        return self.along / max(rates * self.weight, 1e-30)


def check_masks(masks, rate_of):
    """What is wrong with the masks of a step, or ""; rate_of(site) is that of zeros, or None where
    it is not known. A run that draws none where it should, or that forgets 1 / keep in its masks as
    in its branches, would replay as well."""
    for site, mask in masks.items():
        rate = rate_of(site)
        if rate is None:
            continue
        mask, kept = mask.reshape(-1, mask.shape[-1]), mask[mask != 0]
        if ((kept - 1 / (1 - rate)).abs() > MASK / (1 - rate)).any():
            return f"{site}: multipliers {kept.unique()[:4].tolist()}, not {1 / (1 - rate)}"
        zeros, spread = (mask == 0).double().sum().item(), rate * (1 - rate) * mask.numel()
        if abs(zeros - rate * mask.numel()) > 6 * math.sqrt(spread) + 1:
            return f"{site}: {zeros:.0f} of {mask.numel()} are zero at a rate of {rate}"
        if mask.shape[1] > 1 and repeated(mask, rate):
            return f"{site}: rows have the same mask"
    return ""


def repeated(mask, rate):
    """Whether more rows are equal than chance explains."""
    rows, width = mask.shape
    equal = rows - len(mask.unique(dim=0))
    chance = rows * (rows - 1) / 2 * (rate**2 + (1 - rate) ** 2) ** width
    return equal > 3 + 4 * chance
