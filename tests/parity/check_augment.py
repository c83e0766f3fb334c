#!/usr/bin/env python3
"""--augment beside torchvision and timm: the pixels that tests/augment_test.cc expects of
operations are those of both, its RandAugment is torchvision's, and the formulas of mixup, cutmix
and erasing are timm's on fixed draws.

usage: check_augment.py [--print]     (torch, timm, torchvision's Python part, pillow)
--print shows the table of RandAugment for the test.
"""

import argparse
import math
import pathlib
import re
import sys

import numpy as np
import torch
from PIL import Image

import torchvision_shim  # noqa: F401  before timm
from timm.data import auto_augment, mixup, random_erasing
from torchvision import transforms
from torchvision.transforms import autoaugment
from torchvision.transforms.functional import InterpolationMode

TEST = pathlib.Path(__file__).resolve().parent.parent / "augment_test.cc"
NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
# Of those timm has under another name, with the same meaning of its argument.
TIMM = {
    "Brightness": lambda i, m: auto_augment.brightness(i, 1 + m),
    "Color": lambda i, m: auto_augment.color(i, 1 + m),
    "Contrast": lambda i, m: auto_augment.contrast(i, 1 + m),
    "Sharpness": lambda i, m: auto_augment.sharpness(i, 1 + m),
    "Posterize": lambda i, m: auto_augment.posterize(i, int(m)),
    "Solarize": lambda i, m: auto_augment.solarize(i, m),
    "AutoContrast": lambda i, m: auto_augment.auto_contrast(i),
    "Equalize": lambda i, m: auto_augment.equalize(i),
}


def waves():
    """Waves() of the test."""
    i = np.arange(3 * 23 * 17, dtype=np.float64)
    values = (127.5 + 100 * np.sin(0.05 * i) + 20 * np.sin(1.7 * i)).astype(np.uint8)
    return Image.fromarray(values.reshape(17, 23, 3))


def digest(image):
    """Hash() of the test."""
    value = 0
    for byte in np.asarray(image).reshape(-1).tolist():
        value = (value * 1099511628211 % 2**64) ^ byte
    return value


def torchvision_op(image, name, by):
    nearest = InterpolationMode.NEAREST
    return autoaugment._apply_op(image, name, by, interpolation=nearest, fill=None)


def check_operations(source, image):
    """Each hash of EqualThoseOfPillow."""
    count = 0
    rows = re.findall(r'all\("([a-z ]+)",.*?\n\s+(\{\{.*?\}\})\);', source, re.S)
    found = re.findall(r'expect\("(\w+)", 0, .*?(\d+)ull', source)
    alone = [(name, f"{{{{0, {value}}}}}") for name, value in found]
    for what, table in rows + alone:
        name = {"Autocontrast": "AutoContrast"}.get(what.title().replace(" ", ""), None)
        name = name or what.title().replace(" ", "")
        for by, expected in re.findall(r"\{([-\d.]+), (\d+)(?:ull)?\}", table):
            pixels_of = {"torchvision": torchvision_op(image, name, float(by))}
            if name in TIMM and not (name == "Posterize" and float(by) == 8):
                pixels_of["timm"] = TIMM[name](image, float(by))
            for peer, pixels in pixels_of.items():
                assert digest(pixels) == int(expected), (peer, what, by)
                count += 1
    return count


def space(image):
    """(name, magnitudes of 31 bins, signed) of torchvision's RandAugment, in its order."""
    table = autoaugment.RandAugment()._augmentation_space(31, (image.height, image.width))
    assert tuple(table) == NAMES
    return table


def rand_augment(image, number, magnitude, negative):
    magnitudes, signed = space(image)[NAMES[number]]
    by = float(magnitudes[magnitude].item()) if magnitudes.ndim > 0 else 0.0
    return torchvision_op(image, NAMES[number], -by if signed and negative else by)


def randaugment_table(image):
    lines = []
    for magnitude in (3, 9, 30):
        row = []
        for number in range(len(NAMES)):
            for negative in (False, True):
                row.append(digest(rand_augment(image, number, magnitude, negative)))
        lines.append((magnitude, row))
    return lines


def check_mixing():
    """timm's formulas on fixed draws beside those of data/augment.cc, written out."""
    torch.manual_seed(0)
    x = torch.rand(4, 3, 16, 16)
    mixer = mixup.Mixup(
        mixup_alpha=0.4, cutmix_alpha=0, mode="batch", num_classes=3, label_smoothing=0
    )
    labels = torch.tensor([0, 1, 2, 1])
    for lam in (0.0, 0.3, 0.75):
        mixer._params_per_batch = lambda lam=lam: (lam, False)
        images, targets = mixer(x.clone(), labels)
        assert torch.allclose(images, x * lam + x.flip(0) * (1 - lam), atol=1e-7)
        one = torch.nn.functional.one_hot(labels, 3).float()
        assert torch.allclose(targets, one * lam + one.flip(0) * (1 - lam), atol=1e-7)
    for lam, x0, y0 in ((0.3, 0, 0), (0.75, 15, 7), (0.5, 8, 8), (0.0, 3, 12), (1.0, 5, 5)):
        draws = iter((y0, x0))  # timm draws the row first
        original, mixup.np.random.randint = mixup.np.random.randint, lambda *_, **__: next(draws)
        try:
            box, left = mixup.cutmix_bbox_and_lam((4, 3, 16, 16), lam)
        finally:
            mixup.np.random.randint = original
        side = int(16 * math.sqrt(1 - lam))
        left_x, top = max(x0 - side // 2, 0), max(y0 - side // 2, 0)
        right, bottom = min(x0 + (side + 1) // 2, 16), min(y0 + (side + 1) // 2, 16)
        assert [int(v) for v in box] == [top, bottom, left_x, right], (lam, box)
        assert math.isclose(left, 1 - (bottom - top) * (right - left_x) / 256)


def check_erasing():
    """torchvision's bounds of area and aspect, which timm has nearly, and what both write."""
    eraser = transforms.RandomErasing(p=1)
    assert (eraser.scale, eraser.ratio, eraser.value) == ((0.02, 0.33), (0.3, 3.3), 0)
    near = random_erasing.RandomErasing(probability=1, mode="const", device="cpu")
    assert (near.min_area, near.max_area) == (0.02, 1 / 3)
    assert [round(math.exp(v), 6) for v in near.log_aspect_ratio] == [0.3, round(1 / 0.3, 6)]
    for erase in (eraser, near):
        image = erase(torch.ones(3, 32, 32))
        assert set(image.unique().tolist()) == {0.0, 1.0}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true")
    a = parser.parse_args()
    image, source = waves(), TEST.read_text()
    table = randaugment_table(image)
    if a.print:
        for magnitude, row in table:
            print(f"      {{{magnitude}, {{{', '.join(f'{h}ull' for h in row)}}}}},")
        return
    count = check_operations(source, image)
    stored = dict(re.findall(r"\{(\d+),\s+\{((?:\d+ull[,\s]*)+)\}\}", source))
    for magnitude, row in table:
        found = [int(h) for h in re.findall(r"(\d+)ull", stored[str(magnitude)])]
        assert found == row, f"RandAugment of magnitude {magnitude}"
    check_mixing()
    check_erasing()
    print(f"{count} operations, {3 * 2 * len(NAMES)} of RandAugment, mixup, cutmix, erasing: equal")


if __name__ == "__main__":
    sys.exit(main())
