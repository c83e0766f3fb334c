"""Trains methods by one recipe in Graft and in PyTorch, three seeds each, and compares the mean
accuracies: within 2 points. Each side draws its own first values, order and head. What is finished
is kept in OUT and not trained again.

usage: python three_seeds.py --graft GRAFT --data DIR --minilm DIR --out OUT
       [--methods REGEX] [--seeds 0,1,2] [--threads N]

DIR holds weights/deit_tiny_patch16_224.safetensors, data/vtab-1k and data/text. cifar10: DeiT-Ti at
112 x 112 pixels, the 1,000 images of train800val200, 6 epochs in batches of 32, the first 1,000
images of test. sst2: MiniLM, the first 1,000 texts, 4 epochs in batches of 16, all of dev. AdamW
with weight decay 1e-4, a cosine with a tenth of warm-up, and the rate that Graft has for the method
where none is given. Exit 1 if a mean is further away.
"""

import argparse
import json
import math
import pathlib
import re
import statistics
import sys
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

import methods
import replay_bert
import replay_vit
import torch_bert
import torch_vit
from accuracy_of_methods import call

CASES = (
    ("cifar10", "lora"),
    ("cifar10", "adaptformer"),
    ("cifar10", "vpt-deep"),
    ("cifar10", "ssf"),
    ("cifar10", "repadapter"),
    ("cifar10", "fact"),
    ("sst2", "prefix"),
)
POINTS = 2.0
SIDE, DECAY, WARMUP = 112, 1e-4, 0.1
IMAGES = f"resize={SIDE},filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"
LONGEST = 128


class Task:
    """data, model, splits (train, test) with how many of each (0: all), epochs, batch, classes."""

    def __init__(self, a, name):
        shared, self.name = pathlib.Path(a.data), name
        if name == "sst2":
            self.data, self.model = shared / "data/text/sst2", pathlib.Path(a.minilm)
            self.splits, self.counts = ("train", "dev"), (1000, 0)
            self.epochs, self.batch, self.classes = 4, 16, 2
            self.words = ["--val-split", "none", "--pool", "pooler", "--max-length", str(LONGEST)]
        else:
            self.data = shared / "data/vtab-1k" / name
            self.model = shared / "weights/deit_tiny_patch16_224.safetensors"
            self.splits, self.counts = ("train800val200", "test"), (0, 1000)
            self.epochs, self.batch, self.classes = 6, 32, 10
            self.words = ["--preprocess", IMAGES]

    def base(self):
        """The model's parameters; positions of pictures as timm resamples them."""
        if self.name == "sst2":
            return torch_bert.load_model(self.model)[0]
        params = torch_vit.load_model(self.model)[0]
        table = params["pos_embed"].reshape(-1, params["norm.weight"].numel())
        before, after = math.isqrt(len(table) - 1), SIDE // 16
        grid = table[1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(after, after), mode="bicubic", antialias=True)
        rows = grid.permute(0, 2, 3, 1).reshape(after * after, -1)
        params["pos_embed"] = torch.cat([table[:1], rows]).unsqueeze(0)
        return params

    def torch_model(self, method, params, split):
        config = {"method": method, "data": self.data, "model": self.model, "split": split}
        config |= {"preprocess": IMAGES, "max_length": LONGEST, "pool": "pooler"}
        kind = replay_bert.Bert if self.name == "sst2" else replay_vit.Vit
        return kind(SimpleNamespace(data=self.data, split=split), config, params, {})

    def limited(self, which, labels):
        return range(self.counts[which] or len(labels))


def in_graft(a, task, method, rate, seed):
    run = pathlib.Path(a.out) / f"{task.name}_{method}_{seed}"
    common = ["--json", "--threads", a.threads]
    if (run / "config.json").exists():
        trained = call([a.graft, "train", "--resume", run, *common])
    else:
        limit = ["--limit", task.counts[0]] if task.counts[0] else []
        trained = call(
            [a.graft, "train", "--model", task.model, "--data", task.data, "--method", method]
            + ["--train-split", task.splits[0], *limit, *task.words, "--epochs", task.epochs]
            + ["--batch-size", task.batch, "--lr", rate, "--weight-decay", DECAY]
            + ["--schedule", "cosine", "--warmup", WARMUP, "--seed", seed, "--dtype", "f32"]
            + ["--out", run, *common]
        )
    limit = ["--limit", task.counts[1]] if task.counts[1] else []
    split = ["--data", task.data, "--split", task.splits[1], *limit]
    found = call([a.graft, "eval", "--run", run, *split, *common])
    (run / "state.safetensors").unlink(missing_ok=True)  # three times what trained
    return {
        "accuracy": 100 * found["accuracy"],
        "n": found["n"],
        "trained": trained["trainable_parameters"],
        "seconds": trained["seconds"],
    }


def start(task, method, seed):
    """(model, all parameters, those that train) as PyTorch starts."""
    generator = torch.Generator().manual_seed(seed)
    params = task.base()
    width = params["blocks.0.norm1.weight"].numel()
    params["head.weight"] = torch.empty(task.classes, width).normal_(0, 0.02, generator=generator)
    params["head.bias"] = torch.zeros(task.classes)
    model = task.torch_model(method, params, task.splits[0])
    base = {k: tuple(v.shape) for k, v in params.items()}
    trained = model.method.trained(base)
    params |= {k: v.float() for k, v in model.method.initial(generator).items()}
    params = {k: v.clone().requires_grad_(k in trained) for k, v in params.items()}
    return model, params, [params[k] for k in sorted(trained)], generator


def in_pytorch(a, task, method, rate, seed):
    model, params, leaves, generator = start(task, method, seed)
    rows = task.limited(0, model.labels)
    labels, began = torch.tensor(model.labels), time.monotonic()
    optimizer = torch.optim.AdamW(leaves, lr=rate, weight_decay=DECAY)
    steps, step = task.epochs * math.ceil(len(rows) / task.batch), 0
    for _ in range(task.epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(task.batch):
            at = torch_vit.learning_rate(step, steps, rate, "cosine", WARMUP)
            optimizer.param_groups[0]["lr"] = at
            loss = F.cross_entropy(model.logits(params, batch.tolist(), {}), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    seconds = time.monotonic() - began
    test = task.torch_model(method, params, task.splits[1])
    rows, right = task.limited(1, test.labels), 0
    with torch.no_grad():
        for first in range(0, len(rows), 100):
            part = list(rows[first : first + 100])
            told = test.logits(params, part, {}).argmax(1).tolist()
            right += sum(x == test.labels[row] for x, row in zip(told, part))
    return {
        "accuracy": 100 * right / len(rows),
        "n": len(rows),
        "trained": sum(p.numel() for p in leaves),
        "seconds": seconds,
    }


def unit(a, side, *case):
    """The result of one training, from OUT if it is there."""
    task, method, _, seed = case
    file = pathlib.Path(a.out) / f"{task.name}_{method}_{seed}_{side.__name__}.json"
    if not file.exists():
        fresh = file.with_suffix(".tmp")
        fresh.write_text(json.dumps(side(a, *case)))
        fresh.rename(file)
    return json.loads(file.read_text())


def row(case, sides):
    """The table's line, and whether the means are near."""
    means = [statistics.mean(r["accuracy"] for r in results) for results in sides]
    counts = {(r["n"], r["trained"]) for results in sides for r in results}
    near = abs(means[0] - means[1]) <= POINTS and len(counts) == 1
    cells = []
    for results, mean in zip(sides, means):
        cells += [", ".join(f"{r['accuracy']:.1f}" for r in results), f"{mean:.1f}"]
    seconds = " / ".join(f"{statistics.median(r['seconds'] for r in rs):.0f}" for rs in sides)
    return (
        f"| {case[0]} | `{case[1]}` | {' | '.join(cells)} | {means[0] - means[1]:+.1f} | {seconds} "
        f"| {'yes' if near else 'NO'} |",
        near,
    )


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--graft", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--minilm", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--methods", default="")
    p.add_argument("--seeds", default="0,1,2")
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    listed = call([a.graft, "inspect", "--methods", "--json"])["methods"]
    rates = {m["name"]: m["learning_rates"] for m in listed}
    seeds = [int(s) for s in a.seeds.split(",")]
    cases = [c for c in CASES if re.search(a.methods, c[1])]
    found = {}
    for seed in seeds:  # each method once, before any is trained again
        for task, method in cases:
            for side in (in_graft, in_pytorch):
                rate = rates[method]["texts" if task == "sst2" else "images"]
                told = unit(a, side, Task(a, task), method, rate, seed)
                found.setdefault((task, method, side), []).append(told)
                line = f"{task} {method} {seed} {side.__name__} {told['accuracy']:.1f}"
                print(f"{line} in {told['seconds']:.0f} s", file=sys.stderr, flush=True)
    sides = "Graft, by seed | mean | PyTorch, by seed | mean"
    print(f"| task | method | {sides} | apart | seconds | near |")
    print("|---" * 9 + "|")
    good = True
    for case in cases:
        line, near = row(case, [found[*case, side] for side in (in_graft, in_pytorch)])
        print(line)
        good = good and near
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
