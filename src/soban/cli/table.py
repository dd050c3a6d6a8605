"""Tables for a terminal of 80 columns, where a Hangul syllable takes two."""

from collections.abc import Collection, Sequence

from soban.messages import padded, width

COLUMNS = 80
LEAST = 8  # columns that are left of a text that gives way


def cut(text: str, most: int) -> str:
    """The text, or so much of its beginning as fits, with … at its end."""
    if width(text) <= most:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > most - 1:
            break
        kept += character
    return kept + "…"


def table(rows: Sequence[Sequence[str]], right: Collection[int] = (), giving: int = -1) -> str:
    """Rows as lines, their columns aligned; those in `right` end at one place. Where a line would be longer than a
    terminal is wide, the column `giving` gives way first, then the widest."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    room = COLUMNS - 2 * (len(widths) - 1)
    widths[giving] = max(min(widths[giving], LEAST), min(widths[giving], room - sum(widths) + widths[giving]))
    while sum(widths) > room and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in rows:
        cells = [cut(cell, size) for cell, size in zip(row, widths, strict=True)]
        lines.append("  ".join(padded(cell, widths[i], i in right) for i, cell in enumerate(cells)).rstrip())
    return "\n".join(lines) + "\n"


def weights(count: int | None) -> str:
    """A number of weights as models' names give it: 2.6B, 360M; empty where it is not known."""
    if count is None:
        return ""
    if count >= 9.95e8:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.0f}M" if count >= 9.95e5 else f"{count / 1e3:.0f}K"
