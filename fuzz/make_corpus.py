#!/usr/bin/env python3
"""Writes the binary seeds of the fuzz targets: fuzz/corpus/{safetensors,npz,model}. Those that are
text are written by hand, and image is the folder of tests/fixtures. Standard library only; same
bytes every time.
"""

import io
import json
import struct
import zipfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


def count(shape):
    product = 1
    for extent in shape:
        product *= extent
    return product


def values(size):
    """Bytes that are no special numbers in any float format."""
    return bytes(0x30 + (7 * i) % 13 for i in range(size))


def safetensors(tensors, metadata=None):
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape) in tensors.items():
        end = offset + count(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + values(offset)


def npy(descr, shape, size, version=1, order="False"):
    dims = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({dims}), }}".encode()
    length = "<H" if version == 1 else "<I"
    begin = 8 + struct.calcsize(length)
    text += b" " * (-(begin + len(text) + 1) % 64) + b"\n"
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(length, len(text))
    return head + text + values(count(shape) * size)


def npz(arrays, method=zipfile.ZIP_STORED, comment=b"", wide=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        for name, data in arrays.items():
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            with archive.open(info, "w", force_zip64=wide) as member:
                member.write(data)
    return out.getvalue()


def vit(dtype):
    d, h, p, n = 4, 8, 2, 4
    block = "blocks.0."
    shapes = {
        "cls_token": [1, 1, d],
        "pos_embed": [1, 1 + n, d],
        "patch_embed.proj.weight": [d, 3, p, p],
        "patch_embed.proj.bias": [d],
        block + "norm1.weight": [d],
        block + "norm1.bias": [d],
        block + "attn.qkv.weight": [3 * d, d],
        block + "attn.qkv.bias": [3 * d],
        block + "attn.proj.weight": [d, d],
        block + "attn.proj.bias": [d],
        block + "norm2.weight": [d],
        block + "norm2.bias": [d],
        block + "mlp.fc1.weight": [h, d],
        block + "mlp.fc1.bias": [h],
        block + "mlp.fc2.weight": [d, h],
        block + "mlp.fc2.bias": [d],
        "norm.weight": [d],
        "norm.bias": [d],
        "head.weight": [2, d],
        "head.bias": [2],
    }
    config = {"architecture": "vit", "heads": 2, "eps": 1e-6, "gelu": "erf", "pool": "token"}
    metadata = {"graft.config": json.dumps(config)}
    return safetensors({k: (dtype, v) for k, v in shapes.items()}, metadata)


def bert():
    d, h = 4, 8
    shapes = {}

    def add(name, *shape):
        shapes[name] = list(shape)

    def dense(name, out, into):
        add(name + ".weight", out, into)
        add(name + ".bias", out)

    def norm(name):
        add(name + ".weight", d)
        add(name + ".bias", d)

    for name, rows in (("word", 6), ("position", 8), ("token_type", 2)):
        add(f"bert.embeddings.{name}_embeddings.weight", rows, d)
    norm("bert.embeddings.LayerNorm")
    layer = "bert.encoder.layer.0."
    for name in ("query", "key", "value"):
        dense(f"{layer}attention.self.{name}", d, d)
    dense(layer + "attention.output.dense", d, d)
    norm(layer + "attention.output.LayerNorm")
    dense(layer + "intermediate.dense", h, d)
    dense(layer + "output.dense", d, h)
    norm(layer + "output.LayerNorm")
    dense("bert.pooler.dense", d, d)
    dense("classifier", 2, d)
    config = {"heads": 2, "eps": 1e-12, "activation": "erf", "pool": "pooler"}
    metadata = {"graft.config": json.dumps(config)}
    return safetensors({k: ("F16", v) for k, v in shapes.items()}, metadata)


def jax():
    d, heads, h, p, n = 4, 2, 8, 2, 4
    shapes = {
        "cls": [1, 1, d],
        "Transformer/posembed_input/pos_embedding": [1, 1 + n, d],
        "embedding/kernel": [p, p, 3, d],
        "embedding/bias": [d],
        "Transformer/encoder_norm/scale": [d],
        "Transformer/encoder_norm/bias": [d],
        "head/kernel": [d, 2],
        "head/bias": [2],
    }
    block = "Transformer/encoderblock_0/"
    for name in ("LayerNorm_0", "LayerNorm_2"):
        shapes[f"{block}{name}/scale"] = shapes[f"{block}{name}/bias"] = [d]
    attention = block + "MultiHeadDotProductAttention_1/"
    for name in ("query", "key", "value"):
        shapes[f"{attention}{name}/kernel"] = [d, heads, d // heads]
        shapes[f"{attention}{name}/bias"] = [heads, d // heads]
    shapes[attention + "out/kernel"] = [heads, d // heads, d]
    shapes[attention + "out/bias"] = [d]
    shapes[block + "MlpBlock_3/Dense_0/kernel"] = [d, h]
    shapes[block + "MlpBlock_3/Dense_0/bias"] = [h]
    shapes[block + "MlpBlock_3/Dense_1/kernel"] = [h, d]
    shapes[block + "MlpBlock_3/Dense_1/bias"] = [d]
    return npz({k: npy("<f4", v, 4) for k, v in shapes.items()}, zipfile.ZIP_DEFLATED)


def adapter():
    metadata = {
        "graft.config": "{}",
        "graft.recipe": '[{"method":"lora","options":{"r":"2","targets":"attn.q|attn.v"}}]',
        "graft.labels": '["cat","dog"]',
        "graft.preprocess": "vtab",
        "graft.base_sha256": "0" * 64,
        "graft.seed": "17",
    }
    return safetensors({"blocks.0.attn.q.lora_a": ("F32", [2, 4])}, metadata)


def main():
    one, two = npy("<f4", [2, 3], 4), npy("<f2", [4], 2)
    seeds = {
        "safetensors/types": safetensors({t: (t, [2]) for t in BYTES}, {"format": "pt"}),
        "safetensors/scalar": safetensors({"a": ("F32", []), "b": ("F32", [0, 4])}),
        "safetensors/empty": safetensors({}),
        "safetensors/other": safetensors({"x": ("BF16", [1, 2, 3, 1, 1])}).replace(
            b'"dtype"', b'"note":{"a":[1,{}]},"dtype"', 1
        ),
        "npz/stored": npz({"a": one, "b/c": two}),
        "npz/deflated": npz({"a": one, "zeros": npy("<f8", [9, 9], 8)}, zipfile.ZIP_DEFLATED),
        "npz/comment": npz({"a": one}, comment=b"made by hand"),
        "npz/wide": npz({"a": one}, wide=True),
        "npz/f4.npy": one,
        "npz/fortran.npy": npy("<f4", [2, 2], 4, order="True"),
        "npz/integers.npy": npy("<i8", [3], 8, version=2),
        "npz/version3.npy": npy("|b1", [1, 5, 1], 1, version=3, order="True"),
        "model/vit": vit("F32"),
        "model/vit16": vit("BF16"),
        "model/bert": bert(),
        "model/jax": jax(),
        "model/adapter": adapter(),
    }
    for name, data in seeds.items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
