"""NoisyTune (Wu et al. 2022): before training, w + U(-1/2, 1/2) lambda std(w) for every parameter
of the model. It trains nothing by itself; the initial tensors of a trace have the noise."""

import math

from methods.term import Term


class Method(Term):
    options = {"lambda": 0.15}

    def wrong_start(self, files, init):
        strength = getattr(self.o, "lambda")
        for name, w in files().items():
            if name.startswith("head.") or w.numel() < 2:
                continue
            w, noisy = w.double().flatten(), init[name].double().flatten()
            half = strength * w.std().item() / 2
            noise = noisy - w
            if half == 0:
                if noise.any():
                    return f"{name} is constant, and has noise"
                continue
            apart, n = noise.abs().max().item(), len(w)
            if apart > half * (1 + 1e-5) + 1e-7 * w.abs().max().item():
                return f"{name}: noise of {apart:.2e}, at most {half:.2e}"
            # Mean and mean square of a uniform distribution, within six deviations.
            mean, square = noise.mean().item() / half, noise.square().mean().item() / half**2
            if abs(mean) > 6 / math.sqrt(3 * n) or abs(square - 1 / 3) > 6 * math.sqrt(4 / 45 / n):
                return f"{name}: noise of mean {mean:.2e}, mean square {square:.3f} (of 1, 1/3)"
        return ""
