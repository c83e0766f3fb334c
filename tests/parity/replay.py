"""Replays in PyTorch a training run from Graft's trace, and compares losses, learning rates and
final tensors.

usage: graft train ... --out RUN --trace DIR
       python replay.py --trace DIR --run RUN [--data DATA]

Exit 0: equal within the tolerances; 1: not equal; the table says where. Files and names: trace.py;
the models: replay_vit.py, replay_bert.py.
"""

import argparse
import fnmatch
import json
import pathlib
import re
import sys

import torch
import torch.nn.functional as F

import agreement
import replay_bert
import replay_vit
import torch_vit
import trace
from methods import nf4


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


def is_named(word, name, rank):
    """Whether a word of --no-decay and --lr-scale means a parameter."""
    parts = name.split(".")
    if word == "bias":
        return name.endswith("bias")
    if word == "vector":
        return rank == 1
    if word == "norm":
        return len(parts) > 1 and "norm" in parts[-2]
    return any(fnmatch.fnmatchcase(text, word) for text in (name, *parts))


def groups_of(parameters, config):
    """Parameter groups, each with its decay and "factor", what its rate is multiplied by."""
    lr, decay = float(config["lr"]), float(config.get("weight_decay", 0))
    spared = [word for word in config.get("no_decay", "").split("|") if word]
    rules = [rule.rsplit("=", 1) for rule in config.get("lr_scale", "").split("|") if rule]
    groups = []
    for name, p in parameters.items():
        spares = any(is_named(word, name, p.dim()) for word in spared)
        factor = next((float(f) for word, f in rules if is_named(word, name, p.dim())), 1.0)
        group = {"params": [p], "lr": lr * factor, "factor": factor}
        groups.append(group | {"weight_decay": 0.0 if spares else decay})
    return groups


def make_optimizer(parameters, config):
    groups, lr = groups_of(parameters, config), float(config["lr"])
    name = config.get("optimizer", "adamw")
    name = name.get("name", "adamw") if isinstance(name, dict) else name
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=float(config.get("momentum", 0.9)))
    betas = float(config.get("beta1", 0.9)), float(config.get("beta2", 0.999))
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=float(config.get("adam_eps", 1e-8)))


class Replay:
    """params after the last step; losses before each; `late`: names whose gradient was 0 at the
    first step, as that of what a factor that starts at 0 multiplies; `inert`: {name: True where the
    gradient is nothing but rounding}."""

    def __init__(self, args, config, model, init, trained):
        dtype = getattr(torch, args.dtype)
        self.params = {k: v.to(dtype).clone().requires_grad_(k in trained) for k, v in init.items()}
        self.model, self.config, self.dtype = model, config, dtype
        self.trained, self.losses, self.late = trained, [], set()

    def run(self, folder, steps):
        batches, masks = trace.batches(folder), trace.Masks(folder)
        if len(batches) != len(steps):
            raise SystemExit(f"{len(batches)} batches but {len(steps)} losses")
        config, leaves = self.config, {k: self.params[k] for k in self.trained}
        optimizer = make_optimizer(leaves, config)
        clip = float(config.get("clip", 0) or 0)
        for step, rows in enumerate(batches):
            here = masks.step(step, self.dtype)
            check_masks(config, self.model, here)
            loss = self.loss(self.params, rows.tolist(), here)
            for group in optimizer.param_groups:
                group["lr"] = steps[step][1] * group["factor"]
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                self.late = {k for k, p in leaves.items() if not p.grad.any()}
            if clip > 0:
                torch.nn.utils.clip_grad_norm_(leaves.values(), clip)
            for name, p in leaves.items():
                p.grad = self.model.method.gradient(name, p.grad, here, self.params)
            optimizer.step()
            self.losses.append(loss.item())
            if here.keys() - here.used:
                more = sorted(here.keys() - here.used)
                raise SystemExit(f"FAIL masks.npz: no such places: {more[:6]}")
        last = range(len(batches))[-4:]
        self.inert = self.find_inert([(batches[i], masks.step(i, torch.float64)) for i in last])

    def loss(self, params, rows, masks):
        labels = self.model.labels
        if max(rows) >= len(labels):
            raise SystemExit(f"batches.npz: row {max(rows)} of a list of {len(labels)}")
        return F.cross_entropy(
            self.model.logits(params, rows, masks),
            torch.tensor([labels[row] for row in rows]),
            label_smoothing=float(self.config.get("label_smoothing", 0) or 0),
        )

    def find_inert(self, batches):
        """From a few batches in float64, in which rounding is 1e-16 of what is added up."""
        params = {k: v.detach().double() for k, v in self.params.items()}
        leaves = [params[k].requires_grad_() for k in self.trained]
        most = [torch.zeros_like(p) for p in leaves]
        for rows, masks in batches:
            loss = self.loss(params, rows.tolist(), masks)
            found = torch.autograd.grad(loss, leaves, materialize_grads=True)
            most = [torch.maximum(m, g.abs()) for m, g in zip(most, found)]
        small = [m < agreement.INERT * max(m.max().item() for m in most) for m in most]
        # A gradient of exactly 0, as of words that no text has, is compared unless others of the
        # tensor are rounding.
        live = [(s & (m != 0)).any() for s, m in zip(small, most)]
        return {k: s & any_of for k, s, any_of in zip(self.trained, small, live)}


def check_masks(config, model, masks):
    dropout, drop_path = model.method.dropout, float(config.get("drop_path", 0))
    there = tuple(any(s in site for site in masks) for s in (".dropout", ".drop_path"))
    if (dropout > 0, drop_path > 0) != there:
        raise SystemExit(f"FAIL masks.npz: {dropout=}, {drop_path=}, but found {there}")

    def rate(site):
        block = re.fullmatch(r"blocks\.(\d+)\.drop_path[12]", site)
        if block:
            return drop_path * int(block[1]) / (model.config.depth - 1)
        return model.method.gradient_rate if site.startswith("childtuning.") else dropout

    wrong = agreement.check_masks(masks, rate)
    if wrong:
        raise SystemExit(f"FAIL masks.npz: {wrong}")


def check_tensors(model, init, final):
    """What is wrong with the names and shapes of a trace, or ""."""
    added, found = model.method.added(), {k: tuple(v.shape) for k, v in init.items()}
    base = {k: found[k] for k in found.keys() & model.names}
    frozen = model.method.frozen(base)
    added |= frozen
    wrong = [f"{k} {found.get(k)}, expected {v}" for k, v in added.items() if found.get(k) != v]
    if wrong:
        return f"init.safetensors: {wrong[:4]} ({len(wrong)} in all)"
    if found.keys() != model.names | added.keys():
        more = sorted(found.keys() - model.names - added.keys())
        less = sorted(model.names - found.keys())
        return f"init.safetensors: no such parameters {more[:4]}, missing {less[:4]}"
    for name in frozen:  # may stand beside what trained
        final.pop(name, None)
    expected = model.method.trained(base)
    if expected != set(final):
        missing, extra = sorted(expected - set(final)), sorted(set(final) - expected)
        return (
            f"trained tensors: missing {missing[:6]}, unexpected {extra[:6]} "
            f"({len(missing)}, {len(extra)} in all)"
        )
    return model.method.wrong_start(model.files, init)


def check_schedule(steps, config):
    """The largest relative difference between the recorded rates and the formula."""
    worst, base = 0.0, float(config["lr"])
    for i, (_, recorded) in enumerate(steps):
        expected = torch_vit.learning_rate(
            i, len(steps), base, config.get("schedule", "cosine"), float(config.get("warmup", 0.1))
        )
        worst = max(worst, abs(recorded - expected) / base)
    return worst


def apart_of(steps, losses):
    """Of each step's loss, relative."""
    return [abs(a - b) / max(abs(b), 1e-2) for (a, _), b in zip(steps, losses)]


def report(args, config, steps, losses, updates, schedule):
    """Whether all agrees, after a table that says where it does not."""
    apart = apart_of(steps, losses)
    worst = max(range(len(apart)), key=lambda i: (apart[i] != apart[i], apart[i]))
    print(
        f"method {config.get('method')}: {len(steps)} steps, {len(updates.rows)} tensors, "
        f"{updates.inert} numbers left out, whose gradient is rounding"
    )
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
        (
            "weight decay",
            abs(updates.decay(sum(rate for _, rate in steps))),
            max(agreement.DECAY * decay, agreement.LEAST_DECAY),
        ),
        ("learning rate", schedule, agreement.RATE),
    ]
    good = True
    for name, value, allowed in checks:
        allowed *= args.strict
        fine = value <= allowed
        good = good and fine
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {value:.1e} (allowed {allowed:.1e})")
    return good, checks


def as_near_as_pytorch(args, model, init, final, steps, ours):
    """Whether the run is as near to a replay in float64 as the one in float32 is, each tensor by
    itself. Rounding grows where a step is not smooth, as at a ReLU, which two right programs in
    float32 take at different sides of 0, or where the rate is high: there no fixed tolerance can be
    met, and this one can. Where PyTorch in float32 is near, the fixed ones hold."""
    exact = Replay(argparse.Namespace(**{**vars(args), "dtype": "float64"}), ours.config, model,
                   init, list(final))  # fmt: skip
    exact.run(args.trace, steps)
    rates = [rate for _, rate in steps]
    told = {"Graft": (final, [loss for loss, _ in steps]), "PyTorch": (ours.params, ours.losses)}
    found = {}
    for who, (tensors, losses) in told.items():
        updates = agreement.Updates(init, exact, {k: tensors[k] for k in final}, len(steps))
        apart = apart_of(list(zip(losses, rates)), exact.losses)
        decay = float(ours.config.get("weight_decay", 0))
        found[who] = {
            "losses": (sum(x != x for x in apart) or max(apart), agreement.LOSS),
            "all updates": (updates.together, updates.allowed),
            "weight decay": (
                abs(updates.decay(sum(rates))),
                max(agreement.DECAY * decay, agreement.LEAST_DECAY),
            ),
            **{name: (share, 1) for share, _, name in updates.rows},
        }
    wrong = []
    for name, (value, fixed) in found["Graft"].items():
        own = found["PyTorch"][name][0]
        together = name in ("losses", "all updates")
        times = agreement.AS_NEAR if together else agreement.AS_NEAR_ALONE
        allowed = max(fixed * args.strict, times * own)
        if not value <= allowed:
            wrong.append(f"{name} {value:.1e} (allowed {allowed:.1e})")
    mine, theirs = (found[who]["all updates"][0] for who in ("Graft", "PyTorch"))
    print(
        f"{'FAIL' if wrong else 'ok  '} from float64: updates {mine:.1e}, PyTorch's in float32 "
        f"{theirs:.1e}; {'; '.join(wrong[:4]) or 'nothing is further than it may be'}"
    )
    return not wrong, f"as near to float64 as PyTorch: {mine:.1e}, {theirs:.1e}"


def write(args, config, steps, losses, updates, checks, good, told_equal):
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
                f"{decay} | {told_equal} |\n"
            )


def main(words=None):
    args = parse(words)
    torch.set_num_threads(args.threads)
    config = trace.settings(args.run / "config.json")
    init, metadata = trace.tensors(args.trace / "init.safetensors")
    init, quantised = nf4.opened(init, str(config.get("method")))
    final, _ = trace.tensors(args.trace / "final.safetensors")
    steps = trace.losses(args.trace)
    make_model = replay_bert.Bert if "embed.word.weight" in init else replay_vit.Vit
    model = make_model(args, config, init, metadata)
    for term in model.method.terms:
        if isinstance(term, nf4.Method):
            term.kept |= quantised
    wrong = check_tensors(model, init, final)
    if wrong:
        print(f"FAIL {wrong}")
        return 1
    ours = Replay(args, config, model, init, list(final))
    ours.run(args.trace, steps)
    updates = agreement.Updates(init, ours, final, len(steps))
    schedule = check_schedule(steps, config)
    good, checks = report(args, config, steps, ours.losses, updates, schedule)
    equal = "yes" if good else "NO"
    if not good and args.dtype == "float32" and schedule <= agreement.RATE:
        good, how = as_near_as_pytorch(args, model, init, final, steps, ours)
        equal = f"{'yes' if good else 'NO'}, {how}"
    write(args, config, steps, ours.losses, updates, checks, good, equal)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
