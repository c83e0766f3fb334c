"""The head alone trains (methods.md section 2)."""

from methods.term import Term


class Method(Term):
    pass
