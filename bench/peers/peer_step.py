"""One measurement of a peer per process; prints one JSON line.

usage: python peer_step.py MODEL TASK BATCH [--engine torch|openvino|onnxruntime]
    [--dtype f32|bf16|int8|int8-static] [--steps N] [--threads N] [--compile] [--folder DIR]
MODEL vit_base_patch16_224 | deit_tiny_patch16_224 | minilm_l6 (texts of 128 tokens)
TASK infer | lora | bitfit | linear | full;  openvino and onnxruntime infer only
Random weights and inputs; transformers' models, peft's LoRA (r=8, alpha=8, q and v), AdamW. bf16 is
autocast in PyTorch and the inference precision in OpenVINO; int8 is ONNX Runtime's dynamic
quantisation, int8-static its static one or, in OpenVINO, NNCF's after training, both calibrated
with the inputs. Exported models are kept in DIR, so that a second process need not make them.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time
import warnings

VITS = {
    "vit_base_patch16_224": dict(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
    "deit_tiny_patch16_224": dict(hidden_size=192, num_attention_heads=3, intermediate_size=768),
}
BERTS = {
    "minilm_l6": dict(
        hidden_size=384, num_attention_heads=12, intermediate_size=1536, num_hidden_layers=6
    )
}
SIZES = {**VITS, **BERTS}
PATCHES, PATCH_VALUES, TEXT_TOKENS = 196, 768, 128
DTYPES = {
    "torch": ("f32", "bf16"),
    "openvino": ("f32", "bf16", "int8-static"),
    "onnxruntime": ("f32", "int8", "int8-static"),
}
# Backward passes are counted as the work that the method needs: dX only, or dX and dW.
FORWARDS = {"infer": 1, "linear": 1, "lora": 2, "bitfit": 2, "full": 3}


def flops(model, task):
    """Nominal floating-point operations for one image or text (multiply and add count as two)."""
    size = SIZES[model]
    d, m, layers = size["hidden_size"], size["intermediate_size"], size.get("num_hidden_layers", 12)
    tokens = TEXT_TOKENS if model in BERTS else PATCHES + 1
    forward = layers * (tokens * (4 * d * d + 2 * d * m) * 2 + 4 * tokens * tokens * d)
    if model in VITS:
        forward += PATCHES * PATCH_VALUES * d * 2
    return forward * FORWARDS[task]


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("model", choices=SIZES)
    p.add_argument("task", choices=FORWARDS)
    p.add_argument("batch", type=int)
    p.add_argument("--engine", choices=("torch", "openvino", "onnxruntime"), default="torch")
    p.add_argument("--dtype", choices=("f32", "bf16", "int8", "int8-static"), default="f32")
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--folder", type=pathlib.Path)
    args = p.parse_args()
    if args.engine != "torch" and args.task != "infer":
        p.error(f"{args.engine} infers only")
    if args.dtype not in DTYPES[args.engine]:
        p.error(f"{args.engine} has {', '.join(DTYPES[args.engine])}")
    return args


def make_model(args):
    import transformers

    if args.model in BERTS:
        config = transformers.BertConfig(
            num_labels=2, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **SIZES[args.model]
        )
        model = transformers.BertForSequenceClassification(config)
    else:
        config = transformers.ViTConfig(num_labels=10, **SIZES[args.model])
        model = transformers.ViTForImageClassification(config)
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


def make_inputs(args, torch):
    if args.model in BERTS:
        shape = (args.batch, TEXT_TOKENS)
        ids = torch.randint(0, 30000, shape)
        return {"input_ids": ids, "attention_mask": torch.ones(shape, dtype=torch.long)}
    return {"pixel_values": torch.randn(args.batch, 3, 224, 224)}


def torch_step(args, torch, model, inputs):
    run = torch.compile(model) if args.compile else model
    low = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16")
    if args.task == "infer":

        def infer():
            with torch.inference_mode(), low:
                run(**inputs)

        return infer
    labels = torch.randint(0, 2, (args.batch,))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def train():
        with low:
            logits = run(**inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def exported(args, torch, model, inputs, folder):
    """The path of the model as ONNX."""

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *values):
            return self.model(**dict(zip(inputs, values))).logits

    file = folder / f"{args.model}_{args.batch}.onnx"
    if not file.exists():
        torch.onnx.export(
            Wrapped(), tuple(inputs.values()), str(file), input_names=list(inputs),
            output_names=["logits"], dynamo=False, opset_version=17,
        )  # fmt: skip
    return file


def openvino_model(args, file, feed):
    """The ONNX model in OpenVINO's form, quantised by NNCF for int8-static."""
    import openvino

    if args.dtype != "int8-static":
        return openvino.Core().read_model(file)
    kept = file.with_suffix(".nncf.xml")
    if not kept.exists():
        with contextlib.redirect_stdout(sys.stderr):  # it draws its progress
            import nncf

            quantised = nncf.quantize(
                openvino.Core().read_model(file), nncf.Dataset([feed]), subset_size=1,
                model_type=nncf.ModelType.TRANSFORMER,
            )  # fmt: skip
        openvino.save_model(quantised, kept, compress_to_fp16=False)
    return openvino.Core().read_model(kept)


def onnxruntime_file(args, file, feed):
    """The path of the ONNX model, quantised for int8 and int8-static."""
    if args.dtype == "f32":
        return file
    from onnxruntime import quantization

    kept = file.with_suffix(f".{args.dtype}.onnx")
    if kept.exists():
        return kept
    if args.dtype == "int8":
        quantization.quantize_dynamic(file, kept, weight_type=quantization.QuantType.QInt8)
        return kept

    class Once(quantization.CalibrationDataReader):
        feeds = iter([feed])

        def get_next(self):
            return next(self.feeds, None)

    fused = file.with_suffix(".fused.onnx")
    quantization.quant_pre_process(file, fused, skip_symbolic_shape=True)
    quantization.quantize_static(
        fused, kept, Once(), per_channel=True, weight_type=quantization.QuantType.QInt8
    )
    return kept


def exported_step(args, torch, model, inputs):
    """OpenVINO or ONNX Runtime on the model as ONNX."""
    feed = {k: v.numpy() for k, v in inputs.items()}
    with tempfile.TemporaryDirectory() as passing:
        file = exported(args, torch, model, inputs, args.folder or pathlib.Path(passing))
        if args.engine == "openvino":
            import openvino

            settings = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY"}
            if args.dtype != "int8-static":  # what is not quantised stays at its fastest
                settings["INFERENCE_PRECISION_HINT"] = args.dtype
            opened = openvino_model(args, file, feed)
            request = openvino.Core().compile_model(opened, "CPU", settings).create_infer_request()
            return lambda: request.infer(feed)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(
            str(onnxruntime_file(args, file, feed)), options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, feed)


def main():
    args = parse()
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = make_model(args)
    make = torch_step if args.engine == "torch" else exported_step
    step, times = make(args, torch, model, make_inputs(args, torch)), []
    step()
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    version = torch.__version__
    if args.engine != "torch":
        version = __import__(args.engine).__version__
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        json.dumps(
            {
                "step_ms": seconds * 1e3,
                "step_ms_min": min(times) * 1e3,
                "examples_per_second": args.batch / seconds,
                "trainable_parameters": 0 if args.task == "infer" else trained,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "threads": torch.get_num_threads(),
                "version": version,
            }
        )
    )


if __name__ == "__main__":
    main()
