"""The records of a file, one after the other, never more of it in memory than one of them."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from soban.base.errors import UserError
from soban.learn.data import values
from soban.learn.data.arguments import Parting
from soban.learn.data.decoding import Encoding, text_stream
from soban.learn.data.rows import Broken, rows
from soban.learn.data.sources import Source, broken
from soban.learn.data.tables import understand
from soban.messages import warn

LONGEST = 16 << 20  # characters of one line or record
JSON_LINES = (".jsonl", ".ndjson")
MARK = "<|endoftext|>"


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
            with text_stream(source, encoding) as first:
                a_line_each = source.suffix in JSON_LINES and values.line_by_line(first)
            yield from values.lines(_lines(source, stream)) if a_line_each else values.whole(source, stream, LONGEST)
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
        parsed = rows(islice(lines, table.skipped, None), table.dialect, columns, table.keys, LONGEST)
        for row in islice(parsed, int(table.named), None):
            if isinstance(row, Broken):
                yield row
            elif any(row[columns:]):
                yield Broken("more cells than columns")
            else:
                yield dict(zip(table.names, row, strict=False))


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
    with source.stream() as stream, tempfile.TemporaryFile() as whole:
        file = stream
        if source.member is not None or source.gzipped:  # which cannot be read from the end
            shutil.copyfileobj(stream, whole)
            file = whole
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise broken(source.name, error) from error
