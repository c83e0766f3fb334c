"""Replays in PyTorch a training run from Graft's trace, and compares losses, learning rates and
final tensors.

usage: graft train ... --out RUN --trace DIR
       python replay.py --trace DIR --run RUN [--data DATA]

Exit 0: equal within the tolerances; 1: not equal; the table says where. Files and names: trace.py;
the models: replay_vit.py, replay_bert.py.
"""

import argparse
import json
import pathlib
import sys

import torch
import torch.nn.functional as F

import agreement
import replay_bert
import replay_vit
import torch_vit
import trace


def parse(words=None):
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--trace", type=pathlib.Path, required=True)
    p.add_argument(
        "--run", type=pathlib.Path, required=True, help="the run directory (config.json)"
    )
    p.add_argument(
        "--data",
        type=pathlib.Path,
        help="the data folder, where it is not the one that config.json names",
    )
    p.add_argument("--split", help="the training list, where config.json does not name it")
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--strict", type=float, default=1, help="times what is allowed")
    p.add_argument("--rows", type=int, default=8, help="tensors to print, worst first")
    p.add_argument("--label", help="name of this run in the table of --table")
    p.add_argument("--table", type=pathlib.Path, help="append one markdown row here")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here")
    return p.parse_args(words)


def make_optimizer(parameters, config):
    lr, decay = float(config["lr"]), float(config.get("weight_decay", 0))
    name = config.get("optimizer", "adamw")
    name = name.get("name", "adamw") if isinstance(name, dict) else name
    if name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=float(config.get("momentum", 0.9)), weight_decay=decay
        )
    betas = float(config.get("beta1", 0.9)), float(config.get("beta2", 0.999))
    return torch.optim.AdamW(
        parameters, lr=lr, betas=betas, eps=float(config.get("adam_eps", 1e-8)), weight_decay=decay
    )


def replay(args, config, model, trained, steps):
    """Losses before every update; the parameters after the last."""
    batches, masks = trace.batches(args.trace), trace.Masks(args.trace)
    if len(batches) != len(steps):
        raise SystemExit(f"{len(batches)} batches but {len(steps)} losses")
    dtype = getattr(torch, args.dtype)
    leaves = [model.params[k] for k in trained]
    optimizer, clip = make_optimizer(leaves, config), float(config.get("clip", 0) or 0)
    smoothing, losses = float(config.get("label_smoothing", 0) or 0), []
    for step, rows in enumerate(batches):
        rows = rows.tolist()
        if max(rows) >= len(model.labels):
            raise SystemExit(f"batches.npz: row {max(rows)} of a list of {len(model.labels)}")
        here = {k: v.to(dtype) for k, v in masks.step(step).items()}
        check_masks(config, here, model.depth)
        labels = torch.tensor([model.labels[row] for row in rows])
        loss = F.cross_entropy(model.logits(rows, here), labels, label_smoothing=smoothing)
        optimizer.param_groups[0]["lr"] = steps[step][1]
        optimizer.zero_grad()
        loss.backward()
        if clip > 0:
            torch.nn.utils.clip_grad_norm_(leaves, clip)
        optimizer.step()
        losses.append(loss.item())
    return losses, {k: v.detach() for k, v in model.params.items()}


def check_masks(config, masks, depth):
    dropout, drop_path = trace.dropout(config["method"]), float(config.get("drop_path", 0))
    there = tuple(any(s in site for site in masks) for s in (".dropout", ".drop_path"))
    if (dropout > 0, drop_path > 0) != there:
        raise SystemExit(f"FAIL masks.npz: {dropout=}, {drop_path=}, but found {there}")
    wrong = agreement.check_masks(masks, dropout, drop_path, depth)
    if wrong:
        raise SystemExit(f"FAIL masks.npz: {wrong}")


def check_schedule(steps, config):
    """The largest relative difference between the recorded rates and the formula."""
    worst, base = 0.0, float(config["lr"])
    for i, (_, recorded) in enumerate(steps):
        expected = torch_vit.learning_rate(
            i, len(steps), base, config.get("schedule", "cosine"), float(config.get("warmup", 0.1))
        )
        worst = max(worst, abs(recorded - expected) / base)
    return worst


def report(args, config, steps, losses, updates, schedule):
    apart = [abs(a - b) / max(abs(b), 1e-2) for (a, _), b in zip(steps, losses)]
    worst = max(range(len(apart)), key=lambda i: (apart[i] != apart[i], apart[i]))
    print(f"method {config.get('method')}: {len(steps)} steps, {len(updates.rows)} tensors")
    print(f"{'step':>5} {'graft loss':>12} {'torch loss':>12} {'relative':>9}")
    for i in sorted({0, 1, len(steps) // 2, worst, len(steps) - 1} & set(range(len(steps)))):
        print(
            f"{i:5} {steps[i][0]:12.6f} {losses[i]:12.6f} {apart[i]:9.1e}"
            f"{'  worst' if i == worst else ''}"
        )
    print("update of each tensor, and over what is allowed:")
    for share, relative, name in updates.rows[: args.rows]:
        print(f"  {relative:9.1e} {share:9.1e}  {name}")
    decay = float(config.get("weight_decay", 0))
    # name, figure, what is allowed
    checks = [
        ("losses", apart[worst], agreement.LOSS),
        ("each update over what is allowed", updates.rows[0][0], 1),
        ("all updates", updates.together, updates.allowed),
        ("weight decay", abs(updates.decay(sum(rate for _, rate in steps))),
         max(agreement.DECAY * decay, agreement.LEAST_DECAY)),
        ("learning rate", schedule, agreement.RATE),
    ]
    good = True
    for name, value, allowed in checks:
        allowed *= args.strict
        fine = value <= allowed
        good = good and fine
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {value:.1e} (allowed {allowed:.1e})")
    write(args, config, steps, losses, updates, checks, good)
    return good


def write(args, config, steps, losses, updates, checks, good):
    label = args.label or str(config.get("method"))
    if args.json:
        figures = {name.replace(" ", "_"): value for name, value, _ in checks}
        told = {"label": label, "steps": len(steps), "good": good, **figures, "rows": updates.rows}
        args.json.write_text(json.dumps(told) + "\n")
    if args.table:
        loss, each, together, decay, _ = (f"{value:.1e}" for _, value, _ in checks)
        worst = updates.rows[0][1]
        with args.table.open("a") as f:
            f.write(
                f"| {label.replace('|', '&#124;')} | {len(steps)} | {losses[0]:.4f} | "
                f"{losses[-1]:.4f} | {loss} | {worst:.1e} | {together} | {updates.allowed:.1e} | "
                f"{decay} | {'yes' if good else 'NO'} |\n"
            )


def main(words=None):
    args = parse(words)
    torch.set_num_threads(args.threads)
    config = trace.settings(args.run / "config.json")
    init, metadata = trace.tensors(args.trace / "init.safetensors")
    final, _ = trace.tensors(args.trace / "final.safetensors")
    unknown = [k for k in final if k not in init]
    if unknown or not final:
        raise SystemExit(f"final.safetensors: no such initial tensors: {unknown[:5]}")
    expected = trace.trainable(config["method"], init)
    if expected is not None and expected != set(final):
        missing, extra = sorted(expected - set(final)), sorted(set(final) - expected)
        print(
            f"FAIL trained tensors: missing {missing[:6]}, unexpected {extra[:6]} "
            f"({len(missing)}, {len(extra)} in all)"
        )
        return 1
    if trace.lora_scale(config["method"]) == 0 and any("lora_" in k for k in init):
        raise SystemExit("the trace has LoRA tensors, but config.json names no lora method")
    steps = trace.losses(args.trace)
    make_model = replay_bert.Bert if "embed.word.weight" in init else replay_vit.Vit
    model = make_model(args, config, init, metadata, set(final))
    losses, ours = replay(args, config, model, list(final), steps)
    updates = agreement.Updates(init, ours, final, len(steps))
    good = report(args, config, steps, losses, updates, check_schedule(steps, config))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
