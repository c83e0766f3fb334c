"""What selftest.py trains: a small ViT on pictures and a small BERT on pairs of texts, read and
built by code that the replay does not share."""

import pathlib

import numpy as np
import torch
from PIL import Image

VOCABULARY = pathlib.Path(__file__).resolve().parents[1] / "fixtures/tokenizer/vocab.txt"
IMAGE_SIZE, ROWS, CLASSES = 16, 24, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = (
    f"resize={IMAGE_SIZE},filter=bicubic,"
    f"mean={'|'.join(map(str, MEAN))},std={'|'.join(map(str, STD))}"
)
LORA_NAMES = (
    ("base_model.model.", ""),
    (".base_layer", ""),
    (".modules_to_save.default", ""),
    (".default.weight", ""),
    ("lora_A", "lora_a"),
    ("lora_B", "lora_b"),
)
VIT_NAMES = LORA_NAMES + (
    ("vit.embeddings.cls_token", "cls_token"),
    ("vit.embeddings.position_embeddings", "pos_embed"),
    ("vit.embeddings.patch_embeddings.projection", "patch_embed"),
    ("vit.layers.", "blocks."),
    ("vit.layernorm", "norm"),
    ("classifier", "head"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.", "attn."),
    ("_proj.", "."),
)
BERT_NAMES = LORA_NAMES + (
    ("bert.encoder.layer.", "blocks."),
    ("bert.embeddings.", "embed."),
    ("word_embeddings", "word"),
    ("position_embeddings", "position"),
    ("token_type_embeddings", "type"),
    ("embed.LayerNorm", "embed.norm"),
    ("bert.pooler.dense", "pooler"),
    ("classifier", "head"),
    ("attention.self.query", "attn.q"),
    ("attention.self.key", "attn.k"),
    ("attention.self.value", "attn.v"),
    ("attention.output.dense", "attn.o"),
    ("attention.output.LayerNorm", "norm1"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("output.LayerNorm", "norm2"),
)


class Pictures:
    """Pictures that are not the model's size, so that resizing is part of what is checked."""

    names, targets = VIT_NAMES, ["q_proj", "v_proj"]

    def __init__(self, folder, rng):
        self.folder, self.labels = folder, [i % CLASSES for i in range(ROWS)]
        (folder / "images").mkdir(parents=True)
        lines, small = [], []
        for i, label in enumerate(self.labels):
            pixels = (rng.integers(0, 160, (20, 24, 3)) + 40 * label).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{i:06}.png")
            lines.append(f"images/{i:06}.png {label}")
            resized = Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.BICUBIC)
            small.append(np.asarray(resized))
        (folder / "train800val200.txt").write_text("\n".join(lines) + "\n")
        x = torch.from_numpy(np.stack(small)).float() / 255
        self.x = ((x - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
        self.config = {
            "data": str(folder),
            "model": {"heads": 2, "eps": 1e-6},
            "train-split": "train800val200",
            "preprocess": PREPROCESS,
        }
        self.options = ["--data", folder, "--train-split", "train800val200"]
        self.options += ["--preprocess", PREPROCESS]

    def model(self):
        from transformers import ViTConfig, ViTForImageClassification

        return ViTForImageClassification(
            ViTConfig(
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                image_size=IMAGE_SIZE,
                patch_size=4,
                num_labels=CLASSES,
                layer_norm_eps=1e-6,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )

    def logits(self, model, pick):
        return model(pixel_values=self.x[pick]).logits


class Texts:
    """Pairs of texts of many lengths, one by one: nothing is padded here."""

    names, targets = BERT_NAMES, ["query", "value"]

    def __init__(self, folder, rng):
        from transformers import BertConfig, BertTokenizerFast

        self.labels = [i % CLASSES for i in range(ROWS)]
        letters = np.array(list("abcdefghijklmnopqrst"))
        texts = [
            [" ".join(rng.choice(letters, rng.integers(1, 12))) + " " + "xyz"[label], "u v"]
            for label in self.labels
        ]
        (folder / "data").mkdir(parents=True)
        lines = ("\t".join([*text, str(label)]) for text, label in zip(texts, self.labels))
        (folder / "data/train.tsv").write_text("\n".join(lines) + "\n")
        tokenizer = BertTokenizerFast(vocab=str(VOCABULARY))
        self.encoded = [
            tokenizer(*text, truncation=True, max_length=12, return_tensors="pt") for text in texts
        ]
        self.told = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=16,
            num_labels=CLASSES,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.told.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        self.config = {
            "data": str(folder / "data"),
            "model": str(folder / "model"),
            "train_split": "train",
            "max_length": 12,
            "pool": "",
        }
        self.options = ["--data", folder / "data", "--train-split", "train", "--max-length", 12]
        self.options += ["--model", folder / "model"]

    def model(self):
        from transformers import BertForSequenceClassification

        return BertForSequenceClassification(self.told)

    def logits(self, model, pick):
        return torch.cat([model(**self.encoded[row]).logits for row in pick.tolist()])


def graft_name(name, names):
    for a, b in names:
        name = name.replace(a, b)
    return name
