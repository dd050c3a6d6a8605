"""The rows of a table in text: cells by a dialect, and back in step after a row that breaks it."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

# A number, a date, a time: what keys are made of
NUMBER = re.compile(r"[-+]?\d[\d.,:/ TZ+-]*")


class Broken(Exception):
    """A record that cannot be read; those after it can."""


@dataclass(frozen=True)
class Dialect:
    """How a table is written, in the terms of Python's csv module."""

    delimiter: str = ","  # "": there is one column
    quote: str = '"'  # "": quotes are the text's own
    escape: bool = False  # by a backslash
    blanks: bool = False  # may stand before a quote

    @cached_property
    def field(self) -> re.Pattern[str]:
        """One field: quoted and whole, or anything up to the delimiter."""
        apart, other = re.escape(self.delimiter), r"|\\." if self.escape else ""
        back = r"\\" if self.escape else ""
        plain = rf"(?P<plain>(?:[^{apart}{back}\r\n]{other})*)"
        if not self.quote:
            return re.compile(plain, re.DOTALL)
        end = rf"(?={apart + '|' if apart else ''}[\r\n]|\Z)"
        return re.compile(rf"{self._before}{self.quote}(?P<quoted>{self._body}){self.quote}{end}|{plain}", re.DOTALL)

    @cached_property
    def begun(self) -> re.Pattern[str]:
        """A quoted field whose end is still to come."""
        return re.compile(rf"{self._before}{self.quote}{self._body}\Z", re.DOTALL)

    @cached_property
    def closed(self) -> re.Pattern[str]:
        """A line in which such a field ends."""
        return re.compile(rf"{self._body}{self.quote}", re.DOTALL)

    @property
    def _before(self) -> str:
        return " *" if self.blanks else ""

    @property
    def _body(self) -> str:
        q = self.quote
        return rf"[^{q}\\]*(?:(?:{q}{q}|\\.)[^{q}\\]*)*" if self.escape else rf"[^{q}]*(?:{q}{q}[^{q}]*)*"

    @cached_property
    def escaped(self) -> re.Pattern[str]:
        """A backslash and what it stands before, where that is no letter or digit."""
        return re.compile(r"\\(\W|_)", re.DOTALL)

    @property
    def raw(self) -> "Dialect":
        """The same with quotes as letters."""
        return Dialect(self.delimiter, "", self.escape)


@dataclass
class Parsed:
    """One row, or what hinders it."""

    cells: list[str]
    state: str = ""  # "open": a quote is; "continued": its line end is escaped; "wrong": a quote stands where none may
    quoted: int = 0  # cells in quotes
    needed: int = 0  # of them, those that would be read otherwise without
    stray: int = 0  # other cells with a quote in them that is not escaped


def parse(text: str, dialect: Dialect) -> Parsed:
    """The cells of one row, with or without its line end."""
    parsed = Parsed([])
    apart, quote, escape = dialect.delimiter, dialect.quote, dialect.escape
    at = 0
    while True:
        match = dialect.field.match(text, at)
        assert match is not None  # nothing is a field, too
        cell = match["quoted"] if quote else None
        if cell is not None:
            parsed.quoted += 1
            parsed.needed += quote in cell or "\n" in cell or "\r" in cell or (apart in cell if apart else "," in cell)
            cell = cell.replace(quote + quote, quote)
        else:
            cell = match["plain"]
            if quote and (cell.lstrip(" ") if dialect.blanks else cell).startswith(quote):
                parsed.state = "open" if dialect.begun.match(text, at) else "wrong"
                return parsed
            if quote and quote in cell:
                parsed.stray += not escape or quote in dialect.escaped.sub("", cell)
        if escape and "\\" in cell:
            cell = dialect.escaped.sub(r"\1", cell)
        parsed.cells.append(cell.lstrip(" ") if dialect.blanks and match["plain"] is not None else cell)
        at = match.end()
        if not apart or at == len(text) or text[at] != apart:
            break
        at += 1
    if at == len(text) and text.endswith(("\n", "\r")) and match["plain"]:  # an escaped line end
        parsed.state = "continued"
    return parsed


@dataclass
class Lines:
    """Lines that can be given back."""

    source: Iterator[str]

    def __post_init__(self) -> None:
        self.waiting: deque[str] = deque()

    def next(self) -> str:
        """The next one; "" at the end."""
        return self.waiting.popleft() if self.waiting else next(self.source, "")

    def back(self, lines: Sequence[str]) -> None:
        """Gives lines back, to be read again."""
        self.waiting.extendleft(reversed(lines))


def rows(
    lines: Iterable[str], dialect: Dialect, columns: int, keys: Sequence[int] = (), most: int = 16 << 20,
    meet: Callable[[Parsed], None] = lambda parsed: None,
) -> Iterator[list[str] | Broken]:  # fmt: skip
    """The cells of each row, and a Broken for each that cannot be read; blank lines are none.

    A row that breaks the dialect ends with its line: where its cells are as many as the columns, its quotes are
    letters. `keys` are columns that hold numbers: a row that would swallow lines with such is broken, too. `columns`
    0: as many cells as the first row has.
    """
    source = Lines(iter(lines))
    plain = not dialect.escape
    behind = False  # a broken row, of which lines may be left
    while line := source.next():
        if not line.strip("\r\n"):
            continue
        if plain and dialect.delimiter and (not dialect.quote or dialect.quote not in line) and not dialect.blanks:
            row = Parsed(line.rstrip("\r\n").split(dialect.delimiter))
        else:
            row, parts = _row(source, line, dialect, most)
            if row.state or _swallows(row, parts, dialect, columns, keys):
                source.back(parts[1:])
                meet(Parsed([], "wrong"))
                row = parse(parts[0], dialect.raw)
                if row.state or len(row.cells) != columns:
                    if not behind or _has_key(row.cells, keys):
                        yield Broken("its quotes do not close" if columns > 1 else "a wrong quote")
                    behind = True
                    continue
        meet(row)
        columns = columns or len(row.cells)
        if behind and len(row.cells) != columns:
            if _has_key(row.cells, keys):
                yield Broken("another number of cells than columns")
            continue
        behind = False
        yield row.cells


def _row(source: Lines, line: str, dialect: Dialect, most: int) -> tuple[Parsed, list[str]]:
    """The row that begins with a line, and the lines that it takes."""
    parts, size = [line], len(line)
    row = parse(line, dialect)
    while row.state in ("open", "continued"):
        while (more := source.next()) and size <= most:
            parts.append(more)
            size += len(more)
            if row.state == "continued" or dialect.closed.match(more):
                break
        else:
            if more:
                source.back([more])
            row.state = "wrong" if row.state == "open" or more else ""
            break
        row = parse("".join(parts), dialect)
    return row, parts


def _swallows(row: Parsed, parts: Sequence[str], dialect: Dialect, columns: int, keys: Sequence[int]) -> bool:
    """Whether lines in a quoted field look like rows by themselves: as many cells, and keys where those have them.

    Where there are no keys, only tabs tell; and not in a row with other cells in quotes, or with quotes within such a
    field that are written as no text has them.
    """
    if len(parts) < 2 or columns < 2:
        return False
    meant = row.quoted > 1 or any(dialect.quote in cell and len(cell.splitlines()) > 1 for cell in row.cells)
    if not keys and (dialect.delimiter != "\t" or meant):
        return False
    alone = [parse(line, dialect.raw).cells for line in parts]
    return all(len(cells) == columns and (not keys or _has_key(cells, keys)) for cells in alone)


def _has_key(cells: Sequence[str], keys: Sequence[int]) -> bool:
    return any(key < len(cells) and NUMBER.fullmatch(cells[key].strip('"')) for key in keys)
