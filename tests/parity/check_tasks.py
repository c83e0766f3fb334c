"""Checks regression and multi-label classification against transformers: a checkpoint of
BertForSequenceClassification with a problem_type gives the same numbers in both, a training is
replayed step by step with the loss that transformers chooses, and what graft fuse writes opens
there again and gives what the run gives.

usage: GRAFT_DATA=DIR python check_tasks.py --graft GRAFT [--tolerance 1e-4]

DIR holds data/text/sst5 and weights/bert-base-uncased-vocab.txt. Exit 1 for a difference.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertTokenizerFast

TRAIN, EVAL, BATCH, RATE = 48, 16, 8, 1e-3
# name: problem_type, outputs, whether config.json says the type, --columns
TASKS = {
    "regression": ("regression", 1, True, "text,score"),
    "regression, one output that says nothing": ("regression", 1, False, "text,score"),
    "regression, two columns": ("regression", 2, True, "text,score|length"),
    "multi-label": ("multi_label_classification", 3, True, "text,labels"),
}
NAMES = ["long", "negative", "positive"]


class Checks:
    def __init__(self, args, folder):
        self.args, self.folder, self.count, self.failed = args, folder, 0, 0

    def graft(self, *words):
        done = subprocess.run([self.args.graft, *map(str, words), "--json"], capture_output=True)
        if done.returncode:
            sys.exit(f"graft {words[0]} failed: {done.stderr.decode()}")
        return json.loads(done.stdout)

    def row(self, task, name, good, text):
        self.count += 1
        self.failed += not good
        print(f"| {task} | {name} | {text} | {'yes' if good else 'NO'} |", flush=True)

    def near(self, task, name, found, expected):
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        difference = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)
        self.row(task, name, difference <= self.args.tolerance, f"{difference:.1e}")


def read_rows(data):
    rows = []
    with open(data / "data/text/sst5/train.tsv", encoding="utf-8") as file:
        for line in file:
            text, label = line.rstrip("\n").split("\t")
            if '"' not in text:
                rows.append((text, int(label)))
            if len(rows) == TRAIN + EVAL:
                return rows


def targets_of(rows, problem, outputs):
    if problem == "regression":
        numbers = [[label / 4 - 0.5, len(text) / 100] for text, label in rows]
        return torch.tensor(numbers)[:, :outputs]
    return torch.tensor([[float(len(t) > 100), float(y < 2), float(y > 2)] for t, y in rows])


def write_table(path, rows, problem):
    targets = targets_of(rows, problem, 3)
    lines = ["text,score,length" if problem == "regression" else "text,labels"]
    for (text, _), target in zip(rows, targets):
        cells = [f"{x:.9g}" for x in target.tolist()]
        if problem != "regression":
            cells = ["|".join(n for n, t in zip(NAMES, target) if t > 0)]
        lines.append(",".join([f'"{text}"', *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_model(path, vocabulary, problem, outputs, said):
    torch.manual_seed(outputs)
    tokenizer = BertTokenizerFast(str(vocabulary))
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2,
                        num_attention_heads=4, intermediate_size=96, max_position_embeddings=128,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                        num_labels=outputs, problem_type=problem if said else None)
    if problem != "regression":
        config.id2label = dict(enumerate(NAMES))
        config.label2id = {n: i for i, n in enumerate(NAMES)}
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model, tokenizer


def outputs_of(model, tokenizer, texts):
    with torch.no_grad():
        return torch.cat([model(**tokenizer(t, return_tensors="pt")).logits for t in texts])


def check_predictions(c, task, of, expected):
    """`of`: how graft opens it."""
    texts, logits = c.folder / "texts.txt", c.folder / "logits.npy"
    logits.unlink(missing_ok=True)
    predictions = c.graft("predict", *of, texts, "--logits", logits)["predictions"]
    c.near(task, f"logits of {of[0]}", np.load(logits), expected)
    if "values" in predictions[0]:
        shown = [[v["value"] for v in p["values"]] for p in predictions]
    else:
        expected = torch.sigmoid(expected)
        shown = [[t["probability"] for t in sorted(p["top"], key=lambda t: t["class"])]
                 for p in predictions]
        named = [sorted(p["labels"]) for p in predictions]
        above = [[n for n, x in zip(NAMES, row) if x > 0.5] for row in expected.tolist()]
        c.row(task, f"labels of {of[0]}", named == above, f"{len(named)} texts")
    c.near(task, f"predictions of {of[0]}", shown, expected)


def scale_head(model, mean, deviation, into):
    """The classifier gives standardised numbers, or (`into`) those of the table again."""
    with torch.no_grad():
        weight, bias = model.classifier.weight, model.classifier.bias
        weight.mul_(deviation[:, None] if into else 1 / deviation[:, None])
        bias.copy_(bias * deviation + mean if into else (bias - mean) / deviation)


def replay(c, task, model, tokenizer, rows, targets, trace):
    """AdamW in PyTorch, with the loss of transformers, over the batches of the trace. Numbers are
    standardised, as scikit-learn's StandardScaler does it."""
    batches = np.load(trace / "batches.npz")
    init = load_file(trace / "init.safetensors")
    numbers = task.startswith("regression")
    if numbers:
        mean, deviation = targets.mean(0), targets.std(0, correction=0)
        c.near(task, "mean and deviation", torch.cat([init["targets.mean"],
                                                       init["targets.deviation"]]),
               torch.cat([mean, deviation]))
        targets = (targets - mean) / deviation
        scale_head(model, mean, deviation, into=False)
    told = [json.loads(line) for line in (trace / "loss.jsonl").read_text().splitlines()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    losses = []
    for name in sorted(batches.files):
        order = batches[name]
        encoded = tokenizer([rows[i][0] for i in order], padding=True, return_tensors="pt")
        loss = model(**encoded, labels=targets[order]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    c.near(task, f"losses of {len(losses)} steps", [t["loss"] for t in told], losses)
    final, weight = load_file(trace / "final.safetensors"), model.classifier.weight
    c.near(task, "the trained head", final["head.weight"], weight.detach())
    if numbers:
        scale_head(model, mean, deviation, into=True)


def check_task(c, task, data):
    problem, outputs, said, columns = TASKS[task]
    folder = c.folder / f"{problem}{outputs}{said}"
    folder.mkdir()
    rows = read_rows(data)
    write_table(folder / "train.csv", rows[:TRAIN], problem)
    write_table(folder / "dev.csv", rows[TRAIN:], problem)
    base = folder / "base"
    vocabulary = data / "weights/bert-base-uncased-vocab.txt"
    model, tokenizer = make_model(base, vocabulary, problem, outputs, said)
    texts = [text for text, _ in rows[TRAIN:]]
    (c.folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    check_predictions(c, task, ["--model", base], outputs_of(model, tokenizer, texts))
    run, trace, fused = folder / "run", folder / "trace", folder / "fused"
    kind = "regression" if problem == "regression" else "multi-label"
    trained = c.graft("train", "--model", base, "--data", folder, "--task", kind, "--columns",
                      columns, "--method", "full", "--epochs", 2, "--batch-size", BATCH, "--lr",
                      RATE, "--schedule", "constant", "--warmup", 0, "--trace", trace, "--out", run)
    c.row(task, "goes on from the head", trained["task"] == kind, trained["task"])
    replay(c, task, model, tokenizer, rows, targets_of(rows[:TRAIN], problem, outputs), trace)
    expected = outputs_of(model, tokenizer, texts)
    last = ["--run", run, "--checkpoint", "last"]
    check_predictions(c, task, last, expected)
    with torch.no_grad():
        loss = torch.nn.MSELoss() if kind == "regression" else torch.nn.BCEWithLogitsLoss()
        loss = loss(expected, targets_of(rows[TRAIN:], problem, outputs)).item()
    found = c.graft("eval", *last, "--data", folder, "--split", "dev")
    c.near(task, "loss of eval", [found["loss"]], [loss])
    c.graft("fuse", *last, "--out", fused)
    again = AutoModelForSequenceClassification.from_pretrained(fused).eval()
    c.row(task, "problem_type", again.config.problem_type == problem, again.config.problem_type)
    c.near(task, "fused, in transformers", outputs_of(again, tokenizer, texts), expected)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", type=pathlib.Path, required=True, help="the graft command")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    torch.set_num_threads(1)
    data, folder = pathlib.Path(os.environ["GRAFT_DATA"]), pathlib.Path(tempfile.mkdtemp())
    checks = Checks(args, folder)
    print("| task | what | largest difference, or what was found | good |\n|---|---|---|---|")
    for task in TASKS:
        check_task(checks, task, data)
    shutil.rmtree(folder)
    print(f"{checks.count} checks, {checks.failed} failed")
    return 0 if checks.count and not checks.failed else 1


if __name__ == "__main__":
    sys.exit(main())
