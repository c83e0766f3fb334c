"""All layer norms train."""

import re

from methods.term import Term, matches


def is_norm(name):
    return re.search(r"(^|\.)norm[12]?\.(weight|bias)$", name) is not None


class Method(Term):
    options = {"targets": "*"}

    def trains(self, name):
        return is_norm(name) and matches(name.rpartition(".")[0], self.o.targets)
