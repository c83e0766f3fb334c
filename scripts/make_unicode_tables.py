#!/usr/bin/env python3
"""Writes models/text/unicode_tables.cc: what the installed `tokenizers` does with every code point.

usage: make_unicode_tables.py            (needs the package `tokenizers`, nothing else)
The library is asked, not the Unicode database: its parts carry tables of several Unicode versions
(its punctuation is older than its lower case), so only its own answers agree with it. The combining
classes are found by the order into which NFD sorts two characters; only their order matters, so the
ranks 1, 2, ... stand for them.
"""

import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parent.parent / "models" / "text" / "unicode_tables.cc"
# As in models/text/unicode.h.
CONTROL, SPACE, PUNCTUATION, CHINESE, MARK, DECOMPOSES, WORD = 1, 2, 4, 8, 16, 32, 64
CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xD7A4)
WIDTH = 98

NFD = normalizers.NFD().normalize_str
LOWER = normalizers.Lowercase().normalize_str


def bert(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **on}).normalize_str


CLEAN, CHINESE_SPACES, STRIP = (
    bert(clean_text=True),
    bert(handle_chinese_chars=True),
    bert(strip_accents=True),
)
SPLIT = pre_tokenizers.BertPreTokenizer().pre_tokenize_str


def word_characters():
    """Characters beside which a token that is a single word is none."""
    alone = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    alone.add_tokens([AddedToken("#", single_word=True, normalized=False)])
    texts = [{}, {}]
    for side, made in enumerate((lambda c: "#" + c, lambda c: c + "#")):
        encodings = alone.encode_batch_fast([made(chr(code)) for code in CODES])
        texts[side] = {c for c, e in zip(CODES, encodings) if 1 not in e.ids}
    assert texts[0] == texts[1]
    return texts[0]


WORDS = word_characters()


def flags_of(code):
    c = chr(code)
    pieces = [piece for piece, _ in SPLIT("a" + c + "a")]
    flags = {1: 0, 2: SPACE, 3: PUNCTUATION}[len(pieces)]
    cleaned = CLEAN(c)
    if cleaned == "":
        flags |= CONTROL
    # U+FFFD has no other way to go; every other kept character stays or becomes a blank.
    assert cleaned in ("", " " if flags & SPACE else c), hex(code)
    spaced = CHINESE_SPACES(c)
    assert spaced in (c, f" {c} "), hex(code)
    if spaced != c:
        flags |= CHINESE
    if NFD(c) != c:
        flags |= DECOMPOSES
    elif STRIP(c) == "":
        flags |= MARK
    if code in WORDS:
        flags |= WORD
    return flags


def combining_ranks(plain):
    """Rank of the combining class for each character of `plain` that has one."""

    def before(a, b):  # 0 < class(a) < class(b)
        return a != b and NFD(b + a) == a + b

    low, high = "\u0334", "\u0345"  # classes 1 and 240, the ends
    marks = [c for c in plain if before(low, c) or before(c, high)]
    by_class = {}
    for c in marks:
        by_class.setdefault(unicodedata.combining(c), c)
    by_class.pop(0, None)  # newer than this Python
    examples = [by_class[k] for k in sorted(by_class)]
    assert all(before(a, b) for a, b in zip(examples, examples[1:]))
    ranks = {}
    for c in marks:
        equal = [i for i, e in enumerate(examples) if not before(c, e) and not before(e, c)]
        assert len(equal) == 1, (hex(ord(c)), equal)
        ranks[ord(c)] = equal[0] + 1
    return ranks


def lower_delta(code):
    lower = LOWER(chr(code))
    if len(lower) == 2:  # the only one; Unicode::Lower knows it
        assert (code, lower) == (0x130, "i\u0307"), hex(code)
        return 0
    return ord(lower) - code


def stage(values, size):
    """Equal blocks of `size` values are kept once: (number of each block, the blocks)."""
    numbers, first, blocks = {}, [], []
    for start in range(0, len(values), size):
        block = tuple(values[start : start + size])
        if block not in numbers:
            numbers[block] = len(numbers)
            blocks.extend(block)
        first.append(numbers[block])
    return first, blocks


def array(kind, name, items):
    lines, line = [f"const {kind} {name}[{len(items)}] = {{"], "    "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "    "
        line += f"{item},"
    return "\n".join(lines + [line, "};"])


def main():
    flags = {code: flags_of(code) for code in CODES}
    plain = [chr(code) for code in CODES if not flags[code] & DECOMPOSES]
    ranks = combining_ranks(plain)
    records, indices = [], []
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF:
            record = (0, 0, 0)
        else:
            record = (flags[code], ranks.get(code, 0), lower_delta(code))
        if record not in records:
            records.append(record)
        indices.append(records.index(record))
    assert len(records) <= 256
    middle, third = stage(indices, 16)
    first, second = stage(middle, 32)
    assert max(first) < 256

    pool, keys = [], []
    for code in CODES:
        if not flags[code] & DECOMPOSES or code in HANGUL:
            continue
        parts = [ord(c) for c in NFD(chr(code))]
        assert 1 <= len(parts) <= 4
        keys.append((code, len(pool), len(parts)))
        pool += parts
    assert len(pool) < 0x10000
    for code in HANGUL:  # models/text/unicode.h computes them
        i = code - 0xAC00
        parts = [0x1100 + i // 588, 0x1161 + i % 588 // 28] + [0x11A7 + i % 28] * (i % 28 > 0)
        assert [ord(c) for c in NFD(chr(code))] == parts

    text = "\n".join(
        [
            f"// Made by scripts/make_unicode_tables.py from tokenizers {tokenizers.__version__}.",
            "// Change nothing here.",
            '#include "models/text/unicode.h"',
            "",
            "// clang-format off",
            "namespace graft::unicode {",
            "",
            f'const char* const kTokenizersVersion = "{tokenizers.__version__}";',
            f"const int kDecomposedSize = {len(keys)};",
            array("Record", "kRecords", ["{%d,%d,%d}" % r for r in records]),
            array("uint8_t", "kFirst", [str(v) for v in first]),
            array("uint16_t", "kSecond", [str(v) for v in second]),
            array("uint8_t", "kThird", [str(v) for v in third]),
            array("Decomposed", "kDecomposed", ["{%d,%d,%d}" % k for k in keys]),
            array("char32_t", "kPool", [str(v) for v in pool]),
            "",
            "}  // namespace graft::unicode",
            "",
        ]
    )
    OUT.write_text(text)
    print(f"{OUT.name}: {len(records)} records; stages {len(first)}, {len(second)}, {len(third)};")
    print(f"{len(keys)} decompositions of {len(pool)} parts, {len(set(ranks.values()))} classes")


if __name__ == "__main__":
    main()
