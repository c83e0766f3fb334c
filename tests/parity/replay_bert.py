"""The BERT that replay.py trains: torch_bert.py on batches padded to their longest text, with the
attention mask, as the tokenizer of transformers makes them."""

import json
import os
import pathlib

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import methods
import torch_bert


class Bert:
    """labels: of the training list."""

    def __init__(self, args, config, init, metadata):
        from transformers import AutoTokenizer

        folder = pathlib.Path(config["model"])
        told = json.loads((folder / "config.json").read_text())
        self.config = torch_bert.facts(told, config.get("pool"))
        self.method = methods.compose(config["method"], init, self.config)
        self.names = torch_bert.names(self.config)
        self.files = lambda: torch_bert.load_model(folder)[0]
        self.longest = int(config["max_length"])
        self.tokenizer = AutoTokenizer.from_pretrained(config.get("tokenizer") or folder)
        data = args.data or pathlib.Path(config["data"])
        path = data / f"{args.split or config['split']}.tsv"
        fields = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        self.texts, self.labels = [f[:-1] for f in fields], [int(f[-1]) for f in fields]

    def logits(self, params, rows, masks):
        texts = [self.texts[row] for row in rows]
        batch = self.tokenizer(
            [t[0] for t in texts],
            [t[1] for t in texts] if len(texts[0]) > 1 else None,
            truncation=True,
            max_length=self.longest,
            padding=True,
            return_tensors="pt",
        )
        return torch_bert.forward(params, batch, self.config, self.method, masks)
