"""Houlsby's adapter (Houlsby et al. 2019): z + s f(z) on both branches of a block, in front of
their residual sums."""

from methods.ln import is_norm
from methods.term import Adapter, normal


class Method(Adapter):
    options = {"r": 8, "act": "gelu", "scale": 1.0, "ln": False}
    places = {"o_dropped": "attn.houlsby", "u_dropped": "mlp.houlsby"}

    def initial(self, name, shape, g):
        if not name.endswith(("_down", "_up")):
            return super().initial(name, shape, g)
        return normal(shape, 1.0, g).clamp(-2, 2) * 0.01  # cut off, not drawn again

    def trains(self, name):
        return self.o.ln and is_norm(name)

    def edge(self, run, block, name, value):
        if name not in self.places:
            return value
        return value + self.f(run, block, name, value)
