"""Text and lists of definitions in lines that fit a terminal, where a Hangul syllable takes two columns."""

import re
from collections.abc import Sequence

from soban.messages import padded, width

GAP = "  "
FIRM = "\xa0"  # a blank at which no line is broken
BEFORE_UNIT = re.compile("(?<=[0-9억만]) (?=(?:[kMGT]?B|Mbit/s|%|개)(?![A-Za-z가-힣]))")  # 8 GB, 26.1억 개
LEAST = 30  # columns for the meanings beside the names; with less they stand below


def definitions(rows: Sequence[tuple[str, str]], columns: int | None) -> str:
    """A line for each name and its meaning, wrapped to so many columns with a hanging indent; None: not wrapped."""
    wide = max(width(name) for name, _ in rows)
    beside = columns is None or columns - wide - len(GAP) >= LEAST
    indent = " " * (wide + len(GAP)) if beside else 3 * GAP
    lines = []
    for name, meaning in rows:
        parts = [meaning] if columns is None else wrapped(meaning, columns - len(indent))
        first = padded(name, wide) + GAP if beside else name + "\n" + indent
        lines.append(first + f"\n{indent}".join(parts))
    return "\n".join(lines)


def paragraphs(text: str, columns: int | None) -> str:
    """The text, each of its lines wrapped to so many columns; None: as it is."""
    if columns is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in wrapped(line, columns))


def hanging(first: str, text: str, columns: int) -> list[str]:
    """The text in lines of so many columns, `first` before it and as many blanks before the lines that follow."""
    indent = width(first)
    lines = wrapped(text, columns - indent)
    return [first + lines[0], *(" " * indent + line for line in lines[1:])]


def wrapped(text: str, columns: int) -> list[str]:
    """The text in lines of so many columns at the most, broken at blanks, and in words that are longer than a line.

    A firm blank becomes a plain one at which nothing is broken; a number and its unit stay together.
    """
    lines, text = [""], BEFORE_UNIT.sub(FIRM, text)
    for word in re.findall(rf"[^\s{FIRM}]+(?:{FIRM}+[^\s{FIRM}]+)*", text):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while width(lines[-1]) > columns and len(lines[-1]) > 1:
            end = next(n for n in range(len(lines[-1]), 0, -1) if n == 1 or width(lines[-1][:n]) <= columns)
            lines[-1:] = [lines[-1][:end], lines[-1][end:]]
    return [line.replace(FIRM, " ") for line in lines]
