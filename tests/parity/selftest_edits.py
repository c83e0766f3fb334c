"""Changes to a finished trace or its config.json that the replay must report."""

import json

import numpy as np
from safetensors.torch import load_file, save_file

from selftest_models import PREPROCESS


def edit_config(**changes):
    def edit(folder):
        path = folder / "run/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def scale_config(key, factor):
    def edit(folder):
        path = folder / "run/config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, key: config[key] * factor}))

    return edit


def edit_loss(step, key, factor):
    def edit(folder):
        path = folder / "trace/loss.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[step][key] *= factor
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")

    return edit


def edit_tensors(file, change):
    def edit(folder):
        path = folder / "trace" / file
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)

    return edit


def scale_one(name, factor):
    return lambda t: {k: v * factor if k == name else v for k, v in t.items()}


def without(name):
    return lambda t: {k: v for k, v in t.items() if k != name}


def scale_update(name, factor):
    """The final tensor of a run that moved it by so much more."""

    def edit(folder):
        start = load_file(folder / "trace/init.safetensors")[name]
        change = edit_tensors(
            "final.safetensors",
            lambda t: {k: start + factor * (v - start) if k == name else v for k, v in t.items()},
        )
        change(folder)

    return edit


def scale_most(folder):
    """As scale_update, of the tensor beside the head that moved most."""
    start = load_file(folder / "trace/init.safetensors")
    final = load_file(folder / "trace/final.safetensors")
    moved = {k: (v - start[k]).norm() for k, v in final.items() if not k.startswith("head.")}
    scale_update(max(moved, key=moved.get), 1.01)(folder)


def edit_arrays(file, change):
    def edit(folder):
        path = folder / "trace" / file
        with np.load(path) as z:
            arrays = {k: z[k] for k in z.files}
        np.savez(path, **change(arrays))

    return edit


def swap_batches(arrays):
    return {**arrays, "step_000003": arrays["step_000005"], "step_000005": arrays["step_000003"]}


def untrained(folder):
    init = load_file(folder / "trace/init.safetensors")
    edit_tensors("final.safetensors", lambda t: {k: init[k] for k in t})(folder)


def one_step(change):
    """Of step 4's masks."""
    return edit_arrays(
        "masks.npz",
        lambda masks: {
            k: change(v) if k.startswith("step_000004/") else v for k, v in masks.items()
        },
    )


ANY = {
    "a loss off by 0.05 %": edit_loss(7, "loss", 1.0005),
    "a loss that is NaN": edit_loss(7, "loss", float("nan")),
    "one learning rate off by 1 %": edit_loss(9, "lr", 1.01),
    "one learning rate off by 1e-7": edit_loss(9, "lr", 1 + 1e-7),
    "another base rate": scale_config("lr", 1.5),
    "no label smoothing": edit_config(label_smoothing=0.0),
    "label smoothing 0.0995": edit_config(label_smoothing=0.0995),
    "no weight decay": edit_config(weight_decay=0.0),
    "weight decay times 1.1": scale_config("weight_decay", 1.1),
    "another schedule": edit_config(schedule="linear"),
    "another warm-up": edit_config(warmup=0.3),
    "no warm-up": edit_config(warmup=0.0),
    "no clipping": edit_config(clip=0.0),
    "clipping at 1.1 of the norm": scale_config("clip", 1.1),
    "two batches swapped": edit_arrays("batches.npz", swap_batches),
    "nothing trained": untrained,
    "an initial tensor off by 0.1 %": edit_tensors(
        "init.safetensors", scale_one("blocks.1.mlp.fc1.weight", 1.001)
    ),
    "a tensor that moved by 1 % more": scale_update("blocks.0.norm2.bias", 1.01),
}
ADAMW = {
    "beta1 0.91": edit_config(beta1=0.91),
    "beta2 0.9999": edit_config(beta2=0.9999),
    "eps 1e-6": edit_config(adam_eps=1e-6),
    "another optimizer": edit_config(optimizer="sgd"),
}
SGD = {
    "no momentum": edit_config(momentum=0.0),
    "momentum times 1.01": scale_config("momentum", 1.01),
    "another optimizer": edit_config(optimizer="adamw"),
}
LORA = {
    "one lora_b not trained": edit_tensors("final.safetensors", without("blocks.1.attn.q.lora_b")),
    "a lora_b that moved by 1 % more": scale_update("blocks.1.attn.v.lora_b", 1.01),
}
DROPOUT = {
    "the masks of one step off by one row": one_step(lambda v: np.roll(v, 1, 0)),
    "the masks of one step without their scale": one_step(lambda v: (v > 0).astype(v.dtype)),
    "the masks of one step with another scale": one_step(lambda v: v * np.float32(1.01)),
    "rows that share their masks": edit_arrays(
        "masks.npz", lambda masks: {k: np.repeat(v[:1], len(v), 0) for k, v in masks.items()}
    ),
}
PATH = {"another drop path": edit_config(drop_path=0.25), "no drop path": edit_config(drop_path=0)}
VIT = {
    "another normalisation": edit_config(preprocess=PREPROCESS.replace("0.485", "0.5")),
    "heads": edit_config(model={"heads": 4, "eps": 1e-6}),
    "eps of the norms": edit_config(model={"heads": 2, "eps": 1e-4}),
}
BERT = {"texts cut elsewhere": edit_config(max_length=9)}
