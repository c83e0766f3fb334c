"""The ViT that replay.py trains: torch_vit.py on pictures that PIL has decoded and resized."""

import json
import pathlib

import torch

import methods
import torch_vit
import trace


def facts(model):
    """Those that config.json of a Hugging Face directory has and tensors do not."""
    told = pathlib.Path(str(model)) / "config.json"
    return torch_vit.hugging_face_facts(json.loads(told.read_text())) if told.exists() else {}


class Vit:
    """labels: of the training list."""

    def __init__(self, args, config, init, metadata):
        sources = config, torch_vit.metadata_config(metadata), facts(config.get("model"))
        self.config = torch_vit.infer_config(init, *sources)
        self.method = methods.compose(config["method"], init, self.config)
        self.names = torch_vit.names(self.config)
        self.files = lambda: torch_vit.load_model(config["model"])[0]
        data = args.data or pathlib.Path(config["data"])
        split = args.split or config.get("split", "train800val200")
        entries = trace.training_list(data, split)
        self.paths, self.labels = ([e[i] for e in entries] for i in (0, 1))
        self.transform, self.decoded = trace.preprocess_of(config.get("preprocess")), {}

    def logits(self, params, rows, masks):
        for row in set(rows) - self.decoded.keys():
            self.decoded[row] = trace.load_image(
                self.paths[row], self.transform, self.config.image_size
            )
        pixels = torch.stack([self.decoded[row] for row in rows])
        x = trace.normalise(pixels, self.transform, params["head.weight"].dtype)
        return torch_vit.forward(params, x, self.config, self.method, masks)
