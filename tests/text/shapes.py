"""Small tokenizers of the shapes that the packed form covers, and strings that tokenizers get wrong."""

import functools
import json
import random
from pathlib import Path
from typing import Any

SPACE = "▁"
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
BOTH = {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}
DECODERS = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
]  # fmt: skip
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "</s>"]


def metaspace(scheme: str, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


# name -> normalizer, pre-tokenizer, whether added tokens are found after normalizing, whether one space is stripped
SHAPES: dict[str, tuple[Any, Any, bool, bool]] = {
    "gemma": (REPLACE, SPLIT, False, False),
    "llama": (BOTH, None, False, True),
    "llama-normalized": (BOTH, None, True, True),
    "gemma-normalized": (REPLACE, None, True, False),
    "metaspace-first": (None, metaspace("first", False), False, True),
    "metaspace-first-normalized": (None, metaspace("first", True), True, True),
    "metaspace-always-split": (None, metaspace("always", True), False, True),
    "metaspace-never": (None, metaspace("never", True), False, False),
}

SENTENCES = (
    "Once upon a time, in a village by the sea, there lived a fox who could count to seven.\n"
    "옛날 옛적에 바닷가 마을에 일곱까지 셀 줄 아는 여우가 살았습니다. 여우는 날마다 바다를 보았어요.\n"
    "def count(foxes):\n    return [fox for fox in foxes if fox.counts()]  # 1234567 == 7\n"
    "<b>tab\tle</b> </s> <start_of_turn>user\nhi<end_of_turn>\n 3.14159  ====== ▁▁▁▁ ...... ㅋㅋㅋㅋ 👍🏽👍🏽 \n\n\n\n"
)


@functools.cache
def vocabulary(size: int = 900) -> tuple[dict[str, int], list[list[str]]]:
    """Pieces and merges learnt from a few sentences, spaces written as U+2581; every way to join a piece is a merge."""
    pieces = dict.fromkeys([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁▁", "\n\n", "<table>"])
    text = SENTENCES.replace(" ", SPACE)
    pieces |= dict.fromkeys(sorted(set(text)))
    dice, merges = random.Random(3), []
    while len(pieces) < size:
        start, length = dice.randrange(len(text)), dice.choice((2, 2, 2, 3, 3, 4, 5, 7))
        piece = text[start : start + length]
        cuts = [cut for cut in range(1, len(piece)) if piece[:cut] in pieces and piece[cut:] in pieces]
        if len(piece) > 1 and piece not in pieces and cuts:
            pieces[piece] = None
            merges += [[piece[:cut], piece[cut:]] for cut in cuts]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": index, "content": content} | {name: flags.get(name, False) for name in names}


def tokenizer_json(shape: str, strips: bool = False) -> dict[str, Any]:
    """A tokenizer.json; `strips`: some of its added tokens swallow the blanks beside them."""
    normalizer, pre_tokenizer, normalized, stripped = SHAPES[shape]
    pieces, merges = vocabulary()
    tokens = [added(index, content, special=True, normalized=normalized) for index, content in enumerate(SPECIAL)]
    if not strips:
        tokens += [added(pieces[content], content) for content in ("▁▁", "\n\n", "<table>")]
    size = len(pieces)
    tokens += [
        added(size, "<mask>", special=True, lstrip=strips),
        added(size + 1, "<|end|>", special=True, rstrip=strips, normalized=normalized),
        added(size + 2, "여우", normalized=normalized, rstrip=strips),
        added(size + 3, "<tool>", lstrip=strips, rstrip=strips),
    ]
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing", "single": [bos, sequence], "pair": [bos, sequence],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [*DECODERS, *([STRIP] if stripped else [])]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": pieces, "merges": merges,
        },
    }  # fmt: skip


def write(folder: Path, state: dict[str, Any], **settings: Any) -> Path:
    """A folder with this tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    config = {"bos_token": "<bos>", "eos_token": "<eos>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


TOKENS = [*SPECIAL, "<mask>", "<|end|>", "여우", "<tool>", "<table>", "\n\n", "▁▁"]
EMOJI = ["👩‍👩‍👧‍👦", "🇰🇷", "👍🏽", "🏳️‍🌈", "1️⃣", "❤️", "🧑🏿‍🚀", "👍🏽👍🏽"]
CODE = ["def f(x):\n    return x\n", "for (int i = 0; i < n; i++) {\n\t\tx[i] += 1;\n}\n", "SELECT * FROM 표;", "=="]
BLANKS = [" ", "  ", "\t", "\n", "\r\n", "\u3000", "\xa0", "\x1c", "\u2028", "\x85", "\u200b", "▁"]


def _runs(dice: random.Random) -> str:
    return dice.choice(["a", " ", "\n", "▁", "=", "한", "👍", "<", "\u0301", "<eos>"]) * dice.randrange(1, 40)


def _any(dice: random.Random) -> str:
    code = dice.choice((dice.randrange(0x80), dice.randrange(0x3000), dice.randrange(0x110000)))
    return "" if 0xD800 <= code < 0xE000 else chr(code)


def _hangul(dice: random.Random) -> str:
    syllables = "".join(chr(0xAC00 + dice.randrange(11172)) for _ in range(dice.randrange(1, 4)))
    return dice.choice((syllables, "".join(map(chr, (0x1112, 0x1161, 0x11AB))), "ㅋㅋ", "여우는 ", "바다"))


def _sentence(dice: random.Random) -> str:
    start = dice.randrange(len(SENTENCES))
    return SENTENCES[start : start + dice.randrange(1, 30)]


SOURCES = (
    _runs, _any, _any, _hangul, _hangul, _sentence, _sentence, _sentence,
    lambda dice: dice.choice(TOKENS), lambda dice: dice.choice(TOKENS), lambda dice: dice.choice(EMOJI),
    lambda dice: dice.choice(CODE), lambda dice: dice.choice(BLANKS), lambda dice: dice.choice("aeo") + "\u0301\u0323",
    lambda dice: "".join(dice.choices("abc  ▁\n\t<>s/안녕각ㄱ😀👨‍👩é\u3000①ﬁ\x00=.,0x1_|", k=dice.randrange(12))),
)  # fmt: skip


def string(dice: random.Random) -> str:
    """A text of up to a few dozen characters, its parts drawn from all that is troublesome."""
    return "".join(dice.choice(SOURCES)(dice) for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 4, 6, 9))))
