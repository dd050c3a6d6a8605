"""What a packed tokenizer says besides its tables: JSON that is written here, and read with every field checked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from soban.base.files import parse_object
from soban.text.tokenizers.rules import Rules
from soban.text.tokenizers.settings import AddedToken

if TYPE_CHECKING:
    from soban.text.tokenizers.fast import FastTokenizer

FACTS = "soban.tokenizer"  # metadata key
FLAGS = ("special", "lstrip", "rstrip", "normalized")
TABLES = ("characters", "merges")
MOST = 1 << 28  # ids
LEAD = 8  # spaces that a text can lose at its beginning


@dataclass(frozen=True)
class Facts:
    """All of it, by token ids."""

    bits: Mapping[str, int]  # of the tables' hashes
    rules: Rules
    added: Mapping[int, AddedToken]
    spellings: Mapping[int, str]  # how added tokens are spelt in a text
    apart: Mapping[int, list[int]]  # pieces that spell markup, and what stands for them in plain text
    frame: tuple[list[int], list[int]]
    lead: int
    vocab_size: int


def as_json(rules: Rules, bits: Mapping[str, int], fast: "FastTokenizer", reached: set[int]) -> str:
    """The JSON; `reached`: pieces that spell markup and that merging can make."""
    return json.dumps(
        {
            "bits": bits,
            "rules": asdict(rules),
            "added": [
                [index, token.content, fast.library.id_to_token(index), {name: getattr(token, name) for name in FLAGS}]
                for index, token in fast.added.items()
            ],
            "apart": [[index, fast.taken_apart(index)] for index in sorted(reached)],
            "frame": fast.frame,
            "lead": fast.lead,
            "vocab_size": fast.vocab_size,
        },
        ensure_ascii=False,
    )


def read(text: str, pieces: int) -> Facts:
    """The facts about a tokenizer of so many pieces. ValueError, TypeError or KeyError for what they cannot be."""
    values = parse_object(text.encode())
    size = _number(values["vocab_size"], pieces, MOST)
    added, spellings = {}, {}
    for index, content, spelt, flags in _list(values["added"]):
        if (
            not isinstance(content, str)
            or not isinstance(spelt, str)
            or not content
            or not isinstance(flags, dict)
            or flags.keys() != set(FLAGS)
        ):
            raise ValueError("added")
        token_flags = {name: _flag(flag) for name, flag in flags.items()}
        added[_number(index, 0, size)] = AddedToken(content, **token_flags)
        spellings[index] = spelt
    before, after = _list(values["frame"])
    return Facts(
        bits={name: _number(values["bits"][name], 1, 32) for name in TABLES},
        rules=_rules(values["rules"]),
        added=added,
        spellings=spellings,
        apart={_number(index, 0, pieces): _ids(parts, pieces) for index, parts in _list(values["apart"])},
        frame=(_ids(before, size), _ids(after, size)),
        lead=_number(values["lead"], 0, LEAD),
        vocab_size=size,
    )


def _rules(values: Any) -> Rules:
    if (
        not isinstance(values, dict)
        or values.keys() != {"prepend", "metaspace", "cut"}
        or values["metaspace"] not in (None, "always", "first", "never")
    ):
        raise ValueError("rules")
    return Rules(_flag(values["prepend"]), values["metaspace"], _flag(values["cut"]))


def _number(value: object, least: int, end: int) -> int:
    if type(value) is not int or not least <= value < end:
        raise ValueError(f"{value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r}")
    return value


def _ids(value: Any, end: int) -> list[int]:
    return [_number(index, 0, end) for index in _list(value)]
