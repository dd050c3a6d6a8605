"""Packs a tokenizer.json that is byte-pair encoding with byte fallback; any other is left to the library.

What is not known to mean the same is refused here: every key and every value has its meaning or its place in a list.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.text.stream.decode import sentencepiece_bytes
from soban.text.tokenizers import bpe
from soban.text.tokenizers.facts import FACTS, as_json
from soban.text.tokenizers.fast import FastTokenizer
from soban.text.tokenizers.library import state_of
from soban.text.tokenizers.rules import SPACE, Rules
from soban.weights.safetensors import DTYPES, write_safetensors

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
METASPACE = {"type", "replacement", "prepend_scheme", "split"}


class NotCovered(Exception):
    """The tokenizer may mean something that the packed form does not know."""


def pack(source: bytes, fast: FastTokenizer, path: Path, metadata: dict[str, str]) -> None:
    """Writes the packed form of the tokenizer.json `source`, which the library has read as `fast`.

    Raises NotCovered, or UserError where the file cannot be written.
    """
    rules = pipeline(fast)
    model = _model(source)
    ids = _vocabulary(model)
    merges = _merges(model, ids)
    codes, characters = _characters(ids)
    bits = {"characters": _bits(len(codes)), "merges": _bits(len(merges))}
    blob = [piece.encode() for piece in ids]  # in the order of their ids
    arrays: dict[str, npt.NDArray] = {
        "starts": np.concatenate([[0], np.cumsum([len(piece) for piece in blob])]).astype(np.uint32),
        "pieces": np.frombuffer(b"".join(blob), np.uint8),
        "characters": bpe.table(characters, bpe.character_places(codes, bits["characters"]), bits["characters"]),
        "merges": bpe.table(
            merges, bpe.merge_places(merges[:, 0] - np.uint32(1), merges[:, 1], bits["merges"]), bits["merges"]
        ),
        "bytes": np.array([ids[f"<0x{byte:02X}>"] for byte in range(256)], np.uint32),
    }
    reached = set(np.concatenate([merges[:, 3], characters[:, 1], arrays["bytes"]]).tolist())
    facts = as_json(rules, bits, fast, {index for index in fast.spelled if index in reached})
    entries = [(name, "U8" if array.dtype == np.uint8 else "U32", array.shape) for name, array in arrays.items()]
    write_safetensors(
        path, entries, lambda name: [np.ascontiguousarray(arrays[name], DTYPES["U8" if name == "pieces" else "U32"])],
        {FACTS: facts} | metadata, sums=True,
    )  # fmt: skip


def pipeline(fast: FastTokenizer) -> Rules:
    """What becomes of a text before it is merged, by the library's own account of its parts. Raises NotCovered."""
    library, model = fast.library, fast.library.model
    if type(model).__name__ != "BPE" or not model.byte_fallback or model.ignore_merges:
        raise NotCovered("model")
    if model.continuing_subword_prefix is not None or model.end_of_word_suffix is not None:
        raise NotCovered("affixes")
    # with all of them, no character is unknown
    if any(model.token_to_id(f"<0x{byte:02X}>") is None for byte in range(256)):
        raise NotCovered("byte_fallback")
    if fast.piece_bytes is not sentencepiece_bytes:
        raise NotCovered("decoder")
    _check_added(fast)
    return _rules(state_of(library.normalizer), state_of(library.pre_tokenizer))


def _rules(normalizer: dict[str, Any], pre_tokenizer: dict[str, Any]) -> Rules:
    if pre_tokenizer.get("type") == "Metaspace":
        scheme, split = pre_tokenizer.get("prepend_scheme"), pre_tokenizer.get("split")
        if normalizer or pre_tokenizer.keys() != METASPACE or pre_tokenizer["replacement"] != SPACE:
            raise NotCovered("Metaspace")
        if scheme not in ("always", "first", "never") or not isinstance(split, bool):
            raise NotCovered("Metaspace")
        return Rules(metaspace=scheme, cut=split)
    # without spaces there is nothing to split at
    if pre_tokenizer and pre_tokenizer != SPLIT:
        raise NotCovered("pre_tokenizer")
    steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    if steps == [REPLACE]:
        return Rules()
    if steps in ([PREPEND, REPLACE], [REPLACE, PREPEND]):
        return Rules(prepend=True)
    raise NotCovered("normalizer")


def _model(source: bytes) -> dict[str, Any]:
    """The model in the JSON object; a key that stands twice is not covered."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            raise NotCovered("a key twice")
        return result

    try:
        model = json.loads(source.decode("utf-8"), object_pairs_hook=pairs)["model"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise NotCovered("JSON") from None
    if not isinstance(model, dict):
        raise NotCovered("JSON")
    return model


def _check_added(fast: FastTokenizer) -> None:
    """Added tokens are found in text by `Matcher`; where it and the library might differ, they are not covered."""
    tokens = fast.added.values()
    strips = any(token.lstrip or token.rstrip for token in tokens)
    for token in tokens:
        if token.single_word or not token.content or (strips and token.content != token.content.strip()):
            raise NotCovered(token.content)


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """The pieces' ids, in their order, without gaps."""
    try:
        ids: dict[str, int] = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    except (KeyError, TypeError, AttributeError):
        raise NotCovered("vocab") from None
    if list(ids.values()) != list(range(len(ids))):
        raise NotCovered("vocab")
    return ids


def _merges(model: Mapping[str, Any], ids: Mapping[str, int]) -> bpe.Table:
    """(n, 4): left id + 1, right id, rank, joined id; of a pair that stands twice, the last counts."""
    pairs = model.get("merges")
    if not isinstance(pairs, list):
        raise NotCovered("merges")
    if pairs and isinstance(pairs[0], str):
        pairs = [line.split(" ") for line in pairs if not line.startswith("#version")]
    try:
        rows = np.array(
            [(ids[left] + 1, ids[right], rank, ids[left + right]) for rank, (left, right) in enumerate(pairs)],
            np.uint32,
        ).reshape(-1, 4)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NotCovered("merges") from None
    keys = rows[:, 0].astype(np.uint64) << np.uint64(32) | rows[:, 1]
    _, last = np.unique(keys[::-1], return_index=True)
    return rows[len(rows) - 1 - last]


def _characters(ids: Mapping[str, int]) -> tuple[npt.NDArray[np.uint32], bpe.Table]:
    """The code points that are pieces, and (n, 2): code point + 1, id."""
    pairs = [(ord(piece), index) for piece, index in ids.items() if len(piece) == 1]
    rows = np.array(pairs, np.uint32).reshape(-1, 2)
    return rows[:, 0].copy(), rows + np.array([1, 0], np.uint32)


def _bits(count: int) -> int:
    """Places for the hash: two thirds of them taken at the most."""
    return max(1, (count * 3 // 2).bit_length())
