"""VPT-deep (Jia et al. 2022): as vpt, and in front of each further block the
rows are replaced by that block's own."""

import torch

from methods import vpt


class Method(vpt.Method):
    def prepare(self):
        self.names = [f"blocks.{n}.prompt" for n in range(self.m.depth)]

    def edge(self, run, block, name, value):
        if name != self.m.edges["block"] or block == 0:
            return value
        rows = self.rows(run, self.names[block], len(value))
        return torch.cat([value[:, :1], rows, value[:, 1 + self.o.tokens :]], 1)
