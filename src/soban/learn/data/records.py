"""The records of a file, one after the other, never more of it in memory than one of them."""

import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from soban.errors import UserError
from soban.learn.data.decoding import Encoding, text_stream
from soban.learn.data.fields import known
from soban.learn.data.rows import Broken, rows
from soban.learn.data.sources import Source, broken
from soban.learn.data.tables import understand
from soban.messages import warn

LONGEST = 16 << 20  # characters of one line or record
PIECE = 1 << 20
JSON_LINES = (".jsonl", ".ndjson")
BETWEEN = re.compile(r"[\s,]*")
MARK = "<|endoftext|>"
Parting = Literal["auto", "blank", "line", "file"]


def records(source: Source, encoding: Encoding | None, parting: Parting) -> Iterator[Any]:
    """Texts, or objects with fields; a Broken among them for each that is damaged. Raises UserError."""
    if encoding is None:
        yield from _parquet(source)
        return
    if source.kind == "table":
        yield from _table(source, encoding)
        return
    with text_stream(source, encoding) as stream:
        if source.kind == "json":
            yield from (_json_lines if source.suffix in JSON_LINES else _json)(source, stream)
        else:
            yield from _parts(source, stream, encoding, parting)


def _lines(source: Source, stream: io.TextIOBase) -> Iterator[str]:
    """The lines with their ends. Raises UserError for one that has no end."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise UserError(
                "{path}: line {number} has more than {most:,} characters", path=source.name, number=number,
                most=LONGEST, hint="break it into lines",
            )  # fmt: skip
        yield line


def _parts(source: Source, stream: io.TextIOBase, encoding: Encoding, parting: Parting) -> Iterator[str]:
    """A text's documents: parted by <|endoftext|> where it has that, else by blank lines, or as the user wishes."""
    marked = encoding.marked and parting == "auto"
    lines: list[str] = []
    size = 0
    for line in _lines(source, stream):
        first, *others = line.split(MARK) if marked else (line,)
        size += len(line)
        lines.append(first)
        ends = bool(others) or parting == "line" or (not marked and parting in ("auto", "blank") and not line.strip())
        if ends:
            yield "".join(lines)
            yield from others[:-1]
            lines, size = others[-1:], len(others[-1]) if others else 0
        if size > LONGEST:
            raise UserError(
                "{path}: a document of more than {most:,} characters", path=source.name, most=LONGEST,
                hint="part it by blank lines or <|endoftext|>, or take each line for one: --parting line",
            )  # fmt: skip
    yield "".join(lines)


@contextmanager
def _table_lines(source: Source, encoding: Encoding) -> Iterator[Iterator[str]]:
    with text_stream(source, encoding, "") as stream:  # a quoted cell may have line ends of its own
        yield _lines(source, stream)


def _table(source: Source, encoding: Encoding) -> Iterator[Any]:
    """The rows of a table, by the names of its columns."""
    table = understand(lambda: _table_lines(source, encoding), source.suffix == ".tsv")
    columns = len(table.names)
    if not table.named:
        warn("{path}: its first row names no columns: they are called 1, 2 and so on", path=source.name)
    with _table_lines(source, encoding) as lines:
        found = rows(islice(lines, table.skipped, None), table.dialect, columns, table.keys, LONGEST)
        for row in islice(found, int(table.named), None):
            if isinstance(row, Broken):
                yield row
            elif any(row[columns:]):
                yield Broken("more cells than columns")
            else:
                yield dict(zip(table.names, row, strict=False))


def _json_lines(source: Source, stream: io.TextIOBase) -> Iterator[Any]:
    """A value a line."""
    for line in _lines(source, stream):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Broken(str(error))


def _json(source: Source, stream: io.TextIOBase) -> Iterator[Any]:
    """The elements of an array, or values one after the other; in an object that holds a list, what it holds."""
    values = _Values(source, stream)
    if values.peek() == "[":
        values.take()
        yield from values.each("]")
    else:
        for value in values.each(""):
            yield from opened(value)


class _Values:
    """JSON values out of a stream, as many at a time as a piece of it holds."""

    def __init__(self, source: Source, stream: io.TextIOBase) -> None:
        self._source, self._stream = source, stream
        self._text, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()

    def _more(self) -> None:
        """At least twice what is waiting, so that a long value is not tried too often."""
        waiting = self._text[self._at :]
        if len(waiting) > LONGEST:
            raise UserError(
                "{path}: a record of more than {most:,} characters", path=self._source.name, most=LONGEST,
                hint="break it into smaller ones, or save it as .jsonl",
            )  # fmt: skip
        new = self._stream.read(max(PIECE, len(waiting)))
        self._ended = not new
        self._text, self._at = waiting + new, 0

    def peek(self) -> str:
        """The next character that is neither blank nor comma; "" at the end."""
        while True:
            self._at = BETWEEN.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def take(self) -> None:
        """Passes over one character."""
        self._at += 1

    def each(self, end: str) -> Iterator[Any]:
        """The values up to that character. Raises UserError where an array is not closed."""
        while (character := self.peek()) != end:
            if not character:
                yield Broken("it ends early")
                return
            try:
                value, stop = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if not self._ended:
                    self._more()
                    continue
                yield Broken(str(error))
                return
            except RecursionError:
                yield Broken("nested too deeply")
                return
            self._at = stop
            yield value


def opened(value: Any) -> Iterator[Any]:
    """The records in a value: itself, or the largest list of objects in one that has no text beside it."""
    lists = [held for held in value.values() if _is_table(held)] if isinstance(value, dict) else []
    if lists and not known(value):
        yield from max(lists, key=len)
    elif isinstance(value, list):
        yield from value
    else:
        yield value


def _is_table(held: Any) -> bool:
    return isinstance(held, list) and bool(held) and all(isinstance(row, dict) for row in held)


def _parquet(source: Source) -> Iterator[Any]:
    """The rows of a parquet file, by pyarrow."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            "{path}: reading parquet needs pyarrow, which is not installed", path=source.name,
            hint='pip install "soban[parquet]"',
        ) from error  # fmt: skip
    with source.stream() as packed, tempfile.TemporaryFile() as whole:
        file = packed
        if source.member is not None or source.gzipped:  # which cannot be read from the end
            shutil.copyfileobj(packed, whole)
            file = whole
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(source.name, error) from error
