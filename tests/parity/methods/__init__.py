"""Methods of parameter-efficient fine-tuning in PyTorch, one file each: which parameters train, and
what the forward pass becomes. term.py says what a file may define."""

import importlib
import re

import torch

from methods.term import Facts, Term

HOOKS = ("weight", "reads", "output", "edge", "words", "embedded", "keys_values", "logits")


def terms(text):
    """[(name, options)] from `lora(r=8,alpha=16)+bitfit`, or from a list of
    {"name": ..., "options": {...}}."""
    if isinstance(text, str):
        out = []
        for term in re.sub(r"\s", "", text).split("+"):
            name, _, rest = term.rstrip(")").partition("(")
            out.append((name, dict(part.split("=", 1) for part in rest.split(",") if part)))
        return out
    listed = text if isinstance(text, list) else [text]
    return [(t["name"], {**t.get("options", {})}) for t in listed]


def find(name):
    """The class of a method, from methods/NAME.py."""
    module = name.replace("-", "_")
    try:
        return importlib.import_module(f"methods.{module}").Method
    except ModuleNotFoundError as e:
        if e.name != f"methods.{module}":
            raise
        raise SystemExit(f"method '{name}': there is no methods/{module}.py") from e


class Composed:
    """The terms of a method over one model, in order. Every hook of Term is here, too."""

    def __init__(self, text, facts):
        listed = terms(text)
        self.terms = [find(name)(facts, options) for name, options in listed]
        self.head = all(options.get("head") != "frozen" for _, options in listed)
        self.dropout = max([float(getattr(t.o, "dropout", 0)) for t in self.terms])
        # The rate of zeros in masks of gradients, where it is the same for all.
        self.gradient_rate = next(filter(None, (t.gradient_rate for t in self.terms)), None)

    def added(self):
        """{name: shape} of what the terms add."""
        out = {}
        for term in self.terms:
            for name, shape in term.added().items():
                if name in out:
                    raise SystemExit(f"two terms add {name}")
                out[name] = tuple(shape)
        return out

    def trained(self, base):
        """The names that train, of the model's own and of those that are added."""
        out = {k for k in base if any(t.trains(k) for t in self.terms)} | set(self.added())
        return out | {k for k in base if k.startswith("head.")} if self.head else out

    def initial(self, generator):
        """{name: value} as the method starts, in float64."""
        return {
            name: term.initial(name, tuple(shape), generator).to(torch.float64)
            for term in self.terms
            for name, shape in term.added().items()
        }

    def frozen(self, base):
        out = {}
        for term in self.terms:
            out |= term.frozen(base)
        return out

    def gradient(self, name, grad, masks, params):
        for term in self.terms:
            grad = term.gradient(name, grad, masks, params)
        return grad

    def wrong_start(self, files, init):
        return next(filter(None, (t.wrong_start(files, init) for t in self.terms)), "")

    def branches(self, run, site, x):
        return [b for t in self.terms for b in [t.branch(run, site, x)] if b is not None]

    def __getattr__(self, hook):
        """A hook that passes its last arguments through all terms."""
        if hook not in HOOKS:
            raise AttributeError(hook)
        count = 2 if hook in ("weight", "keys_values") else 1

        def call(*arguments):
            where, values = arguments[:-count], arguments[-count:]
            for term in self.terms:
                got = getattr(term, hook)(*where, *values)
                values = got if count == 2 else (got,)
            return values if count == 2 else values[0]

        return call


def compose(text, params, config):
    """The method over a model of these parameters (the model's own at least)."""
    return Composed(text, Facts.of(params, config))
