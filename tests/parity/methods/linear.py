"""The head alone trains."""

from methods.term import Term


class Method(Term):
    pass
