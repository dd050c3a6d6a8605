"""Every field of a tokenizer.json has its type, range and cross-references checked before the library sees it."""

import base64
import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers import library
from soban.text.tokenizers.entries import read_entries
from soban.text.tokenizers.fast import load_fast
from soban.text.tokenizers.library_check import FIELDS, MAX_COUNT, MAX_TEXT
from soban.text.tokenizers.settings import MAX_ID, Settings
from tests.text import kinds

tokenizers = pytest.importorskip("tokenizers")

# For each kind of field some values that are none.
WRONG: dict[str, list[Any]] = {
    "flag": [0, "true", []], "text": [3, [], "x" * (MAX_TEXT + 1)], "character": ["", "ab", 5],
    "count": [-1, 1.5, True, MAX_COUNT + 1, 2**63], "length": [0, -1, MAX_COUNT + 1],
    "id": [-1, 1.0, MAX_ID + 1, 2**32], "share": [-0.1, 1.5, "0"], "named": [["<s>"], ["<s>", -1], 3],
    "pattern": [{}, "x", {"Regex": "(a{999}){999}"}, {"Regex": "(" * 60 + ")" * 60}, {"String": 3}],
    "charsmap": ["?", "AAAA", base64.b64encode(struct.pack("<I", 2**32 - 4) + bytes(8)).decode(), 3],
    "spelled": [[], {"<s>": {"ids": [2**40]}}, {"<s>": 3}],
}  # fmt: skip
PLACES = {
    "normalizer": ("Prepend", "Replace", "Strip", "Precompiled", "BertNormalizer"),
    "decoder": ("Metaspace", "WordPiece", "BPEDecoder", "CTC", "ByteLevel"),
    "pre_tokenizer": ("Digits", "Punctuation", "CharDelimiterSplit", "Split", "FixedLength"),
    "post_processor": ("BertProcessing", "RobertaProcessing", "TemplateProcessing"),
}


def refused(tmp_path: Path, told: dict[str, Any], place: str) -> None:
    """The file is refused by us, in one line that names the place, by whoever reads it."""
    kinds.write(tmp_path, told)
    for read in (lambda: load_fast(tmp_path / "tokenizer.json", Settings()), lambda: read_entries(tmp_path, {})):
        with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer: ") as caught:
            read()
        assert place in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_value_of_another_type_or_out_of_range_is_refused_with_its_place(tmp_path: Path) -> None:
    base = kinds.state(kinds.bpe(random.Random(1)), "<unk>")
    assert {kind for kinds_of in PLACES.values() for kind in kinds_of} == set(FIELDS)
    for place, types in PLACES.items():
        for kind in types:
            for name, expected in FIELDS[kind].items():
                for value in WRONG[expected]:
                    part = {"type": kind, name: value}
                    sequence = {"decoder": "decoders", "pre_tokenizer": "pretokenizers"}.get(place)
                    refused(tmp_path, base | {place: part}, f"{place}.{name}")
                    if sequence:
                        whole = {"type": "Sequence", sequence: [part]}
                        refused(tmp_path, base | {place: whole}, f"{place}.{sequence}[0].{name}")
    for name, expected in (("id", "id"), ("content", "text"), ("special", "flag"), ("lstrip", "flag")):
        for value in WRONG[expected]:
            token = kinds.added(3, "<new>") | {name: value}
            refused(tmp_path, base | {"added_tokens": [token]}, f"added_tokens[0].{name}")
    for name, expected in (
        ("dropout", "share"),
        ("unk_token", "text"),
        ("byte_fallback", "flag"),
        ("fuse_unk", "flag"),
    ):
        for value in WRONG[expected]:
            refused(tmp_path, base | {"model": base["model"] | {name: value}}, f"model.{name}")


def test_a_vocabulary_is_whole(tmp_path: Path) -> None:
    for model, value, place in [
        (kinds.wordlevel(), {"a": -1}, "model.vocab['a']"), (kinds.wordlevel(), {"a": 2**40}, "model.vocab['a']"),
        (kinds.bpe(random.Random(1)), {"a": "1"}, "model.vocab['a']"), (kinds.wordpiece(), 3, "model.vocab"),
        (kinds.unigram(random.Random(1)), [["a"]], "model.vocab[0]"), (kinds.wordlevel(), None, "model.vocab"),
        (kinds.unigram(random.Random(1)), [["a", float("nan")]], "model.vocab[0]"),
        (kinds.unigram(random.Random(1)), [[3, 0.0]], "model.vocab"),
    ]:  # fmt: skip
        refused(tmp_path, {"model": model | {"vocab": value}}, place)
    told = kinds.state(kinds.unigram(random.Random(1)))
    told["model"]["unk_id"] = len(told["model"]["vocab"])
    refused(tmp_path, told, "model.unk_id")
    told = kinds.state(kinds.bpe(random.Random(1), continuing_subword_prefix="##"))
    told["model"]["merges"].append(["a", "b"])
    refused(tmp_path, told, f"model.merges[{len(told['model']['merges']) - 1}]")
    for model in (None, [], "BPE"):
        refused(tmp_path, {"model": model}, "model")


def test_parts_are_not_nested_without_end(tmp_path: Path) -> None:
    part: dict[str, Any] = {"type": "Fuse"}
    base = kinds.state(kinds.bpe(random.Random(1)), "<unk>")
    for depth in range(40):
        told = base | {"decoder": part}
        if depth in (0, 1, 5):
            kinds.write(tmp_path, told)
            assert load_fast(tmp_path / "tokenizer.json", Settings())
        elif depth > 12:
            refused(tmp_path, told, "decoder")
        part = {"type": "Sequence", "decoders": [copy.deepcopy(part)]}
    refused(tmp_path, base | {"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}] * 2000}}, "decoder")


def test_what_the_library_raises_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is no Exception, as its panics are; what ends a program goes on doing so."""

    class Panic(BaseException):
        pass

    path = tmp_path / "tokenizer.json"
    for error in (Panic("a\nb"), ValueError("a b"), OverflowError("a b")):
        with (
            pytest.raises(UserError, match=r"tokenizer\.json: the tokenizer fails \(a b\)"),
            library.library_errors(path),
        ):
            raise error
    for error in (KeyboardInterrupt(), SystemExit(), MemoryError(), GeneratorExit()):
        with pytest.raises(type(error)), library.library_errors(path):
            raise error
    tokenizer = load_fast(
        kinds.write(tmp_path, kinds.state(kinds.bpe(random.Random(1)))) / "tokenizer.json", Settings()
    )

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise Panic(name)

    tokenizer.library = tokenizer._plain = Broken()  # type: ignore[assignment]
    tokenizer._markup_ids, tokenizer._normalized_markup = frozenset([1]), True
    for call in (
        lambda: tokenizer.encode("a"), lambda: tokenizer.encode("a", special=True), lambda: tokenizer.find_markup("a"),
        lambda: tokenizer.encode_rendered("a", {}), lambda: tokenizer.decode([1]), lambda: tokenizer.token_bytes(1),
        lambda: tokenizer.stream([1]), lambda: tokenizer.stream().feed(1), lambda: tokenizer.taken_apart(1),
    ):  # fmt: skip
        with pytest.raises(UserError, match="the tokenizer fails"):
            call()


def test_hundreds_of_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    """Values swapped between places, dropped and doubled: whatever comes is a UserError or a tokenizer that works."""
    dice = random.Random(12)
    files = [json.dumps(told) for _, told in kinds.kinds(dice)]
    read = 0
    for _ in range(300):
        told = json.loads(dice.choice(files))
        places = [(holder, key) for holder, key in _places(told) if dice.random() < 0.5]
        for _ in range(dice.choice((1, 1, 2))):
            (holder, key), (other, place) = dice.choice(places), dice.choice(places)
            holder[key] = copy.deepcopy(other[place])
        kinds.write(tmp_path, told)
        try:
            tokenizer = load_fast(tmp_path / "tokenizer.json", Settings())
            tokenizer.decode(tokenizer.encode("the cat 안녕</s>"))
            read += 1
        except UserError as error:
            assert "\n" not in str(error)
    assert 20 < read < 290


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every holder with a key or number of what it holds, the vocabulary's and the merges' first few."""
    inner = list(value.items())[:30] if isinstance(value, dict) else list(enumerate(value[:10]))
    found = [(value, key) for key, _ in inner]
    for _, item in inner:
        if isinstance(item, dict | list):
            found += _places(item)
    return found
