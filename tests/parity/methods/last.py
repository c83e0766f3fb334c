"""The last k blocks and the final norm train."""

import re

from methods.term import Term


class Method(Term):
    options = {"k": 2}

    def trains(self, name):
        block = re.match(r"blocks\.(\d+)\.", name)
        return name.startswith("norm.") or (
            block is not None and int(block[1]) >= self.m.depth - self.o.k
        )
