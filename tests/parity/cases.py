"""One checkpoint with what a library makes of it, and how a library reads what graft writes of it.
cases_timm.py and cases_hf.py make them; check_cases.py runs graft on them."""

import dataclasses
import pathlib

import numpy as np
import torch


@dataclasses.dataclass
class Case:
    """`expect`: "equal" (the library's logits), "refuse" (exit 1 that names the cause) or "either".
    `cause` is what a refusal must say, a pattern. `readers`: {format: function of what `graft
    export --format` wrote and a number of classes, which gives a model in the library}."""

    name: str
    expect: str
    model: pathlib.Path
    inputs: list
    logits: np.ndarray | None = None
    cause: str = ""
    options: list = dataclasses.field(default_factory=list)
    readers: dict = dataclasses.field(default_factory=dict)
    own: str = "timm"  # the layout that the model came in, which it must be able to leave in
    refusers: tuple = ("train", "export")  # commands that refuse what predict refuses


def randomise(model, seed=1):
    """Every parameter has an effect: no norm is one, no scale of a layer is small."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            scale = any(s in name for s in ("gamma", "lambda1"))
            norm = "norm" in name.lower() and name.endswith("weight") and p.ndim == 1
            p.copy_(1 + 0.2 * noise if norm else 0.3 + 0.2 * noise if scale else 0.12 * noise)
    return model.eval()


def save_inputs(folder, size):
    """(file, images): three images, as predict reads them."""
    file = folder / f"x{size}.npy"
    x = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(5))
    np.save(file, x.numpy())
    return file, x


def read_hf(folder, classes):
    """A directory as transformers loads it by default: by the class that its config names."""
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(folder).eval()
