"""A GGUF file's keys and tensors, mapped; of a model in several files those of all of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import is_there, map_file, quoted
from soban.weights.checkpoint import Tensor
from soban.weights.gguf.blocks import PLAIN
from soban.weights.gguf.header import Header, Placed, Value, read_gguf_header

SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
MOST_FILES = 1000


@dataclass(frozen=True)
class Contents:
    """What a model's files hold: the keys of the first, the tensors of all."""

    files: tuple[Path, ...]
    keys: Mapping[str, Value]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> Contents:
    """The keys and tensors of the model of which `path` is the only file, or any of several.

    Raises UserError for what is missing, damaged, does not belong together, or is of a type that is not read.
    """
    header, tensors = _read(path)
    count = header.metadata.get(COUNT, 1)
    if count == 1:
        return Contents((path,), header.metadata, tensors)
    paths = parts(path, count)
    if missing := [part for part in paths if not is_there(part)]:
        raise UserError(
            "{path}: the model is in {count} files, and {missing} is not there", path=path, count=len(paths),
            missing=missing[0].name, hint="fetch all of its files into one folder",
        )  # fmt: skip
    whole: dict[str, Tensor] = {}
    keys: Mapping[str, Value] = {}
    for number, part in enumerate(paths):
        header, tensors = _read(part)
        place = (header.metadata.get(NUMBER), header.metadata.get(COUNT))
        if place != (number, count) or whole.keys() & tensors.keys():
            raise _apart(part)
        whole |= tensors
        keys = keys or header.metadata
    if keys.get(TENSORS, len(whole)) != len(whole):
        raise _apart(paths[0])
    return Contents(tuple(paths), keys, whole)


def parts(path: Path, count: object) -> list[Path]:
    """The names of all files of a model, by one of them."""
    match = SPLIT.fullmatch(path.name)
    if type(count) is not int or not 1 < count <= MOST_FILES or match is None or int(match["count"]) != count:
        raise UserError(
            "{path}: one of {count} files of a model, whose name has to end in -00001-of-{count:05}.gguf", path=path,
            count=count if type(count) is int and 0 <= count < 10**6 else 0,
            hint="give the files their own names again",
        )  # fmt: skip
    return [path.with_name(f"{match['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]


def _apart(path: Path) -> UserError:
    return UserError(
        "{path}: this file and those beside it are not of one model", path=path, hint="fetch all of them again"
    )


def _read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    mapped = map_file(path)
    header = read_gguf_header(path, mapped)
    return header, {name: _tensor(path, name, placed, mapped) for name, placed in header.tensors.items()}


def _tensor(path: Path, name: str, placed: Placed, mapped: Any) -> Tensor:
    format = placed.type.name
    if format in PLAIN:
        data = np.ndarray(placed.shape, PLAIN[format], buffer=mapped, offset=placed.begin)
    else:
        data = np.ndarray((*placed.shape[:-1], placed.row_bytes), np.uint8, buffer=mapped, offset=placed.begin)
    return Tensor(name, format, placed.shape, data, source=path)


def text(keys: Mapping[str, Value], key: str, path: Path) -> str | None:
    """A key's text; UserError where it is something else."""
    value = keys.get(key)
    if value is None or isinstance(value, str):
        return value
    raise UserError(
        "{path}: {key}={value}, where a text belongs", path=path, key=key, value=quoted(value), hint="fetch it again"
    )
