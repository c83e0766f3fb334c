"""One PyTorch measurement on real texts per process; prints one JSON line.

usage: python torch_texts.py lora|infer MODEL_DIR TEXTS.tsv [--batch N] [--epochs N] [--threads N]
    [--dtype f32|bf16]

The usual loop: a batch is padded to its longest text (transformers' tokenizer), the model is
transformers' BERT with peft's LoRA (r=8, alpha=16, query and value), AdamW. The time is that of an
epoch, tokenizing included, after one batch that is not counted. Inference takes the texts in the
file's order. bf16 is autocast.
"""

import argparse
import json
import os
import time
import warnings


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", choices=("lora", "infer"))
    p.add_argument("model")
    p.add_argument("texts")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    return p.parse_args()


def main():
    args = parse()
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with open(args.texts, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    labels = torch.tensor([int(r[-1]) for r in rows])
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = BertForSequenceClassification.from_pretrained(
        args.model,
        num_labels=int(labels.max()) + 1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model.eval()
    if args.task == "lora":
        config = LoraConfig(
            r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=["classifier"]
        )
        model = get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step(indices):
        columns = zip(*(rows[i][:-1] for i in indices))
        encoded = tokenizer(
            *(list(c) for c in columns),
            truncation=True,
            max_length=128,
            padding=True,
            return_tensors="pt",
        )
        low = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16")
        if args.task == "infer":
            with torch.inference_mode(), low:
                return model(**encoded).logits
        with low:
            logits = model(**encoded).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(list(range(min(args.batch, len(rows)))))
    start = time.perf_counter()
    for _ in range(args.epochs):
        order = torch.arange(len(rows)) if args.task == "infer" else torch.randperm(len(rows))
        for batch in order.split(args.batch):
            step(batch.tolist())
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "examples_per_second": args.epochs * len(rows) / seconds,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
