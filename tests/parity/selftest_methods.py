"""Tests methods/ without graft, in float64 on the tiny models of tests/fixtures: the models equal
transformers' and methods that peft has equal its own, methods that start at zero change nothing,
folded weights give the unfolded logits, methods that contain others equal them, and counts are the
published ones.

usage: python selftest_methods.py        (peers' environment)
"""

import os
import pathlib
import sys
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))
import make_method_trajectories as tiny
import methods
import selftest_edges as edges
import selftest_folds as folds
import selftest_identities as identities
import selftest_peft
import selftest_rules as rules
import torch_bert
from methods import Facts
from methods.term import normal

# Methods whose added parameters start so that nothing changes.
ZERO = (
    "lora(r=4,targets=attn.*|mlp.*)", "lora(r=4,alpha=16,rslora=true)", "adaptformer(r=4)",
    "parallel(r=4)", "parallel(r=4,site=attn)", "repadapter(r=4)", "repadapter(r=6,groups=3)",
    "fact(r=4)", "fact(form=tk,r=4)", "glora(r=2)",
    "glora(a=vector,b=vector,c=vector,d=constant,e=constant)",
    "glora(a=constant,b=constant,c=none,d=none,e=none)", "bitfit", "ln", "full", "linear",
    "unified(form=parallel,site=attn,composition=scaled)", "unified(form=lora,site=attn)",
    "unified(form=lora,site=heads)", "unified(form=adapter,site=ffn)",
    "repadapter(r=4)+lora(r=4)", "glora(r=2)+bitfit", "fact(r=4)+ln", "lora(r=2)+adaptformer(r=2)",
)  # fmt: skip
# Near the model: (method, largest difference over largest logit). A module of small numbers.
NEAR = (("houlsby(r=4)", 0.05), ("pfeiffer(r=4)", 0.05), ("ssf", 0.5), ("ssf+lora(r=4)", 0.5))
# Not near it: rows or keys that are more than zeros, and even zeros take their share of attention.
FAR = ("vpt(tokens=3)", "vpt-deep(tokens=3)", "prefix(tokens=3,mlp=5)", "prefix(tokens=3,mlp=0)",
       "ptuning2(tokens=3)", "prompt(tokens=3)", "prompt(tokens=3,pool=first)", "mam(tokens=3,r=4)",
       "vpt(tokens=3)+lora(r=4)")  # fmt: skip
# Added numbers on ViT-B/16 or BERT-base, as published or as their formulas say.
COUNTS = (
    ("lora(r=8)", 294912), ("lora(r=8,targets=attn.*|mlp.*)", 1327104),
    ("houlsby(r=8)", 313536), ("houlsby(r=64)", 2379264), ("pfeiffer(r=8)", 156768),
    ("adaptformer(r=64)", 1189632), ("parallel(r=512)", 9452544), ("parallel(r=16)", 304320),
    ("mam(tokens=16,r=16)", 599232), ("prefix(tokens=10,mlp=512)", 9857024),
    ("prefix(tokens=16,mlp=800)", 15391520), ("ptuning2(tokens=20)", 368640),
    ("prompt(tokens=100)", 76800), ("vpt(tokens=50)", 38400), ("vpt-deep(tokens=50)", 460800),
    ("fact(r=16)", 61440), ("fact(r=4)", 8448), ("fact(form=tk,r=32)", 86528),
    ("fact(form=tk,r=16)", 30976), ("repadapter", 239808), ("repadapter(site=attn)", 119904),
    ("glora(r=4)", 1603776), ("glora(r=2)", 884832), ("glora(r=8)", 3041664),
)  # fmt: skip


class Checks:
    def __init__(self):
        self.count = self.failed = 0

    def expect(self, good, what):
        self.count += 1
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}", flush=True)

    def close(self, a, b, what, most=1e-12):
        """Relative to the larger of b."""
        apart = ((a - b).abs().max() / b.abs().max()).item()
        self.expect(apart <= most, f"{what}: {apart:.1e} (at most {most:.0e})")

    def apart(self, a, b, what, least=1e-4):
        """That a mistake would have been seen."""
        apart = ((a - b).abs().max() / b.abs().max()).item()
        self.expect(apart > least, f"{what} differs: {apart:.1e} (more than {least:.0e})")


class Subject:
    """A tiny model in float64, and any method over it."""

    def __init__(self, model):
        self.model, self.name = model, model.name
        self.base = {k: v.double() for k, v in model.params.items()}

    def method(self, text):
        return methods.compose(text, self.base, self.model.config)

    def started(self, text):
        """The parameters as the method starts."""
        return self.base | self.method(text).initial(torch.Generator().manual_seed(5))

    def moved(self, text, size=0.3):
        """Those with what is added moved far from its start."""
        g = torch.Generator().manual_seed(6)
        added = self.method(text).initial(torch.Generator().manual_seed(5))
        return self.base | {k: v + normal(v.shape, size, g) for k, v in added.items()}

    def logits(self, params, text=None):
        return self.model.logits(params, self.method(text) if text else None)


def check_models(checks, subjects):
    from transformers import BertForSequenceClassification, ViTForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    vit, bert = subjects
    model = ViTForImageClassification.from_pretrained(
        tiny.HERE / "tiny_vit_hf", attn_implementation="sdpa"
    ).double().eval()  # fmt: skip
    theirs = model(pixel_values=vit.model.input).logits
    checks.close(vit.logits(vit.base), theirs, "vit: the logits of transformers")
    model = BertForSequenceClassification.from_pretrained(
        tiny.HERE / "tiny_bert_hf", attn_implementation="eager"
    ).double().eval()  # fmt: skip
    theirs = model(**bert.model.input).logits
    checks.close(bert.logits(bert.base), theirs, "bert: the logits of transformers")
    for subject in subjects:
        single = {k: v.float() for k, v in subject.moved("glora(r=2)+ssf+vpt").items()}
        found = subject.model.logits(single, subject.method("glora(r=2)+ssf+vpt"))
        checks.expect(found.dtype == torch.float32, f"{subject.name}: float32 stays float32")
        full = subject.logits({k: v.double() for k, v in single.items()}, "glora(r=2)+ssf+vpt")
        checks.close(found.double(), full, f"{subject.name}: and equals float64", 1e-4)


def check_starts(checks, subject):
    plain = subject.logits(subject.base)
    for text in ZERO:
        same = torch.equal(subject.logits(subject.started(text), text), plain)
        checks.expect(same, f"{subject.name}, {text}: starts as the model, bit for bit")
        if subject.method(text).added():
            checks.apart(
                subject.logits(subject.moved(text), text),
                plain,
                f"{subject.name}, {text}: what has moved",
            )
    for text, most in NEAR:
        started = subject.logits(subject.started(text), text)
        checks.close(started, plain, f"{subject.name}, {text}: starts near the model", most)
        checks.apart(started, plain, f"{subject.name}, {text}: what has started", 1e-9)
    for text in FAR:
        started = subject.logits(subject.started(text), text)
        checks.apart(started, plain, f"{subject.name}, {text}: what has started", 1e-3)
    prefix = subject.method("prefix(tokens=3,mlp=0)").added()
    zero = {k: torch.zeros(shape, dtype=torch.float64) for k, shape in prefix.items()}
    none = subject.logits(subject.base | zero, "prefix(tokens=3,mlp=0)")
    checks.apart(none, plain, f"{subject.name}: a prefix of zeros", 1e-2)


def check_padding(checks, subject):
    """A text's logits are the same alone and beside longer ones, whatever a method puts in."""
    batch, lengths = subject.model.input, subject.model.input["attention_mask"].sum(1)
    for text in FAR + ("ssf", "houlsby(r=4)", "pfeiffer(r=4)", "parallel(r=4,site=attn)"):
        p, method = subject.moved(text), subject.method(text)
        together = subject.logits(p, text)
        alone = [{k: v[i : i + 1, :n] for k, v in batch.items()} for i, n in enumerate(lengths)]
        each = [torch_bert.forward(p, one, subject.model.config, method) for one in alone]
        checks.close(torch.cat(each), together, f"bert, {text}: texts without padding")


def check_counts(checks):
    # SSF of a BERT has the norm of the embeddings, and neither a patch embedding nor a last norm.
    ssf = {"vit": 205824, "bert": 205824 - 2 * 768}
    for family in ("vit", "bert"):
        facts = Facts(family, 12, 768, 3072, 12, 1e-6)
        for text, expected in (*COUNTS, ("ssf", ssf[family])):
            shapes = methods.Composed(text, facts).added().values()
            found = sum(torch.Size(shape).numel() for shape in shapes)
            checks.expect(found == expected, f"{family}, {text}: {found}, expected {expected}")


def main():
    torch.set_num_threads(1)
    checks = Checks()
    with torch.no_grad():
        subjects = Subject(tiny.TinyVit()), Subject(tiny.TinyBert())
        check_models(checks, subjects)
        for subject in subjects:
            check_starts(checks, subject)
            edges.check(checks, subject)
            folds.check(checks, subject)
        check_padding(checks, subjects[1])
        check_counts(checks)
        selftest_peft.check(checks, subjects[1])
        rules.check(checks, subjects)
    for subject in subjects:
        identities.check(checks, subject)
    print(f"{checks.count} checks of methods, {checks.failed} failed")
    return 1 if checks.failed or not checks.count else 0


if __name__ == "__main__":
    sys.exit(main())
