"""All biases train, those of layer norms too (BitFit, Ben Zaken et al. 2022)."""

from methods.term import Term


class Method(Term):
    def trains(self, name):
        return name.endswith(".bias")
