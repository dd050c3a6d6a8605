"""A tokenizer.json, looked through before the tokenizers library sees it: types, ranges, and what refers to what.

The library refuses most nonsense in words of its own; over some it panics, and where it cannot get the memory that a
field asks for it ends the whole process, which nothing can catch.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.messages import translate
from soban.text.tokenizers.charsmap import Charsmap
from soban.text.tokenizers.settings import MAX_ID, parse_json_object

MAX_TEXT = 1 << 16  # characters of a piece, and of what a part writes into a text
MAX_COUNT = 1 << 20
MAX_DEPTH = 10  # of sequences in sequences; published files have one
MAX_PARTS = 1000
MAX_REGEX = 10_000  # characters; the longest known one has 400
MAX_WRITTEN = 100_000  # signs in it, each as often as it is repeated by a count
MAX_BRACKETS = 50  # in each other
MAX_CHARSMAP = 16 << 20  # bytes; NFKC with case folding has 300,000

# A byte-pair model's merges are most of its file, and the library looks them up in the vocabulary itself. A quotation
# mark inside of a piece is escaped, so this can only be the key.
MERGES = re.compile(rb'"merges"\s*:\s*\[')
END = re.compile(rb"\]\s*\}\s*\}\s*$")
# Of a regular expression: an escape, a class, a bracket or a letter, and how often it is repeated.
TOKENS = re.compile(
    r"(?s)(?P<sign>\\[xpPuo]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|.)(?P<times>(?:\{\d*,?\d*\})*)"
)
SEQUENCES = ("normalizers", "pretokenizers", "decoders", "processors")

FLAGS = {"add_prefix_space": "flag", "trim_offsets": "flag", "use_regex": "flag"}
PROCESSING = {"sep": "named", "cls": "named", **FLAGS}
# The fields of each part, by its type, and what belongs there; null stands for what is left out.
FIELDS: Mapping[str, Mapping[str, str]] = {
    "Prepend": {"prepend": "text"},
    "Replace": {"pattern": "pattern", "content": "text"},
    "Strip": {"strip_left": "flag", "strip_right": "flag", "content": "character", "start": "count", "stop": "count"},
    "Precompiled": {"precompiled_charsmap": "charsmap"},
    "BertNormalizer": dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), "flag"),
    "ByteLevel": FLAGS,
    "Digits": {"individual_digits": "flag"},
    "Punctuation": {"behavior": "text"},
    "CharDelimiterSplit": {"delimiter": "character"},
    "Split": {"pattern": "pattern", "behavior": "text", "invert": "flag"},
    "Metaspace": {"replacement": "character", "prepend_scheme": "text", "split": "flag", "add_prefix_space": "flag"},
    "FixedLength": {"length": "length"},
    "WordPiece": {"prefix": "text", "cleanup": "flag"},
    "BPEDecoder": {"suffix": "text"},
    "CTC": {"pad_token": "text", "word_delimiter_token": "text", "cleanup": "flag"},
    "BertProcessing": PROCESSING,
    "RobertaProcessing": PROCESSING,
    "TemplateProcessing": {"special_tokens": "spelled"},
}
ADDED = {"id": "id", "content": "text"} | dict.fromkeys(
    ("single_word", "lstrip", "rstrip", "normalized", "special"), "flag"
)
MODEL = {
    "dropout": "share", "unk_token": "text", "continuing_subword_prefix": "text", "end_of_word_suffix": "text",
    "fuse_unk": "flag", "byte_fallback": "flag", "ignore_merges": "flag", "max_input_chars_per_word": "count",
    "alpha": "score", "unk_id": "id",
}  # fmt: skip


def checked_tokenizer(path: Path, data: bytes) -> dict[str, Any]:
    """The object in the tokenizer.json at `path`, which holds `data`, mostly without its merges.

    UserError where something in it cannot be.
    """
    value = parse_json_object(path, _without_merges(data))
    check = _Check(path)
    if not isinstance(model := value.get("model"), dict):
        check.refuse("model", model, "object")
    if model.get("continuing_subword_prefix") and model.get("merges") == []:
        model = parse_json_object(path, data)["model"]
    check.model(model)
    check.added(value.get("added_tokens"), value)
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        check.part(name, value.get(name), 0)
    return value


def _without_merges(data: bytes) -> bytes:
    """The file without its list of merges where that is the last thing in it, as the library writes it."""
    matches = list(MERGES.finditer(data))
    if len(matches) != 1 or not END.search(data[-200:]):
        return data
    return data[: matches[0].start()] + b'"merges":[]}}'


class _Check:
    """Refuses what cannot be in the file at `path`, and says where it stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = 0

    def refuse(self, place: str, value: object, kind: str) -> NoReturn:
        raise UserError(
            "{path}: not a tokenizer: {place} is {value}, where {wanted} belongs", path=self._path, place=place,
            value=quoted(value), wanted=_expectation(kind), hint="fetch it again",
        )  # fmt: skip

    def fields(self, place: str, value: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        for name, kind in fields.items():
            item = value.get(name)
            if item is not None and not KINDS[kind](item):
                self.refuse(f"{place}.{name}", item, kind)

    def part(self, place: str, value: object, depth: int) -> None:
        """A normalizer, a decoder ..., with those in it."""
        if value is None:
            return
        if not isinstance(value, dict):
            self.refuse(place, value, "object")
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            self.refuse(place, value, "shallow")
        kind = value.get("type")
        self.fields(place, value, FIELDS.get(kind, {}) if isinstance(kind, str) else {})
        for name in SEQUENCES:
            inner = value.get(name)
            if inner is not None and not isinstance(inner, list):
                self.refuse(f"{place}.{name}", inner, "list")
            for n, item in enumerate(inner or ()):
                self.part(f"{place}.{name}[{n}]", item, depth + 1)

    def added(self, tokens: object, value: Mapping[str, Any]) -> None:
        """The added tokens."""
        if tokens is None and "added_tokens" not in value:
            return
        if not isinstance(tokens, list):
            self.refuse("added_tokens", tokens, "list")
        for n, token in enumerate(tokens):
            if not isinstance(token, dict):
                self.refuse(f"added_tokens[{n}]", token, "object")
            self.fields(f"added_tokens[{n}]", token, ADDED)

    def model(self, model: Mapping[str, Any]) -> None:
        """The vocabulary, and what refers to it."""
        self.fields("model", model, MODEL)
        vocab = model.get("vocab")
        if isinstance(vocab, dict):
            wrong = next((name for name, index in vocab.items() if not KINDS["id"](index)), None)
            if wrong is not None:
                self.refuse(f"model.vocab[{quoted(wrong)}]", vocab[wrong], "id")
            pieces: Iterator[Any] = iter(vocab)
        elif isinstance(vocab, list):
            for n, entry in enumerate(vocab):
                if not (isinstance(entry, list) and len(entry) == 2 and KINDS["score"](entry[1])):
                    self.refuse(f"model.vocab[{n}]", entry, "scored")
            pieces = (entry[0] for entry in vocab)
            if (unknown := model.get("unk_id")) is not None and unknown >= len(vocab):
                self.refuse("model.unk_id", unknown, "id")
        else:
            self.refuse("model.vocab", vocab, "object")
        for piece in pieces:
            if not KINDS["text"](piece):
                self.refuse("model.vocab", piece, "text")
        if (prefix := model.get("continuing_subword_prefix")) and isinstance(model.get("merges"), list):
            self._merges(prefix, model["merges"])

    def _merges(self, prefix: str, merges: list[Any]) -> None:
        """Each right side begins with the prefix, of which the library cuts off as many bytes as it has characters."""
        for n, pair in enumerate(merges):
            sides = pair.split(" ") if isinstance(pair, str) else pair
            right = sides[-1] if isinstance(sides, list) and sides else None
            if not isinstance(right, str) or not (right.startswith(prefix) and prefix.isascii()):
                self.refuse(f"model.merges[{n}]", pair, "continuing")


def _pattern(value: object) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, text),) = value.items()
    return KINDS["text"](text) and (kind != "Regex" or _regex(text))


def _regex(text: str) -> bool:
    """Whether a regular expression is of sensible size once its counted repetitions are written out."""
    sizes = [0]  # of the groups that are open
    for match in TOKENS.finditer(text):
        sign = match["sign"]
        if sign == "(":
            sizes.append(0)
            continue
        if sign == ")" and len(sizes) == 1:
            return False
        size = sizes.pop() if sign == ")" else 1
        sizes[-1] += size * max(1, *(int(count[:9]) for count in re.findall(r"\d+", match["times"] or "1")))
        if max(sizes) > MAX_WRITTEN or len(sizes) > MAX_BRACKETS:
            return False
    return len(text) <= MAX_REGEX


def _charsmap(value: object) -> bool:
    if not isinstance(value, str) or len(value) > 2 * MAX_CHARSMAP:
        return False
    try:
        blob = base64.b64decode(value, validate=True)
        return not blob or bool(Charsmap(blob))
    except (binascii.Error, ValueError):
        return False


def _spelled(value: object) -> bool:
    """Special tokens by name, as a template has them."""
    if not isinstance(value, dict):
        return False
    return all(
        isinstance(token, dict) and isinstance(ids := token.get("ids"), list) and all(map(KINDS["id"], ids))
        for token in value.values()
    )


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "flag": lambda value: isinstance(value, bool),
    "text": lambda value: isinstance(value, str) and len(value) <= MAX_TEXT,
    "character": lambda value: isinstance(value, str) and len(value) == 1,
    "count": lambda value: type(value) is int and 0 <= value <= MAX_COUNT,
    "length": lambda value: type(value) is int and 1 <= value <= MAX_COUNT,
    "id": lambda value: type(value) is int and 0 <= value <= MAX_ID,
    "score": lambda value: _real(value) and abs(value) < 1e30,
    "share": lambda value: _real(value) and 0 <= value <= 1,
    "named": lambda value: isinstance(value, list) and len(value) == 2 and KINDS["id"](value[1]),
    "pattern": _pattern,
    "charsmap": _charsmap,
    "spelled": _spelled,
}


def _expectation(kind: str) -> str:
    """What belongs in a place, in the user's language."""
    return {
        "flag": translate("true or false"),
        "text": translate("a text of sensible length"),
        "character": translate("one character"),
        "count": translate("a number of sensible size"),
        "length": translate("a number of sensible size"),
        "id": translate("a token's id"),
        "score": translate("a finite number"),
        "share": translate("a number from 0 to 1"),
        "named": translate("a token and its id"),
        "pattern": translate("a text or a regular expression of sensible size"),
        "charsmap": translate("a whole character map"),
        "spelled": translate("tokens with their ids"),
        "scored": translate("a piece and its score"),
        "continuing": translate("a pair that goes on with the prefix"),
        "object": translate("an object in braces"),
        "list": translate("a list"),
        "shallow": translate("a part that is not nested so deeply"),
    }[kind]
