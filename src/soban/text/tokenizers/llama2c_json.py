"""llama2.c's tokenizer.bin as a tokenizer.json: byte-pair merges that join what run.c joins, in its order."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.text.tokenizers.llama2c import BOS, EOS, FLOOR
from soban.text.tokenizers.packing import PREPEND, REPLACE
from soban.text.tokenizers.rules import SPACE

UNKNOWN = 0


def tokenizer_files(path: Path, pieces: Sequence[bytes], scores: Sequence[float], context: int) -> dict[str, Any]:
    """tokenizer.json and tokenizer_config.json for the pieces of the tokenizer.bin at `path`, by their names.

    Raises UserError where a piece is no text, or two are alike: a tokenizer.json names each token by its text.
    """
    texts = _texts(path, pieces)
    names = {"bos_token": texts[BOS], "eos_token": texts[EOS], "unk_token": texts[UNKNOWN]}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        **names,
    }
    return {"tokenizer.json": _library_form(texts, scores), "tokenizer_config.json": settings}


def _texts(path: Path, pieces: Sequence[bytes]) -> list[str]:
    """Each piece as a tokenizer.json spells it, with ▁ for a space."""
    ids: dict[str, int] = {}
    for index, piece in enumerate(pieces):
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            text = ""
        if index in (BOS, EOS):
            text = text.strip("\n")
        if not text or SPACE in text:
            raise UserError(
                "{path}: token {index} is {piece}, which no tokenizer.json can name", path=path, index=index,
                piece=repr(piece), hint="--weights-only writes the weights alone",
            )  # fmt: skip
        text = text.replace(" ", SPACE)
        if text in ids:
            raise UserError(
                "{path}: tokens {first} and {second} are both {piece}, and a tokenizer.json names each by its text",
                path=path, first=ids[text], second=index, piece=repr(piece),
                hint="--weights-only writes the weights alone",
            )  # fmt: skip
        ids[text] = index
    return list(ids)


def _library_form(texts: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """The object in a tokenizer.json."""
    special = sorted({UNKNOWN, BOS, EOS})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    begin, sequences = texts[BOS], ({"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}})
    first, second = ([{"SpecialToken": {"id": begin, "type_id": n}}, sequences[n]] for n in (0, 1))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": texts[index], **flags} for index in special],
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": [*first, *second],
            "special_tokens": {begin: {"id": begin, "ids": [BOS], "tokens": [begin]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": texts[UNKNOWN],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(texts)},
            "merges": [list(pair) for pair in merges(_joined(texts), scores, FLOOR)],
        },
    }


def _joined(texts: Sequence[str]) -> dict[str, int]:
    """The pieces that run.c joins others to, and joins."""
    return {text: index for index, text in enumerate(texts) if index not in (UNKNOWN, BOS, EOS)}


def merges(ids: Mapping[str, int], scores: Sequence[float], floor: float = -math.inf) -> Iterator[tuple[str, str]]:
    """Every pair of pieces that spells a third, those first whose third has the best score, above `floor`."""
    for text, index in sorted(ids.items(), key=lambda entry: -scores[entry[1]]):
        if scores[index] > floor:
            pairs = ((text[:place], text[place:]) for place in range(1, len(text)))
            yield from sorted((p for p in pairs if p[0] in ids and p[1] in ids), key=lambda p: ids[p[0]])
