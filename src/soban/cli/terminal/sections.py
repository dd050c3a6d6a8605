"""Pages of sections: below each title names and values in two columns, in lines that end before the terminal's edge."""

import shutil
import sys
from collections.abc import Iterable, Sequence

from soban.base.units import of_bytes
from soban.cli.terminal.wrapping import FIRM, paragraphs
from soban.messages import escaped, padded, width

Rows = Sequence[tuple[str, str]]

NARROWEST, USUAL, WIDEST = 40, 80, 110
INDENT = "  "


def columns() -> int:
    """How wide a line may be: as the terminal, within reason; 80 elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return USUAL
    return max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))


def page(sections: Iterable[tuple[str, Rows]], total: int) -> list[str]:
    """The sections one below the other, a blank line after each, all values in one column; empty ones are left out."""
    parts = [(title, [(name, value) for name, value in rows if value]) for title, rows in sections]
    left = max(width(name) for _, rows in parts for name, _ in rows)
    return [line for title, rows in parts if rows for line in (one_line(title), *_pairs(rows, total, left), "")]


def _pairs(rows: Rows, total: int, left: int) -> list[str]:
    """Lines of a name and a value, indented; a long value goes on below itself."""
    lines = []
    for name, value in rows:
        first, *more = paragraphs(value, total - len(INDENT) - left - 2).split("\n")
        lines.append(f"{INDENT}{padded(name, left)}  {first}".rstrip())
        lines += [f"{INDENT}{' ' * left}  {line}".rstrip() for line in more]
    return lines


def grid(rows: Sequence[Sequence[str]], right: Sequence[bool], indent: str = INDENT) -> list[str]:
    """Rows in columns; `right`: which of these columns hold numbers."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        (indent + "  ".join(map(padded, row, widths, right))).rstrip()  # what is last may be as long as it is
        for row in rows
    ]


def one_line(text: object, most: int = 60) -> str:
    """A stranger's text on one line: nothing that a terminal would obey, and not endless."""
    plain = escaped(str(text))
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def size(count: float) -> str:
    """Bytes; number and unit stay on one line."""
    return of_bytes(count).replace(" ", FIRM)
