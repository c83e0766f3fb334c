"""Import before timm: declares the schemas of torchvision's compiled operators, so that its Python
part imports alone."""

import importlib.util
import pathlib
import re

import torch

_library = torch.library.Library("torchvision", "DEF")
_folder = pathlib.Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
_source = (_folder / "_meta_registrations.py").read_text()
for _name in sorted(
    set(re.findall(r'register_meta\("(\w+)"\)', _source))
    | set(re.findall(r'"torchvision::(\w+)"', _source))
):
    _library.define(f"{_name}(Tensor x) -> Tensor")
