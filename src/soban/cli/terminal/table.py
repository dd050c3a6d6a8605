"""Tables for a terminal of 80 columns or fewer, where a Hangul syllable takes two."""

import shutil
import sys
from collections.abc import Collection, Sequence

from soban.cli.terminal.wrapping import FIRM, hanging
from soban.messages import padded, width

COLUMNS = 80
LEAST = 8  # columns that are left of a text that gives way
NARROWEST = 20
INDENT = 4 * " "  # of what stands below a row's name


def truncate(text: str, most: int) -> str:
    """The text, or so much of its beginning as fits, with … at its end."""
    if width(text) <= most:
        return text
    beginning = ""
    for character in text:
        if width(beginning + character) > most - 1:
            break
        beginning += character
    return beginning + "…"


def columns() -> int:
    """How wide a table may be: as the terminal, 80 at the most and elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return COLUMNS
    return max(NARROWEST, min(shutil.get_terminal_size((COLUMNS, 24)).columns, COLUMNS))


def table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), giving: int = -1, label: int = 0, heads: bool = True
) -> str:
    """Rows as lines, their columns aligned; those in `right` end at one place. Where a line would be longer than a
    terminal is wide, the column `giving` gives way first, then the widest; in a terminal of fewer than 80 columns each
    row becomes a list instead, below its column `label`. `heads`: the first row says what the columns are."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    total = columns()
    room = total - 2 * (len(widths) - 1)
    if total < COLUMNS and sum(widths) > room:
        return stacked(rows, total, label, heads)
    widths[giving] = max(min(widths[giving], LEAST), min(widths[giving], room - sum(widths) + widths[giving]))
    while sum(widths) > room and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in rows:
        cells = [truncate(cell, size) for cell, size in zip(row, widths, strict=True)]
        lines.append("  ".join(padded(cell, widths[i], i in right) for i, cell in enumerate(cells)).rstrip())
    return "\n".join(lines) + "\n"


def stacked(rows: Sequence[Sequence[str]], total: int, label: int = 0, heads: bool = True) -> str:
    """Each row as lines of at most so many columns: what is in its column `label`, and below it the rest in words."""
    titles = rows[0] if heads else [""] * len(rows[0])
    lines = []
    for row in rows[1:] if heads else rows:
        rest = [
            f"{title} {cell}".strip()
            for i, (title, cell) in enumerate(zip(titles, row, strict=True))
            if cell and i != label
        ]
        lines += hanging("", row[label], total)
        lines += (
            hanging(
                INDENT,
                f"{FIRM}· ".join(
                    part.replace(" ", FIRM) if width(part) <= total - len(INDENT) - 2 else part for part in rest
                ),
                total,
            )
            if rest
            else []
        )
    return "\n".join(lines) + "\n"


def weights(count: int | None) -> str:
    """A number of weights as models' names give it: 2.6B, 360M; empty where it is not known."""
    if count is None:
        return ""
    if count >= 9.95e8:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.0f}M" if count >= 9.95e5 else f"{count / 1e3:.0f}K"
