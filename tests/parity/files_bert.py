"""What check_files.py checks of a BERT: MiniLM, bare and with a head, on single texts, as a run
that learnt such ones refuses pairs."""

import torch
from peft import (
    GloraConfig,
    LNTuningConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from transformers import AutoTokenizer, BertForSequenceClassification

CLASSIFIER = TaskType.SEQ_CLS


class Bert:
    name, fused = "MiniLM", ""
    # Trained by graft.
    methods = [
        "lora(r=8)",
        "lora(r=4,alpha=8,rslora=true,targets=attn.*|mlp.*|pooler,bias=all)",
        "lora(r=2,targets=blocks.1.mlp.fc2|blocks.5.attn.o)+lora(r=6,alpha=3,targets=attn.v)",
        "lora(r=4,bias=lora_only,dropout=0.1)",
        "lora(r=2,targets=*)",
        "lora(r=4)+ln",
        "lora(r=4)+bitfit",
        "ln",
        "ln(targets=blocks.2.norm1|embed.norm)",
        "prompt(tokens=4,pool=first)",
        "ptuning2(tokens=4,shift=true)",
        "prefix(tokens=4,mlp=16,shift=true)",
        "bitfit",
        "glora(r=2)",
    ]
    # Made by peft.
    configs = {
        "default": LoraConfig(task_type=CLASSIFIER, r=8, lora_alpha=16),
        "list": LoraConfig(
            r=4, target_modules=["query", "output.dense"], modules_to_save=["classifier"]
        ),
        "regex": LoraConfig(
            r=3,
            lora_alpha=5,
            target_modules=r".*\.layer\.(1|5)\..*(key|attention\.output\.dense)",
            bias="lora_only",
        ),
        "all-linear": LoraConfig(
            task_type=CLASSIFIER,
            r=2,
            target_modules="all-linear",
            use_rslora=True,
            rank_pattern={"intermediate.dense": 5, r"layer\.[2-4]\.attention\.self\.query": 3},
            alpha_pattern={"layer.0.attention.output.dense": 7},
            exclude_modules=["5.attention.self.value"],
            modules_to_save=["classifier", "attention.output.LayerNorm"],
        ),
        "head": LoraConfig(r=2, target_modules=["classifier", "value", "pooler.dense"]),
        "layers": LoraConfig(
            r=4,
            target_modules=["query", "value"],
            layers_to_transform=[0, 3, 5],
            bias="all",
        ),
        "biases": LoraConfig(task_type=CLASSIFIER, r=4, target_modules=["query"], bias="all"),
        "block": LoraConfig(
            r=4, target_modules=["query"], modules_to_save=["layer.5", "classifier"]
        ),
        "pooler and words": LoraConfig(
            task_type=CLASSIFIER,
            r=4,
            target_modules=["query"],
            modules_to_save=["pooler", "word_embeddings"],
        ),
        "norms": LNTuningConfig(task_type=CLASSIFIER, target_modules=["LayerNorm"]),
        "prompt": PromptTuningConfig(task_type=CLASSIFIER, num_virtual_tokens=5),
        "p-tuning": PromptEncoderConfig(
            task_type=CLASSIFIER, num_virtual_tokens=5, encoder_hidden_size=16
        ),
        "GLoRA": GloraConfig(r=2, target_modules=["query", "output.dense"]),
        "prefix": PrefixTuningConfig(task_type=CLASSIFIER, num_virtual_tokens=5),
        "some norms": LNTuningConfig(target_modules=["attention.output.LayerNorm"]),
    }

    def __init__(self, c):
        self.base = self.hf = c.args.minilm
        texts = c.root / "data/text"
        self.data = texts / "trec6"
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)
        self.groups = [
            [line.split("\t")[:-1] for line in lines[: c.args.count]]
            for lines in (
                (texts / task / "dev.tsv").read_text(encoding="utf-8").splitlines()
                for task in ("sst2", "trec6")
            )
        ]
        file = c.folder / "texts.txt"
        file.write_text("".join("\t".join(t) + "\n" for g in self.groups for t in g))
        self.options, self.inputs = [], [file]
        self.train = ["--data", self.data]
        self.classes = (self.data / "labels.txt").read_text().splitlines()
        # peft's adapters without a head of their own are on this one.
        self.base_with_head = c.folder / "base-with-head"
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(self.base, num_labels=3)
        for p in model.classifier.parameters():
            torch.nn.init.normal_(p, std=0.5)
        model.save_pretrained(self.base_with_head)
        self.tokenizer.save_pretrained(self.base_with_head)

    def model(self, classes=None, folder=None, head=True):
        told = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
        source = folder or (self.base_with_head if head else self.base)
        return BertForSequenceClassification.from_pretrained(source, **told).eval()

    def logits(self, model):
        out = []
        for texts in self.groups:
            columns = [list(column) for column in zip(*texts)]
            words = {"padding": True, "truncation": True, "max_length": 128}
            batch = self.tokenizer(*columns, **words, return_tensors="pt")
            with torch.no_grad():
                out.append(model(**batch).logits)
        return torch.cat(out)

    def check_merged(self, c, name, run, folder, expected):
        """transformers finds the tokenizer beside the model."""
        text = "a moving and funny film"
        ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
        c.row(name, "its tokenizer", ids == self.tokenizer(text)["input_ids"], f"{len(ids)} ids")

    def check_more(self, c):
        """An adapter of the backbone alone, whose names lack the prefix."""
        name = "of BertModel"
        if not c.wanted(name):
            return
        torch.manual_seed(2)
        model = self.model()
        config = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=4, target_modules=["key"])
        model.bert = get_peft_model(model.bert, config)
        c.randomise(model.bert)
        adapter, again = c.folder / "backbone", c.folder / "backbone-again"
        model.bert.save_pretrained(adapter)
        on_base = ["--model", self.base_with_head, "--adapter", adapter]
        c.same_logits(name, "graft", c.graft_logits(*on_base), self.logits(model))
        c.graft("export", *on_base, "--format", "hf-peft", "--out", again)
        c.same_tensors(name, "peft, graft", adapter, again)
