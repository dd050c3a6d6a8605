"""Bytes of unknown encoding to a stream of text, the encoding found by one look at the whole file, piece by piece."""

import codecs
import functools
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.base.files import unreadable
from soban.learn.data.sources import Source, broken
from soban.text import encodings, letters

PIECE = 1 << 20
MARK = b"<|endoftext|>"
# Of a text this share of the characters may be damaged, or this many; its documents without damage are of use.
MOST_DAMAGE, FEW_DAMAGED = 0.01, 3
SMALL = 1 << 16  # bytes up to which a file is its own sample
CHUNK, MOST_CHUNKS = 1 << 12, 32  # bytes of a sample of a larger one, and how many of them
CHUNKS_OF_A_PIECE = 4
TAIL = 64  # bytes of a piece that the next is seen with
NO_ASCII = re.compile(rb"[\x00\x80-\xff]")
# What Python's cp932 makes of bytes that are none of it
NO_CP932 = re.compile("[\ufffd\uf8f0-\uf8f3]")
BLOCK = 2048  # bytes of UTF-16 in which a lost byte is seen


@dataclass(frozen=True)
class Encoding:
    """How a file is to be read."""

    name: str
    marked: bool = False  # <|endoftext|> stands in it
    damage: int = 0  # characters that the encoding has not
    perhaps: tuple[str, ...] = ()  # other encodings that it may be in


@dataclass
class _Seen:
    """What one look at a file's bytes shows."""

    mark: str | None = None  # the encoding that its byte order mark tells
    utf8: bool = True
    controls: int = 0
    size: int = 0
    marked: bool = False  # <|endoftext|> stands in it, if it is of one byte a letter
    switched: bool = False  # to letters by ESC, in seven bits
    chunks: list[bytes] = field(default_factory=list)
    stride: int = 1
    met: int = 0

    def keep(self, chunk: bytes) -> None:
        """Keeps some chunks out of all that are met, from all over the file."""
        if self.met % self.stride == 0:
            self.chunks.append(chunk)
        self.met += 1
        if len(self.chunks) > MOST_CHUNKS:
            self.chunks = self.chunks[::2]
            self.stride *= 2


def python_name(name: str) -> str:
    """An encoding as Python calls it. Raises UserError for one that it does not know, or that is none of text."""
    try:
        codec = codecs.lookup(name)
        codecs.getincrementaldecoder(name)("replace").decode(bytes(range(256)), True)
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError):
        codec = None
    if codec is None or not codec._is_text_encoding:
        raise UserError(
            "--encoding {name} is not known", name=name[:40], known=", ".join((*encodings.KNOWN, *encodings.WIDE)),
            hint="give one of Python's, as {known}",
        )  # fmt: skip
    return codec.name


def detect(source: Source, user_name: str | None = None) -> Encoding:
    """The encoding of a file: by its mark, as it is given, UTF-8 if all of it is, else the likeliest.

    Raises UserError for what is no text, or too damaged.
    """
    look = _look(source)
    if name := look.mark or user_name:
        encoding = _read_as(source, name)
        if encoding is None:
            raise UserError(
                "{path}: not text in {encoding}", path=source.name, encoding=name,
                hint="save it again as UTF-8, leave it out, or name another encoding: --encoding",
            )  # fmt: skip
        return encoding
    if look.utf8 and not look.switched and not encodings.too_many_controls(look.controls, look.size):
        return Encoding("utf-8", look.marked)
    guess = encodings.guess(look.chunks)
    encoding = _read_as(source, guess.names[0]) if guess.names else None
    if guess.names[:1] == ("euc_kr",) and (encoding is None or encoding.damage):  # it lacks most of cp949's syllables
        encoding = min(filter(None, (encoding, _read_as(source, "cp949"))), key=lambda one: one.damage, default=None)
    if encoding is None and look.switched and look.utf8:
        encoding, guess = Encoding("utf-8"), encodings.Guess(("utf-8",), True)
    if encoding is None:
        raise UserError(
            "{path}: not text in UTF-8, UTF-16, cp949 or another encoding that is known here", path=source.name,
            hint="save it again as UTF-8, leave it out, or name its encoding: --encoding",
        )  # fmt: skip
    others = [name for name in guess.names if name != encoding.name]
    return encoding if guess.sure else replace(encoding, perhaps=tuple(others[:3]))


def _pieces(source: Source) -> Iterator[bytes]:
    """The bytes of a file, and last none."""
    with source.stream() as file:
        while True:
            data = _read(source, file, PIECE)
            yield data
            if not data:
                return


def _look(source: Source) -> _Seen:
    look, tail = _Seen(), b""  # the tail so that neither the mark nor a character is cut in two
    utf8 = codecs.getincrementaldecoder("utf-8")()
    for data in _pieces(source):
        if not look.size:
            look.mark = encodings.marked(data)
        if look.utf8:
            try:
                utf8.decode(data, not data)
            except UnicodeDecodeError:
                look.utf8 = False
        look.controls += encodings.controls(data)
        joined = tail + data
        look.marked = look.marked or MARK in joined
        look.switched = look.switched or any(switch.search(data) for switch, _ in encodings.SWITCHES)
        if not look.size and len(data) <= SMALL:
            look.keep(data)
        else:
            step = max(CHUNK, len(data) // CHUNKS_OF_A_PIECE)
            for start in range(max(0, len(tail) - 3), len(joined), step):
                if other := NO_ASCII.search(joined, start, start + step):
                    first = other.start() & ~3  # a character of UTF-32 begins there
                    look.keep(joined[first : first + CHUNK])
        tail = data[-TAIL:]
        look.size += len(data)
    return look


def _read_as(source: Source, name: str) -> Encoding | None:
    """The encoding if the whole file is text in it, but for few characters."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    wide = name.replace("_", "-").startswith("utf-16")
    mark = MARK.decode()
    damaged = NO_CP932 if name == "cp932" else re.compile(letters.DAMAGE)
    big = name.endswith("be")
    marked, tail, damage, characters, blanks = False, "", 0, 0, 0
    for data in _pieces(source):
        if wide and data:
            big = big or (not characters and data.startswith(codecs.BOM_UTF16_BE))
            _check_pairs(source, data, big)
        text = decoder.decode(data, not data)
        marked = marked or mark in tail + text
        tail = text[1 - len(mark) :]
        damage += len(damaged.findall(text))
        blanks += text.count("\0")
        characters += len(text)
    if damage > max(FEW_DAMAGED, MOST_DAMAGE * characters) or encodings.too_many_controls(blanks, characters):
        return None
    return Encoding(name, marked, damage)


def _check_pairs(source: Source, data: bytes, big: bool) -> None:
    """UserError where a byte of UTF-16 is missing or one too many, so that what follows would be garbled."""
    plausible = _plausible()
    units = [np.frombuffer(data, ">u2" if big else "<u2", max(0, (len(data) - odd) // 2), odd) for odd in (0, 1)]
    per_block = BLOCK // 2
    for start in range(0, len(units[0]), per_block):
        right, shifted = (
            plausible[one[start : start + per_block]].mean() if len(one) > start else 0.0 for one in units
        )
        if right < 0.5 and shifted > 0.8:
            raise UserError(
                "{path}: a byte of its {encoding} is missing, or one too many", path=source.name, encoding="UTF-16",
                hint="save it again as UTF-8, or leave it out",
            )  # fmt: skip


@functools.cache
def _plausible() -> NDArray[np.bool_]:
    """Which characters of the basic plane texts are made of."""
    table = np.zeros(1 << 16, bool)
    table[32:127] = table[0xAC00:0xD7A4] = True
    table[[ord(character) for character in "\t\r\n\ufeff" + letters.usual(encodings.ALL)]] = True
    return table


def _read(source: Source, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise broken(source.name, error) from error
    except OSError as error:
        raise unreadable(source.name, error) from error


def text_stream(source: Source, encoding: Encoding, newline: str | None = None) -> io.TextIOWrapper:
    """The file's text; line ends become \\n unless `newline` is "". Close it."""
    return io.TextIOWrapper(source.stream(), encoding.name, "replace", newline)
