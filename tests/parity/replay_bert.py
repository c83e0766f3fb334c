"""The BERT that replay.py trains: BertForSequenceClassification of transformers on batches padded
to their longest text, with the attention mask, and peft's LoRA."""

import os
import pathlib
import re

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

import trace

# Modules of transformers and canonical sites; N is a block's number.
SITES = {
    "bert.embeddings.word_embeddings": "embed.word",
    "bert.embeddings.position_embeddings": "embed.position",
    "bert.embeddings.token_type_embeddings": "embed.type",
    "bert.embeddings.LayerNorm": "embed.norm",
    "bert.encoder.layer.N.attention.self.query": "blocks.N.attn.q",
    "bert.encoder.layer.N.attention.self.key": "blocks.N.attn.k",
    "bert.encoder.layer.N.attention.self.value": "blocks.N.attn.v",
    "bert.encoder.layer.N.attention.output.dense": "blocks.N.attn.o",
    "bert.encoder.layer.N.attention.output.LayerNorm": "blocks.N.norm1",
    "bert.encoder.layer.N.intermediate.dense": "blocks.N.mlp.fc1",
    "bert.encoder.layer.N.output.dense": "blocks.N.mlp.fc2",
    "bert.encoder.layer.N.output.LayerNorm": "blocks.N.norm2",
    "bert.pooler.dense": "pooler",
    "classifier": "head",
}


def canonical(name):
    """Of a parameter or module of the model, whatever peft has wrapped around it."""
    name = re.sub(r"^base_model\.model\.|\.base_layer|\.modules_to_save\.default", "", name)
    name = re.sub(r"\.lora_([AB])\.default\.weight$", lambda m: f".lora_{m[1].lower()}", name)
    number = re.search(r"\.layer\.(\d+)\.", name)
    general = name.replace(number[0], ".layer.N.") if number else name
    site, dot, kind = (general, "", "") if general in SITES else general.rpartition(".")
    return SITES[site].replace(".N.", f".{number[1]}." if number else "") + dot + kind


class MaskedDropout(torch.nn.Module):
    """Dropout by a mask from elsewhere."""

    mask = None

    def forward(self, x):
        return x * self.mask


class Bert:
    """params: {canonical name: leaf}; labels: of the training list."""

    def __init__(self, args, config, init, metadata, trained):
        from transformers import AutoTokenizer

        if config.get("pool") not in (None, "", "pooler"):
            raise SystemExit(f"pool {config['pool']}: transformers has the pooler alone")
        self.dtype, self.longest = getattr(torch, args.dtype), int(config["max_length"])
        self.tokenizer = AutoTokenizer.from_pretrained(config.get("tokenizer") or config["model"])
        data = args.data or pathlib.Path(config["data"])
        path = data / f"{args.split or config['split']}.tsv"
        fields = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        self.texts, self.labels = [f[:-1] for f in fields], [int(f[-1]) for f in fields]
        self.model = self.make_model(config, init).to(self.dtype)
        self.depth = self.model.config.num_hidden_layers
        self.params = {canonical(k): p for k, p in self.model.named_parameters()}
        if self.params.keys() != init.keys():
            differ = sorted(self.params.keys() ^ init.keys())
            raise SystemExit(f"init.safetensors: other tensors than the model's: {differ[:6]}")
        for name, p in self.params.items():
            p.data.copy_(init[name])
            p.requires_grad_(name in trained)

    def make_model(self, config, init):
        from transformers import BertConfig, BertForSequenceClassification

        told = BertConfig.from_pretrained(config["model"], num_labels=len(init["head.bias"]))
        told.hidden_dropout_prob = told.attention_probs_dropout_prob = 0.0
        told.classifier_dropout = 0.0
        model, self.dropouts = BertForSequenceClassification(told), {}
        sites = {k.removesuffix(".lora_a") for k in init if k.endswith(".lora_a")}
        if not sites:
            return model
        from peft import LoraConfig, get_peft_model

        rank = init[f"{min(sites)}.lora_a"].shape[0]
        alpha = trace.lora_scale(config["method"]) * rank
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and canonical(name) in sites
        ]
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))
        if trace.dropout(config["method"]) > 0:
            for name, module in model.named_modules():
                if hasattr(module, "lora_dropout"):
                    module.lora_dropout["default"] = MaskedDropout()
                    self.dropouts[f"{canonical(name)}.dropout"] = module.lora_dropout["default"]
        return model

    def logits(self, rows, masks):
        texts = [self.texts[row] for row in rows]
        second = [t[1] for t in texts] if len(texts[0]) > 1 else None
        batch = self.tokenizer(
            [t[0] for t in texts],
            second,
            truncation=True,
            max_length=self.longest,
            padding=True,
            return_tensors="pt",
        )
        if masks.keys() != self.dropouts.keys():
            differ = sorted(masks.keys() ^ self.dropouts.keys())
            raise SystemExit(f"masks.npz: other places than the model's: {differ[:6]}")
        tokens = batch["attention_mask"].bool()
        for name, module in self.dropouts.items():  # a trace has no rows of padding
            module.mask = torch.ones(*tokens.shape, masks[name].shape[1], dtype=self.dtype)
            module.mask[tokens] = masks[name]
        return self.model(**batch).logits
