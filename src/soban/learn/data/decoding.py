"""Bytes of unknown encoding to a stream of text, the encoding found by one look at the whole file, piece by piece."""

import codecs
import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from soban.errors import UserError
from soban.learn.data.sources import Source, broken
from soban.text.encodings import BOMS
from soban.weights.files import unreadable

PIECE = 1 << 20
MARK = b"<|endoftext|>"
# Of a UTF-8 text this share of the characters may be damaged; its documents without damage are of use.
MOST_DAMAGE = 0.01


@dataclass(frozen=True)
class Encoding:
    """How a file is to be read."""

    name: str
    marked: bool = False  # <|endoftext|> stands in it
    damage: int = 0  # characters that are no UTF-8


def detect(source: Source) -> Encoding:
    """UTF-8 or UTF-16 by its mark; else UTF-8 if all of it is, else cp949 if all of it is, else UTF-8 with damage.

    Raises UserError for what is no text.
    """
    with source.stream() as file:
        start = _read(source, file, 4)
    if not start:
        return Encoding("utf-8")
    names = [name for mark, name in BOMS if start.startswith(mark)] or ["utf-8", "cp949"]
    for name in names:
        if (found := _try(source, name, "strict")) is not None:
            return found
    if names[0].startswith("utf-8") and (found := _try(source, names[0], "replace")) is not None:
        return found
    raise UserError(
        "{path}: not text in UTF-8, UTF-16 or cp949", path=source.name, hint="save it again as UTF-8, or leave it out"
    )


def _try(source: Source, name: str, errors: str) -> Encoding | None:
    """The encoding if the whole file is text in it."""
    decoder = codecs.getincrementaldecoder(name)(errors)
    marked, tail, damage, characters = False, b"", 0, 0
    with source.stream() as file:
        while True:
            data = _read(source, file, PIECE)
            try:
                text = decoder.decode(data, not data)
            except UnicodeDecodeError:
                return None
            if "\0" in text:
                return None
            if not marked:
                marked = MARK in tail + data if name != "utf-16" else MARK.decode() in text
                tail = data[1 - len(MARK) :]
            if errors != "strict":
                damage += text.count("\ufffd")
                characters += len(text)
                if damage > MOST_DAMAGE * max(characters, PIECE / 100):
                    return None
            if not data:
                return Encoding(name, marked, damage)


def _read(source: Source, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise broken(source.name, error) from error
    except OSError as error:
        raise unreadable(source.name, error) from error


def text_stream(source: Source, encoding: Encoding, newline: str | None = None) -> io.TextIOWrapper:
    """The file's text; line ends become \\n unless `newline` is "". Close it."""
    errors = "replace" if encoding.damage else "strict"
    return io.TextIOWrapper(source.stream(), encoding.name, errors, newline)
