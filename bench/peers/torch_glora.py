"""GLoRA on DeiT-Ti in the form of its authors' code, in PyTorch: what bench_glora.py measures.

usage: python torch_glora.py IMAGES [--threads N] [--rank R]
Answers each line of the standard input with milliseconds: "step" is a step of the supernet, in
which every layer draws its configuration and makes its weights anew; "candidate" evaluates a
configuration with the weights of the supernet, which no one folds.

Every linear layer but the head is  y = x (W + W * A + B)' + b + b * D + E + W C,  with A, B, C, D
and E drawn among LoRA, a vector, a constant and none, all of them slices of one storage (Chavan et
al. 2023, arXiv 2306.07967, and their released layer).
"""

import argparse
import random
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, DEPTH, HEADS, TOKENS, CLASSES = 192, 12, 3, 197, 10
CHOICES = {
    "A": ("lora", "vector", "constant", "none"),
    "B": ("lora", "vector", "constant", "none"),
    "C": ("lora", "vector", "none"),
    "D": ("constant", "none", "vector"),
    "E": ("constant", "none", "vector"),
}


class GloraLinear(nn.Linear):
    def __init__(self, inputs, outputs, rank):
        super().__init__(inputs, outputs)
        self.weight.requires_grad = self.bias.requires_grad = False
        shapes = {"A": (outputs, inputs), "B": (outputs, inputs), "C": (inputs, 1)}
        for name, (rows, columns) in shapes.items():
            setattr(self, f"{name}d", nn.Parameter(torch.zeros(rows, rank)))
            up = torch.empty(rank, columns)
            nn.init.xavier_uniform_(up)
            setattr(self, f"{name}u", nn.Parameter(up))
        self.D = nn.Parameter(torch.zeros(outputs))
        self.E = nn.Parameter(torch.zeros(outputs))
        self.config = None

    def matrix(self, name, choice):
        down, up = getattr(self, f"{name}d"), getattr(self, f"{name}u")
        shape = (down.shape[0], up.shape[1])
        if choice == "lora":
            return down @ up
        if choice == "vector":
            return down[:, :1].expand(shape)
        if choice == "constant":
            return down[0, 0].expand(shape)
        return torch.zeros(shape)

    def vector(self, name, choice):
        stored = getattr(self, name)
        if choice == "vector":
            return stored
        return stored[:1] if choice == "constant" else torch.zeros(1)

    def forward(self, x):
        config = self.config or {k: random.choice(v) for k, v in CHOICES.items()}
        a, b, c = (self.matrix(name, config[name]) for name in "ABC")
        d, e = (self.vector(name, config[name]) for name in "DE")
        weight = self.weight + self.weight * a + b
        bias = self.bias + self.bias * d + e + (self.weight @ c).squeeze(1)
        return F.linear(x, weight, bias)


class Block(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.qkv = GloraLinear(WIDTH, 3 * WIDTH, rank)
        self.proj = GloraLinear(WIDTH, WIDTH, rank)
        self.fc1 = GloraLinear(WIDTH, 4 * WIDTH, rank)
        self.fc2 = GloraLinear(4 * WIDTH, WIDTH, rank)

    def forward(self, x):
        n = x.shape[0]
        qkv = self.qkv(self.norm1(x)).reshape(n, TOKENS, 3, HEADS, WIDTH // HEADS)
        y = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.proj(y.transpose(1, 2).reshape(n, TOKENS, WIDTH))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DeitTiny(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block(rank) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        for p in self.parameters():
            p.requires_grad = False
        for layer in self.layers():
            for name in ("Ad", "Au", "Bd", "Bu", "Cd", "Cu", "D", "E"):
                getattr(layer, name).requires_grad = True
        self.head = nn.Linear(WIDTH, CLASSES)

    def layers(self):
        return [m for m in self.modules() if isinstance(m, GloraLinear)]

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("images", type=int)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rank", type=int, default=4)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    random.seed(1)
    model = DeitTiny(o.rank)
    image = torch.randn(o.images, 3, 224, 224)
    label = torch.arange(o.images) % CLASSES
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-4)

    def step():
        for layer in model.layers():
            layer.config = None
        optimizer.zero_grad()
        F.cross_entropy(model(image), label).backward()
        optimizer.step()

    @torch.no_grad()
    def candidate():
        for layer in model.layers():
            layer.config = {k: random.choice(v) for k, v in CHOICES.items()}
        F.cross_entropy(model(image), label)

    step()  # first uses
    candidate()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        (step if line.strip() == "step" else candidate)()
        print(1e3 * (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
