"""Every decoder of the tokenizers library, streamed: the pieces join to its text, however many tokens say nothing."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.text import kinds

tokenizers = pytest.importorskip("tokenizers")

FUSE, FALLBACK = {"type": "Fuse"}, {"type": "ByteFallback"}


def replace(word: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": word}, "content": content}


def strip(start: int, stop: int, content: str = " ") -> dict[str, Any]:
    return {"type": "Strip", "content": content, "start": start, "stop": stop}


def metaspace(scheme: str, sign: str = "▁") -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": sign, "prepend_scheme": scheme, "split": True}


def word_piece(cleanup: bool, prefix: str = "##") -> dict[str, Any]:
    return {"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}


def ctc(cleanup: bool) -> dict[str, Any]:
    return {"type": "CTC", "pad_token": "<p>", "word_delimiter_token": "|", "cleanup": cleanup}


LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
ENDS = {"type": "BPEDecoder", "suffix": "</w>"}
REGEX = {"type": "Replace", "pattern": {"Regex": "[ab]+"}, "content": "-"}
SINGLE = [
    LEVEL, FUSE, FALLBACK, metaspace("always"), metaspace("never"), metaspace("first", "_"), word_piece(True),
    word_piece(False), ctc(True), ctc(False), ENDS, replace("▁", " "), replace("ab", "b"), strip(2, 0), strip(0, 1),
    REGEX,
]  # fmt: skip
LLAMA = [replace("▁", " "), FALLBACK, FUSE]
SEQUENCES: list[list[dict[str, Any]]] = [
    LLAMA, [*LLAMA, strip(1, 0)], [*LLAMA, strip(3, 0)], [*LLAMA, strip(0, 2)], [*LLAMA, strip(2, 2, "a")],
    [FALLBACK, replace("한", "x"), FUSE, replace("aab", "c")], [FUSE, replace("aba", " ")], [FUSE, word_piece(True)],
    [ENDS, FUSE, replace("  ", "_")], [FUSE, ENDS], [word_piece(True), FUSE, strip(0, 1, ".")],
    [LEVEL, replace("e", "E")],
    [ctc(True), FUSE, metaspace("always")], [metaspace("always"), word_piece(False)], [strip(1, 0, "▁"), LEVEL],
    [FALLBACK, strip(1, 0, "a")], [FUSE, REGEX, strip(1, 0)],
]  # fmt: skip
DECODERS = [
    None, *SINGLE, *({"type": "Sequence", "decoders": parts} for parts in SEQUENCES),
    {"type": "Sequence", "decoders": [{"type": "Sequence", "decoders": [replace("▁", " ")]}, FUSE]},
]  # fmt: skip
PIECES = [
    "<s>", "</s>", "<p>", "▁", "▁▁", "▁a", "a", "ab", "aab", "b", "the", "▁the", "##ing", "##s", ".", " .", ",", "n't",
    " do not", "'s", "cat</w>", "</w>", "a</w>b", "_x", "|", "Ġthe", "ìķĪ", "ë", "ħķ", "한", " ", "  ", "x▁y", "?",
    "👍",
]  # fmt: skip
BYTES = [f"<0x{byte:02X}>" for byte in sorted({*"한 a👍\n".encode()})]
HAN, THUMB = ([f"<0x{byte:02X}>" for byte in text.encode()] for text in "한👍")


def tokens(dice: random.Random) -> list[str]:
    """Pieces, whole characters in bytes, and runs of special tokens; never only what a decoder may strip."""
    made: list[str] = []
    for _ in range(dice.randrange(1, 30)):
        made += dice.choice(([dice.choice(PIECES)], [dice.choice(PIECES)], HAN, THUMB, ["<0x61>"], ["▁"], ["a"] * 3))
        made += ["</s>"] * dice.choice((0, 0, 0, 0, 0, 1, 2, 16, 17, 70))
    made.insert(dice.randrange(len(made)), "the")
    return made


@pytest.mark.parametrize("number", range(len(DECODERS)))
def test_a_stream_says_what_the_whole_says(tmp_path: Path, number: int) -> None:
    ids = {piece: index for index, piece in enumerate([*PIECES, *BYTES])}
    model = {"type": "WordLevel", "vocab": ids, "unk_token": "<p>"}
    told = kinds.state(model, "<s>", "</s>", decoder=DECODERS[number])
    ours = load_tokenizer(kinds.write(tmp_path, told), {})
    judge = tokenizers.Tokenizer.from_str(json.dumps(told))
    dice, compared = random.Random(number), 0
    for _ in range(100):
        given = [ids[piece] for piece in tokens(dice)]
        for skip in (True, False):
            text, whole = ours.decode(given, skip_special=skip), judge.decode(given, skip_special_tokens=skip)
            if "\ufffd" not in whole:  # for bytes that are no text, it writes as many signs as there are bytes
                assert text == whole, given
                compared += 1
        stream = ours.stream()
        assert "".join(map(stream.feed, given)) + stream.finish() == ours.decode(given)
        cut = dice.randrange(len(given))
        begun, rest = given[:cut], ours.stream(given[:cut])
        added = "".join(map(rest.feed, given[cut:])) + rest.finish()
        text, before = ours.decode(given), ours.decode(begun)
        if text.startswith(before) and "\ufffd" not in before:  # what began is no half character
            assert before + added == text
    assert compared > 100
