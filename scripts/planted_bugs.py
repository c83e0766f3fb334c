#!/usr/bin/env python3
"""Tests of the tests: plants known bugs, one at a time, and requires that the named tests turn red.

usage: planted_bugs.py [--work FOLDER] [--only TEXT] [--check] [--jobs N]
Works in a clone of HEAD with a build folder of its own (kept in FOLDER, ccache is used if there).
The old text of a bug must occur exactly once in its file, so that the list cannot rot in silence;
--check looks at that only. The tests must be green without a bug and red with it. Exit code 1 when
a bug is not caught or cannot be planted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Bug:
    def __init__(self, name, file, old, new, *tests):
        """tests: "binary" or "binary:gtest filter"."""
        self.name, self.file, self.old, self.new, self.tests = name, file, old, new, tests


BUGS = [
    # --- operators: kernels and records
    Bug(
        "layer norm: eps outside of the root",
        "ops/norm.cc",
        "static_cast<float>(1 / std::sqrt(variance + eps))",
        "static_cast<float>(1 / (std::sqrt(variance) + eps))",
        "ops_test:*layer_norm*",
    ),
    Bug(
        "layer norm gradient: missing term",
        "ops/norm.cc",
        "const VF t = hn::MulSub(g, d, t_mean);",
        "const VF t = hn::Mul(g, d);",
        "ops_test:*layer_norm_grad*",
    ),
    Bug(
        "layer norm gain gradient: tail rows left out",
        "ops/norm.cc",
        "for (; r < begin + count; ++r) {",
        "for (; r + 1 < begin + count; ++r) {",
        "ops_test:*layer_norm_grad*",
    ),
    Bug(
        "adamw: swapped betas",
        "ops/optimizer.cc",
        "const VF m = hn::MulAdd(by_m, hn::Sub(g, m0), m0);",
        "const VF m = hn::MulAdd(by_v, hn::Sub(g, m0), m0);",
        "ops_test:*adamw*",
    ),
    Bug(
        "adamw: eps inside of the root",
        "ops/optimizer.cc",
        "hn::Add(hn::Div(hn::Sqrt(v), root), eps)",
        "hn::Div(hn::Sqrt(hn::Add(v, eps)), root)",
        "ops_test:*adamw*",
    ),
    Bug(
        "sgd: weight decay forgotten",
        "ops/optimizer.cc",
        "const VF g = hn::MulAdd(decay, param, LoadV(p[1] + i));",
        "const VF g = LoadV(p[1] + i);",
        "ops_test:*sgd*",
    ),
    Bug(
        "cross entropy: smoothing divided by nothing",
        "ops/loss.cc",
        "loss = (1 - smoothing) * loss + smoothing * mean;",
        "loss = loss + smoothing * mean;",
        "ops_test:*cross_entropy*",
    ),
    Bug(
        "cross entropy gradient: label smoothing at the label only",
        "ops/loss.cc",
        "const double off = smoothing / static_cast<double>(classes);",
        "const double off = 0 * smoothing / static_cast<double>(classes);",
        "ops_test:*cross_entropy_grad*",
    ),
    Bug(
        "broadcast: the column's value of the first row",
        "ops/elementwise.cc",
        "const VF value = SetV(b[r]);",
        "const VF value = SetV(b[0]);",
        "ops_test:*add*",
    ),
    Bug(
        "matmul: gradient with a wrong transpose",
        "ops/matmul.cc",
        "product(dp, b, false, !p.tb)",
        "product(dp, b, false, p.tb)",
        "gradient_test",
    ),
    Bug(
        "matmul: alpha missing in the gradient",
        "ops/matmul.cc",
        "MatmulAttrs{.ta = tl, .tb = tr, .alpha = p.alpha}",
        "MatmulAttrs{.ta = tl, .tb = tr}",
        "gradient_test",
    ),
    Bug(
        "attention gradient: unscaled",
        "ops/attention.cc",
        "AttentionGradAttrs{p.heads, p.scale, p.mask, p.prefix, want}",
        "AttentionGradAttrs{p.heads, 1, p.mask, p.prefix, want}",
        "gradient_test",
    ),
    Bug(
        "dropout: the stream ignores the step",
        "ops/dropout.cc",
        "run.stream = {s.key, static_cast<uint32_t>(static_cast<int64_t>(rng[0])),",
        "run.stream = {s.key, static_cast<uint32_t>(0 * static_cast<int64_t>(rng[0])),",
        "dropout_test",
    ),
    Bug(
        "dropout: stale mask, the sample's index is that in the micro-batch",
        "ops/dropout.cc",
        "static_cast<uint32_t>(static_cast<int64_t>(rng[1]) + sequence)};",
        "static_cast<uint32_t>(0 * static_cast<int64_t>(rng[1]) + sequence)};",
        "dropout_test",
    ),
    Bug(
        "patch embedding: channels inside of rows",
        "ops/shape.cc",
        "* cols + (c * p + y) * p,",
        "* cols + (y * channels + c) * p,",
        "ops_test:*patchify*",
    ),
    Bug(
        "positions: shifted by one row",
        "ops/positions.cc",
        "AddFloats(out + s.begin * cols, a.in[1].f32(), std::min(s.size(), positions) * cols);",
        "AddFloats(out + (s.begin + 1) * cols, a.in[1].f32(), "
        "std::min(s.size() - 1, positions) * cols);",
        "ops_test:*add_positions*",
    ),
    Bug(
        "gather: the last row counts as outside",
        "ops/gather.cc",
        "if (row >= 0 && row < rows)",
        "if (row >= 0 && row + 1 < rows)",
        "ops_test:*gather_rows*",
    ),
    # --- gradients and training
    Bug(
        "resume: begins its epoch again",
        "tools/lib/trainer.cc",
        "static_cast<size_t>(progress_.step % steps_per_epoch_) * batch;",
        "static_cast<size_t>(progress_.step % steps_per_epoch_) * 0;",
        "cli_resume_test",
    ),
    Bug(
        "resume: the optimizer starts afresh",
        "autograd/train_step.cc",
        "if (!params.Has(name)) params.Allocate",
        "params.Allocate",
        "cli_resume_test",
    ),
    Bug(
        "gradient: a second use replaces the first",
        "autograd/gradient.cc",
        "sum = sum.valid() ? Add(g, sum, result[i]) : result[i];",
        "sum = result[i];",
        "vit_fixture_test",
    ),
    Bug(
        "train step: wrong bias correction",
        "autograd/train_step.cc",
        "const double t = static_cast<double>(step + 1);",
        "const double t = static_cast<double>(step + 2);",
        "vit_fixture_test",
    ),
    # --- models
    Bug(
        "vit: dropped residual",
        "models/transformer.cc",
        'return Edge(g, "y", Add(g, x1, on_branch(u, "u")));',
        'return Edge(g, "y", Add(g, x, on_branch(u, "u")));',
        "vit_fixture_test",
    ),
    Bug(
        "vit: attention scaled by the width of all heads",
        "models/transformer.cc",
        "1 / std::sqrt(static_cast<double>(s.width / s.heads))",
        "1 / std::sqrt(static_cast<double>(s.width))",
        "vit_fixture_test",
    ),
    Bug(
        "vit: class token behind the patches",
        "models/vit.cc",
        "return InsertTokens(g_, x, token, Offsets(g_, c_.patches() + position), position);",
        "return InsertTokens(g_, x, token, Offsets(g_, c_.patches() + position), c_.patches());",
        "vit_fixture_test",
    ),
    Bug(
        "bert: second layer norm in front of the branch",
        "models/transformer.cc",
        'return Edge(g, "h2", Norm(g, Add(g, h1, on_branch(u, "u")), "norm2", s.eps));',
        'return Edge(g, "h2", Add(g, h1, Norm(g, on_branch(u, "u"), "norm2", s.eps)));',
        "bert_fixture_test",
    ),
    Bug(
        "bert: type embeddings by position",
        "models/bert.cc",
        'kinds = rows("type", c_.types, types);',
        'kinds = rows("type", c_.types, positions);',
        "bert_fixture_test",
    ),
    Bug(
        "distilled DeiT: both heads on the class token",
        "models/vit.cc",
        'const ValueId b = Dense(g_, second, "head.dist", c_.classes);',
        'const ValueId b = Dense(g_, first, "head.dist", c_.classes);',
        "checkpoint_test",
    ),
    Bug(
        "npz: heads of the output projection in the wrong order",
        "models/name_map.cc",
        "return Reversed(values, e[1], 1, e[0]);",
        "return Reversed(values, e[0], 1, e[1]);",
        "checkpoint_test",
    ),
    Bug(
        "npz: checksum not looked at",
        "runtime/io/npz.cc",
        "if (Crc32(bytes) != a.crc)",
        "if (false)",
        "io_npz_test",
    ),
    Bug(
        "key map: q and k swapped",
        "models/name_map.cc",
        '{"blocks.#.attn.q.weight", "blocks.#.attn.k.weight", "blocks.#.attn.v.weight"}',
        '{"blocks.#.attn.k.weight", "blocks.#.attn.q.weight", "blocks.#.attn.v.weight"}',
        "vit_fixture_test",
    ),
    # --- methods
    Bug(
        "merge: product in the wrong order",
        "peft/merge.cc",
        'Matmul(graph, m["b"], m["a"])',
        'Matmul(graph, m["a"], m["b"])',
        "merge_test",
    ),
    Bug(
        "merge: scale forgotten",
        "peft/merge.cc",
        'return Dense(graph, m["x"], Scale(graph, m["p"], s));',
        'return Dense(graph, m["x"], Scale(graph, m["p"], 0 * s + 1));',
        "merge_test",
    ),
    Bug(
        "lora: alpha over the square root of r",
        "peft/lora.cc",
        'c.scale = a.Flag("rslora") ? alpha / std::sqrt(r) : alpha / r;',
        "c.scale = alpha / std::sqrt(r);",
        "merge_test",
    ),
    # --- runtime
    Bug(
        "planner: overlap of values that touch",
        "runtime/memory_plan.cc",
        "if (iv[p].first > iv[k].last || iv[k].first > iv[p].last) continue;",
        "if (iv[p].first >= iv[k].last || iv[k].first >= iv[p].last) continue;",
        "planner_test",
    ),
    Bug(
        "planner: lower bound forgets the last position",
        "runtime/memory_plan.cc",
        "change[static_cast<size_t>(i.last) + 1] -= bytes;",
        "change[static_cast<size_t>(i.last)] -= bytes;",
        "planner_test",
    ),
    Bug(
        "graph: use list not updated",
        "runtime/graph.cc",
        "  slot = to;\n  users_[to.i].push_back(n);\n",
        "  slot = to;\n",
        "graph_test",
    ),
    Bug(
        "graph: outputs do not follow",
        "runtime/graph.cc",
        "  for (GraphOutput& o : outputs)\n    if (o.value == from) o.value = to;\n",
        "",
        "graph_test",
    ),
    Bug(
        "graph: what updates read counts as dead",
        "runtime/graph.cc",
        "for (const Update& u : updates) stack.push_back(u.value), stack.push_back(u.target);",
        "",
        "graph_test",
    ),
    Bug(
        "rewriter: interior may have users outside",
        "runtime/rewrite.cc",
        "if (std::find(nodes.begin(), nodes.end(), user) == nodes.end()) return false;",
        "if (std::find(nodes.begin(), nodes.end(), user) == nodes.end()) continue;",
        "rewrite_test",
    ),
    Bug(
        "rewriter: interior may be an output",
        "runtime/rewrite.cc",
        "if (g.IsOutput(result)) return false;",
        "",
        "rewrite_test",
    ),
    Bug(
        "rewriter: bindings of the first order stay",
        "runtime/rewrite.cc",
        "    at = bound;\n    interior.resize(bound_interior);\n",
        "",
        "rewrite_test",
    ),
    Bug(
        "rewriter: uses that a rule makes are redirected",
        "runtime/rewrite.cc",
        "g.ReplaceUsesIn(v, replacement, users);",
        "g.ReplaceUses(v, replacement);",
        "rewrite_test",
    ),
    Bug(
        "rewriter: no guard against loops",
        "runtime/rewrite.cc",
        "if (after >= before)",
        "if (after > before + 100)",
        "rewrite_test",
    ),
    Bug(
        "verify: use lists are not compared",
        "runtime/verify.cc",
        "if (uses != listed)",
        "if (uses > listed + 1000)",
        "verify_test",
    ),
    Bug(
        "verify: two updates of one target pass",
        "runtime/verify.cc",
        "if (!targets.insert(u.target).second)",
        "if (targets.insert(u.target), false)",
        "verify_test",
    ),
    Bug(
        "verify: main may read the update phase",
        "runtime/verify.cc",
        "if (producer.valid() && g.node(producer).phase > n.phase)",
        "if (producer.valid() && false)",
        "verify_test",
    ),
    Bug(
        "merge of equal nodes: attributes do not matter",
        "runtime/passes.cc",
        "if (m.op != n.op || !(m.attrs == n.attrs)) continue;",
        "if (m.op != n.op) continue;",
        "passes_test",
    ),
    Bug(
        "sink gather: others read all rows",
        "runtime/passes.cc",
        "g.users(matrix).size() != 1 || ",
        "",
        "passes_test",
    ),
    Bug(
        "session: a value dies one step early",
        "runtime/session.cc",
        "intervals.push_back({bytes, t, options.share_memory ? last : end});",
        "intervals.push_back({bytes, t, options.share_memory ? std::max(t, last - 1) : end});",
        "session_test",
    ),
    Bug(
        "session: once nodes do not run again",
        "runtime/session.cc",
        "  Execute(impl_->main_end, impl_->steps.size());\n  params_changed_ = true;",
        "  Execute(impl_->main_end, impl_->steps.size());",
        "session_test",
    ),
    Bug(
        "session: in place although read again",
        "runtime/session.cc",
        "intervals[static_cast<size_t>(slot[ShareRoot(source).i])].last == t &&",
        "true &&",
        "session_test",
    ),
    Bug(
        "text: names of values are lost",
        "runtime/text.cc",
        "      g_.SetName(out[i], results[i].second);\n",
        "",
        "text_test",
    ),
    Bug(
        "rng: words of the next block",
        "runtime/rng.cc",
        "static_cast<uint32_t>(position / 4)",
        "static_cast<uint32_t>(position / 4 + 1)",
        "rng_test",
    ),
    # --- files
    Bug(
        "safetensors: reversed offsets pass",
        "runtime/io/safetensors_header.cc",
        "if (t.end < t.begin)",
        "if (t.end < t.begin && t.begin == 1)",
        "io_safetensors_test",
    ),
    Bug(
        "safetensors: holes and overlap pass",
        "runtime/io/safetensors_header.cc",
        "if (t.begin != position)",
        "if (t.begin > position + (1 << 30))",
        "io_safetensors_test",
    ),
    Bug(
        "safetensors: size against shape is not checked",
        "runtime/io/safetensors_header.cc",
        "if (bytes < 0 || t.end - t.begin != static_cast<uint64_t>(bytes))",
        "if (bytes < 0)",
        "io_safetensors_test",
    ),
    Bug(
        "safetensors: a longer file passes",
        "runtime/io/safetensors_header.cc",
        "if (position != data_bytes)",
        "if (position > data_bytes)",
        "io_safetensors_test",
    ),
    Bug(
        "safetensors: duplicate keys pass",
        "runtime/io/safetensors_header.cc",
        "             .insert(key)\n             .second)",
        "             .insert(key)\n             .second && key.empty())",
        "io_safetensors_test",
    ),
    Bug(
        "safetensors: NUL in the header passes",
        "runtime/io/safetensors_header.cc",
        "if (json.find('\\0') != std::string_view::npos)",
        "if (json.empty())",
        "io_safetensors_test",
    ),
    # --- data
    Bug(
        "resize: constant of the bicubic filter",
        "data/resize.cc",
        "constexpr double a = -0.5;",
        "constexpr double a = -0.75;",
        "image_resize_test",
    ),
    Bug(
        "resize: rounding of weights",
        "data/resize.cc",
        "(w < 0 ? -0.5 : 0.5) + w * (1 << kFractionBits)",
        "w * (1 << kFractionBits)",
        "image_resize_test",
    ),
    Bug(
        "resize: order of the two passes",
        "data/resize.cc",
        "return height_loss > 0 && height_loss > 2 * width_loss;",
        "return false;",
        "image_resize_test",
    ),
]


def run(command, log, **options):
    with open(log, "ab") as out:
        return subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, **options).returncode


class Workshop:
    def __init__(self, folder, jobs):
        self.source, self.build = folder / "source", folder / "build"
        self.log, self.jobs = folder / "log.txt", jobs
        self.seconds = {}  # of each test without a bug
        folder.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        head = (
            subprocess.run(
                ["git", "-C", ROOT, "rev-parse", "HEAD"], check=True, stdout=subprocess.PIPE
            )
            .stdout.decode()
            .strip()
        )
        if not self.source.exists():
            subprocess.run(["git", "clone", "-q", ROOT, self.source], check=True)
        git = ["git", "-C", self.source]
        subprocess.run([*git, "fetch", "-q", "origin"], check=True)
        # A bug of an interrupted run may still be in there.
        subprocess.run([*git, "checkout", "-q", "--force", "--detach", head], check=True)
        # Half the time of -O3 for each of the many compilations; the bugs are the same.
        cmake = [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            self.source,
            "-B",
            self.build,
            "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
        ]
        if run(cmake, self.log):
            raise SystemExit(f"planted_bugs: cmake failed, see {self.log}")

    def compile(self, binaries):
        # The tests of the command start it.
        if any(b.startswith("cli_") for b in binaries):
            binaries = [*binaries, "graft"]
        return run(["ninja", "-C", self.build, f"-j{self.jobs}", *binaries], self.log) == 0

    def green(self, test):
        binary, _, pattern = test.partition(":")
        command = [self.build / binary] + ([f"--gtest_filter={pattern}"] if pattern else [])
        started = time.monotonic()
        # A bug may hang its test: that is caught, too.
        limit = 30 + 10 * self.seconds[test] if test in self.seconds else 1200
        try:
            good = run(command, self.log, cwd=self.source, timeout=limit) == 0
        except subprocess.TimeoutExpired:
            return False
        self.seconds.setdefault(test, time.monotonic() - started)
        return good


def occurrences(bug, root):
    path = root / bug.file
    return path.read_text().count(bug.old) if path.exists() else 0


def try_bug(shop, bug):
    """Returns the verdict: "caught" or what is wrong."""
    path = shop.source / bug.file
    clean = path.read_text()
    binaries = [t.partition(":")[0] for t in bug.tests]
    try:
        path.write_text(clean.replace(bug.old, bug.new))
        if not shop.compile(binaries):
            return "does not compile"
        survived = [t for t in bug.tests if shop.green(t)]
        return "NOT CAUGHT by " + ", ".join(survived) if survived else "caught"
    finally:
        path.write_text(clean)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to keep (default: a temporary one)")
    parser.add_argument("--only", default="", help="bugs whose name or file contains this")
    parser.add_argument("--check", action="store_true", help="only look for the old texts")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args()
    bugs = [b for b in BUGS if args.only in b.name or args.only in b.file]
    root = ROOT if args.check else None
    with tempfile.TemporaryDirectory(prefix="graft-bugs-") as temporary:
        shop = None
        if not args.check:
            shop = Workshop((args.work or Path(temporary)).resolve(), args.jobs)
            root = shop.source
        verdicts = {}
        for bug in bugs:
            count = occurrences(bug, root)
            missing = [
                t
                for t in bug.tests
                if not (root / "tests" / (t.partition(":")[0] + ".cc")).exists()
            ]
            if count != 1:
                verdicts[bug] = f"old text found {count} times"
            elif missing:
                verdicts[bug] = "no test " + ", ".join(missing)
        for bug, verdict in verdicts.items():
            print(f"{bug.file}: {bug.name}: {verdict}")
        if args.check:
            print(f"{len(bugs) - len(verdicts)} of {len(bugs)} bugs can be planted")
            return 1 if verdicts else 0

        plantable = [b for b in bugs if b not in verdicts]
        tests = sorted({t for b in plantable for t in b.tests})
        if not shop.compile(sorted({t.partition(":")[0] for t in tests})):
            raise SystemExit(f"planted_bugs: the clean tree does not build, see {shop.log}")
        red = [t for t in tests if not shop.green(t)]
        if red:
            print("red without any bug: " + ", ".join(red))
        for bug in plantable:
            started = time.monotonic()
            if set(bug.tests) & set(red):
                verdicts[bug] = "its tests are red anyway"
            else:
                verdicts[bug] = try_bug(shop, bug)
            print(
                f"{time.monotonic() - started:6.1f} s  {verdicts[bug]:12}  {bug.file}: {bug.name}",
                flush=True,
            )
    caught = sum(v == "caught" for v in verdicts.values())
    print(f"{caught} of {len(bugs)} planted bugs caught")
    return 0 if caught == len(bugs) else 1


if __name__ == "__main__":
    sys.exit(main())
