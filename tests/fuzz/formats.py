"""What a format is to the fuzzer: how a case is made and read, and whether it gets beyond the header's checks."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Files = dict[str, bytes]  # name -> content, of what a case puts into its folder


class Wrong(Exception):
    """What was read without a word, and is wrong."""


@dataclass(frozen=True)
class Format:
    """One format, prepared: what it needs lies in `base`, and all that it imports is imported.

    `make` gives the files that are changed; they lie in the folder when `read` is called, among those of `base`.
    `read` returns after a right load, and raises UserError for a refusal; whatever else it raises is a failure.
    """

    name: str
    make: Callable[[random.Random], Files]
    read: Callable[[Path, random.Random], None]
    beyond: Callable[[Files], bool]
    base: Files


def is_json(files: Files) -> bool:
    """Whether every file is JSON: such a case gets beyond the parser."""
    for data in files.values():
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return False
    return True


def registry() -> dict[str, Callable[[Path], Format]]:
    """Name -> what prepares that format, given a folder to make its inputs in. Families are imported when asked for."""
    from tests.fuzz import gguf, hub, learning, packed, texts, weights, words

    found: dict[str, Callable[[Path], Format]] = {}
    for family in (weights, gguf, packed, words, texts, learning, hub):
        found |= family.FORMATS
    return found


def read_files(folder: Path, names: Iterable[str]) -> Files:
    """The contents of files of a folder."""
    return {name: (folder / name).read_bytes() for name in names}
