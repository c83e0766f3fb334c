"""VPT-deep (Jia et al. 2022): as vpt, and in front of each further block the
rows are replaced by that block's own."""

import torch

from methods import vpt


class Method(vpt.Method):
    # The same function as tokens or as the keys and values that they are read through.
    options = {**vpt.Method.options, "form": "auto"}

    def prepare(self):
        self.names = [f"blocks.{n}.prompt" for n in range(self.m.depth)]

    def edge(self, run, block, name, value):
        if name != self.m.edges["block"] or block == 0:
            return value
        name, first, rest = self.names[block], value[:, :1], value[:, 1 + self.o.tokens :]
        others = torch.cat([first, rest], 1)
        rows = run.drop_rows(f"{name}.dropout", run.p[name], others, 1)
        return torch.cat([first, rows, rest], 1)
