"""What methods do outside the forward pass: Child-Tuning's masks, NoisyTune's noise, the bias of
calibration, NF4."""

import numpy as np
import torch

from methods import calibration, childtuning, nf4


def check_childtuning(checks, subject):
    g = torch.Generator().manual_seed(3)
    shapes = {"blocks.0.attn.q.weight": (24, 24), "blocks.1.norm1.bias": (24,), "head.bias": (5,)}
    batches = [{k: torch.randn(s, generator=g).double() for k, s in shapes.items()}
               for _ in range(3)]  # fmt: skip
    scores = childtuning.fisher(batches)
    norms = [b["head.bias"].norm() for b in batches]
    expected = sum((b["head.bias"] * min(1, 1 / n)) ** 2 for b, n in zip(batches, norms)) / 3
    checks.close(scores["head.bias"], expected, "childtuning: scores, each batch clipped", 1e-5)
    checks.apart(
        sum(b["head.bias"] ** 2 for b in batches) / 3,
        scores["head.bias"],
        "childtuning: scores without clipping",
    )
    masks, threshold = childtuning.masks(scores, 0.3)
    every = torch.cat([scores[k].flatten() for k in masks])
    kept = sum(int(m.sum()) for m in masks.values())
    checks.expect(kept == round(0.3 * 600), f"childtuning: {kept} of 600 kept at p = 0.3")
    checks.expect("head.bias" not in masks, "childtuning: the head is not masked")
    checks.expect(
        every.sort().values[600 - kept] >= threshold > every.sort().values[599 - kept],
        "childtuning: those with the largest scores",
    )
    drawn = childtuning.bernoulli((100000,), 0.3, g)
    checks.expect(
        set(drawn.tolist()) == {0.0, 1 / 0.3} and abs(drawn.mean() - 1) < 0.02,
        "childtuning: draws are 0 or 1/p, of mean 1",
    )
    rule = subject.method("childtuning(mode=d)").terms[0]
    frozen = {f"childtuning.mask.{k}": m for k, m in masks.items()}
    grad = batches[0]["blocks.1.norm1.bias"]
    found = rule.gradient("blocks.1.norm1.bias", grad, {}, frozen)
    kept = masks["blocks.1.norm1.bias"]
    checks.expect(torch.equal(found, grad * kept), "childtuning(mode=d): a masked gradient")
    head = batches[0]["head.bias"]
    found = rule.gradient("head.bias", head, {}, frozen)
    checks.expect(torch.equal(found, head), "childtuning(mode=d): the head's gradient")


def noised(base, strength, g, per_tensor=True):
    out = {}
    for name, w in base.items():
        spread = w.std() if per_tensor else 1.0
        noise = (torch.rand(w.shape, generator=g, dtype=w.dtype) - 0.5) * strength * spread
        out[name] = w + noise if w.numel() > 1 and w.std() > 0 else w
    return out


def check_noisytune(checks, subject):
    rule, g = subject.method("noisytune(lambda=0.15)").terms[0], torch.Generator().manual_seed(4)

    def wrong(init):
        return rule.wrong_start(lambda: subject.base, init)

    good = noised(subject.base, 0.15, g)
    checks.expect(wrong(good) == "", f"{subject.name}, noisytune: noise of 0.15 {wrong(good)}")
    for what, init in (
        ("no noise", subject.base),
        ("noise of 0.2", noised(subject.base, 0.2, g)),
        ("noise of 0.1", noised(subject.base, 0.1, g)),
        ("noise of one size", noised(subject.base, 0.15, g, False)),
        ("a tensor without noise", {**good, "blocks.0.attn.q.weight":
                                    subject.base["blocks.0.attn.q.weight"]}),
        ("noise that is not centred", {k: v + 0.05 * v.std() for k, v in good.items()}),
    ):  # fmt: skip
        checks.expect(wrong(init) != "", f"{subject.name}, noisytune, {what}: {wrong(init)}")


def check_calibration(checks):
    g = torch.Generator().manual_seed(5)
    logits, blank = (torch.randn((n, 4), generator=g).double() for n in (6, 3))
    p_cf = calibration.content_free(blank)
    p = torch.softmax(logits, -1) / p_cf
    bias = calibration.shift(p_cf)
    checks.close(
        torch.softmax(logits + bias, -1),
        p / p.sum(-1, keepdim=True),
        "calibration: a bias of -log p_cf is the division by p_cf",
    )
    one = calibration.content_free(blank[:1])
    even = torch.softmax(blank[:1] + calibration.shift(one), -1)
    checks.close(
        even,
        torch.full((1, 4), 0.25).double(),
        "calibration: an input without content has all classes alike",
    )
    least = calibration.content_free(torch.tensor([[0.0, -1000.0]]))
    checks.expect(
        bool(torch.isfinite(calibration.shift(least)).all()),
        "calibration: a class of probability 0 leaves a finite bias",
    )


def check_nf4(checks):
    table, levels = nf4.dynamic_table(), nf4.LEVELS
    checks.expect(
        len(set(table.tolist())) == 256
        and table[0] == np.float32(-0.99296875)
        and table[-1] == 1
        and 0 in table,
        "nf4: 256 numbers from -0.99297 to 1",
    )
    one = np.append(levels, np.zeros(48, np.float32))
    found = nf4.quantise(one * np.float32(0.5), double=False)
    checks.expect(
        found.codes[:8].tolist() == [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF],
        "nf4: two levels a byte, the first in the high half",
    )
    checks.expect(
        np.array_equal(nf4.dequantise(found), one * np.float32(0.5)), "nf4: levels are themselves"
    )
    middle = np.zeros(64, np.float32)
    middle[:3] = 1, nf4.MIDDLES[9], np.nextafter(nf4.MIDDLES[9], np.float32(1))
    codes = nf4.quantise(middle, double=False).codes
    lower = (codes[0] & 15, codes[1] >> 4) == (9, 10)
    checks.expect(lower, "nf4: the middle of two levels takes the lower one")
    zeros = nf4.dequantise(nf4.quantise(np.zeros((3, 50))))
    checks.expect(not zeros.any(), "nf4: zeros stay zeros")
    w = np.random.default_rng(0).standard_normal((768, 512)).astype(np.float32) * np.float32(0.02)
    for double, published in ((False, 0.09197), (True, 0.09199)):
        back = nf4.dequantise(nf4.quantise(w, double=double))
        error = np.linalg.norm(back - w) / np.linalg.norm(w)
        checks.expect(abs(error - published) < 2e-4, f"nf4, {double=}: error {error:.5f}")
        near = np.abs(w.reshape(-1, 64)).max(1)[:, None] * np.abs(np.diff(levels)).max() * 0.52
        checks.expect(
            bool((np.abs(back - w).reshape(-1, 64) <= near).all()),
            f"nf4, {double=}: every weight is near its level",
        )


def check(checks, subjects):
    check_childtuning(checks, subjects[0])
    for subject in subjects:
        check_noisytune(checks, subject)
    check_calibration(checks)
    check_nf4(checks)
