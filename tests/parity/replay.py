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

import replay_bert
import replay_vit
import torch_vit
import trace


def parse():
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
    p.add_argument("--loss-tolerance", type=float, default=1e-3, help="relative, of every step")
    p.add_argument(
        "--tensor-tolerance",
        type=float,
        default=1e-2,
        help="||difference|| / ||tensor||, of every tensor",
    )
    p.add_argument(
        "--update-tolerance",
        type=float,
        default=5e-2,
        help="||difference|| / ||what training moved||, of all together",
    )
    p.add_argument("--rows", type=int, default=8, help="tensors to print, worst first")
    p.add_argument("--label", help="name of this run in the table of --table")
    p.add_argument("--table", type=pathlib.Path, help="append one markdown row here")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here")
    return p.parse_args()


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
        check_masks(config, here)
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


def check_masks(config, masks):
    """A run that should have drawn masks and did not would replay as well without them."""
    random = trace.dropout(config["method"]) > 0, float(config.get("drop_path", 0)) > 0
    there = tuple(any(s in site for site in masks) for s in (".dropout", ".drop_path"))
    if random != there:
        raise SystemExit(f"masks.npz: (dropout, drop path) expected {random}, found {there}")


def check_schedule(steps, config):
    """The largest relative difference between the recorded rates and the formula."""
    worst, base = 0.0, float(config["lr"])
    for i, (_, recorded) in enumerate(steps):
        expected = torch_vit.learning_rate(
            i, len(steps), base, config.get("schedule", "cosine"), float(config.get("warmup", 0.1))
        )
        worst = max(worst, abs(recorded - expected) / base)
    return worst


def compare_tensors(init, ours, final):
    """Rows (relative difference, name), worst first, and difference / movement over all tensors."""
    rows, difference, movement = [], 0.0, 0.0
    for name, theirs in final.items():
        mine, theirs = ours[name].double().flatten(), theirs.double().flatten()
        apart = (mine - theirs).norm()
        if not torch_vit.is_inert(name):
            rows.append(((apart / mine.norm().clamp_min(1e-30)).item(), name))
            difference += apart.item() ** 2
            movement += (mine - init[name].double().flatten()).norm().item() ** 2
    # NaN is worse than any number.
    rows.sort(key=lambda r: (r[0] == r[0], -r[0]))
    return rows, (difference / max(movement, 1e-60)) ** 0.5


def report(args, config, steps, losses, rows, update, schedule):
    apart = [abs(a - b) / max(abs(b), 1e-2) for (a, _), b in zip(steps, losses)]
    worst = max(range(len(apart)), key=lambda i: (apart[i] != apart[i], apart[i]))
    print(f"method {config.get('method')}: {len(steps)} steps, {len(rows)} tensors compared")
    print(f"{'step':>5} {'graft loss':>12} {'torch loss':>12} {'relative':>9}")
    for i in sorted({0, 1, len(steps) // 2, worst, len(steps) - 1} & set(range(len(steps)))):
        print(
            f"{i:5} {steps[i][0]:12.6f} {losses[i]:12.6f} {apart[i]:9.1e}"
            f"{'  worst' if i == worst else ''}"
        )
    for relative, name in rows[: args.rows]:
        print(f"  {relative:9.1e}  {name}")
    checks = [
        ("losses", apart[worst], args.loss_tolerance),
        ("final tensors", rows[0][0], args.tensor_tolerance),
        ("update", update, args.update_tolerance),
        ("learning rate", schedule, 1e-5),
    ]
    good = True
    for name, value, tolerance in checks:
        fine = value <= tolerance
        good = good and fine
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {value:.1e} (tolerance {tolerance:.0e})")
    figures = {
        "label": args.label or str(config.get("method")),
        "steps": len(steps),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "good": good,
        **{k.replace(" ", "_"): v for k, v, _ in checks},
    }
    if args.json:
        args.json.write_text(json.dumps(figures) + "\n")
    if args.table:
        with args.table.open("a") as f:
            f.write(
                f"| {figures['label'].replace('|', '&#124;')} | {len(steps)} | {losses[0]:.4f} | "
                f"{losses[-1]:.4f} | {apart[worst]:.1e} | {rows[0][0]:.1e} | {update:.1e} | "
                f"{'yes' if good else 'NO'} |\n"
            )
    return good


def main():
    args = parse()
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
        sys.exit(1)
    if trace.lora_scale(config["method"]) == 0 and any("lora_" in k for k in init):
        raise SystemExit("the trace has LoRA tensors, but config.json names no lora method")
    steps = trace.losses(args.trace)
    make_model = replay_bert.Bert if "embed.word.weight" in init else replay_vit.Vit
    model = make_model(args, config, init, metadata, set(final))
    losses, ours = replay(args, config, model, list(final), steps)
    rows, update = compare_tensors(init, ours, final)
    sys.exit(
        0 if report(args, config, steps, losses, rows, update, check_schedule(steps, config)) else 1
    )


if __name__ == "__main__":
    main()
