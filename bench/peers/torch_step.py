"""One PyTorch measurement per process; prints one JSON line.

usage: python torch_step.py MODEL TASK BATCH [--steps N] [--threads N] [--compile]
MODEL vit_base_patch16_224 | deit_tiny_patch16_224;  TASK infer | lora | bitfit | linear | full
Random weights and inputs; transformers' ViT, peft's LoRA (r=8, alpha=8, q and v), AdamW.
"""

import argparse
import json
import os
import resource
import statistics
import time
import warnings

SIZES = {
    "vit_base_patch16_224": dict(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
    "deit_tiny_patch16_224": dict(hidden_size=192, num_attention_heads=3, intermediate_size=768),
}
LAYERS, TOKENS, PATCHES, PATCH_VALUES = 12, 197, 196, 768
# Backward passes are counted as the work that the method needs: dX only, or dX and dW.
FORWARDS = {"infer": 1, "linear": 1, "lora": 2, "bitfit": 2, "full": 3}


def flops(model, task):
    """Nominal floating-point operations for one image (multiply and add count as two)."""
    d, m = SIZES[model]["hidden_size"], SIZES[model]["intermediate_size"]
    forward = (
        LAYERS * (TOKENS * (4 * d * d + 2 * d * m) * 2 + 4 * TOKENS * TOKENS * d)
        + PATCHES * PATCH_VALUES * d * 2
    )
    return forward * FORWARDS[task]


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("model", choices=SIZES)
    p.add_argument("task", choices=FORWARDS)
    p.add_argument("batch", type=int)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--compile", action="store_true")
    return p.parse_args()


def make_model(args, torch):
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(num_labels=10, **SIZES[args.model]))
    if args.task == "infer":
        return model.eval()
    model.train()
    if args.task == "lora":
        from peft import LoraConfig, get_peft_model

        sites = [
            n
            for n, _ in model.named_modules()
            if n.endswith(("query", "value", "q_proj", "v_proj"))
        ]
        return get_peft_model(
            model,
            LoraConfig(r=8, lora_alpha=8, target_modules=sites, modules_to_save=["classifier"]),
        )
    for name, p in model.named_parameters():
        p.requires_grad = (
            args.task == "full"
            or "classifier" in name
            or (args.task == "bitfit" and name.endswith("bias"))
        )
    return model


def main():
    args = parse()
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = make_model(args, torch)
    trained = [p for p in model.parameters() if p.requires_grad]
    images, labels = torch.randn(args.batch, 3, 224, 224), torch.randint(0, 10, (args.batch,))
    run = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def infer():
        with torch.inference_mode():
            run(pixel_values=images)

    def train():
        loss = torch.nn.functional.cross_entropy(run(pixel_values=images).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step, times = infer if args.task == "infer" else train, []
    step()
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    print(
        json.dumps(
            {
                "step_ms": seconds * 1e3,
                "step_ms_min": min(times) * 1e3,
                "examples_per_second": args.batch / seconds,
                "trainable_parameters": 0
                if args.task == "infer"
                else sum(p.numel() for p in trained),
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
