"""How a table in text is written: guessed from many of its rows, and checked on all of them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

from soban.learn.data.fields import KNOWN, PROSE
from soban.learn.data.rows import NUMBER, Broken, Dialect, Parsed, rows

DELIMITERS = "\t,;|:"  # where two fit alike, the first
SAMPLE = 2000  # lines
SAMPLE_SIZE = 4 << 20  # characters
# Of the rows so many may differ from the first one, where that is to name the columns
MOST_UNLIKE = 0.5
# A first line that is Excel's word for the delimiter
SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
NAMES = {name.rstrip("?") for names in KNOWN for name in names}
NUMERIC = 0.9  # share of a column's cells
BAD_ESCAPE = re.compile(r"\\[^\W\dN_]")  # a backslash before a letter, which no writer of tables means
SENTENCE = re.compile(r"[.!?…][\"'”’」]?\s*\Z")


@dataclass(frozen=True)
class Table:
    """How a table is read."""

    dialect: Dialect
    names: tuple[str, ...]  # of the columns
    skipped: int  # lines before the first row
    keys: tuple[int, ...] = ()  # columns of numbers
    named: bool = True  # by the first row


@dataclass
class Survey:
    """What a dialect makes of some lines."""

    dialect: Dialect
    first: list[str] = field(default_factory=list)
    widths: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    wrong: int = 0  # rows whose quotes break it
    quoted: int = 0  # cells
    needed: int = 0  # cells whose quotes matter
    stray: int = 0  # other cells with a quote that is not escaped
    escapes: int = 0  # backslashes that escape nothing, or something
    bad_escapes: int = 0
    cells: list[list[str]] = field(default_factory=list)

    @property
    def columns(self) -> int:
        """Of the first row; or one more, where all others have that: R writes no name for its row names."""
        others = self.widths - Counter([len(self.first)])
        return len(self.first) + (len(others) == 1 and others.total() > 1 and len(self.first) + 1 in others)

    @property
    def unlike(self) -> int:
        """Rows with another number of cells; fewer may be meant."""
        return sum(count for width, count in self.widths.items() if width != self.columns)

    @property
    def cost(self) -> float:
        """What speaks against the dialect."""
        faults = self.wrong + self.unlike + (self.bad_escapes if self.dialect.escape else 0)
        return faults + (self.stray if self.dialect.quote == "'" else 0)

    @property
    def evidence(self) -> int:
        """What speaks for it: quotes that were needed, or in every row; escapes."""
        everywhere = self.quoted >= NUMERIC * self.rows
        return self.needed + (self.quoted if everywhere else 0) + (self.escapes if self.dialect.escape else 0)


def survey(lines: Iterable[str], dialect: Dialect, keep: int = 200) -> Survey:
    """What a dialect makes of the lines; the cells of the first rows are kept."""
    result = Survey(dialect)

    def meet(row: Parsed) -> None:
        result.wrong += row.state == "wrong"
        result.quoted += row.quoted
        result.needed += row.needed
        result.stray += row.stray

    def watched() -> Iterator[str]:
        for line in lines:
            if dialect.escape and "\\" in line:
                bad = len(BAD_ESCAPE.findall(line.replace("\\\\", "")))
                result.bad_escapes += bad
                result.escapes += '\\"' in line and not bad
            yield line

    for row in rows(watched(), dialect, 0, meet=meet):
        if isinstance(row, Broken):
            continue
        if not result.first:
            result.first = row
        result.rows += 1
        result.widths[len(row)] += 1
        if len(result.cells) < keep:
            result.cells.append(row)
    return result


def understand(open_lines: Callable[[], AbstractContextManager[Iterator[str]]], tabs: bool) -> Table:
    """How a table is to be read, from its first lines; what these cannot decide, by all of them.

    `tabs`: its name says that tabs part its cells.
    """
    with open_lines() as lines:
        sample, whole = _sample(lines)
    skipped, delimiters = 0, "\t" if tabs else DELIMITERS
    if sample and (separator := SEP.fullmatch(sample[0])):
        skipped, delimiters, sample = 1, separator[1], sample[1:]
    surveys = [survey(sample, dialect) for dialect in _candidates(sample, delimiters)]
    best = _best(surveys)
    if not whole or tabs:
        # quotes between tabs are often the text's own
        relative = best.dialect.raw if tabs else replace(best.dialect, escape=not best.dialect.escape)
        best = _checked(best.dialect, relative, open_lines, skipped)
    return _with_names(best, skipped)


def _sample(lines: Iterator[str]) -> tuple[list[str], bool]:
    """The first lines, and whether they are all."""
    sample: list[str] = []
    size = 0
    for line in islice(lines, SAMPLE):
        sample.append(line)
        size += len(line)
        if size > SAMPLE_SIZE:
            break
    return sample, next(lines, None) is None


def _candidates(sample: Sequence[str], delimiters: str) -> Iterator[Dialect]:
    text = "".join(sample)
    escapes = (False, True) if "\\" in text else (False,)
    for delimiter in (*(one for one in delimiters if one in text), ""):
        for quote in ('"', "'") if "'" in text else ('"',):
            for escape in escapes:
                yield Dialect(delimiter, quote, escape)
                if escape and quote == '"':
                    yield Dialect(delimiter, "", escape)
                if delimiter and f"{delimiter} {quote}" in text:
                    yield Dialect(delimiter, quote, escape, blanks=True)


def _best(surveys: Sequence[Survey]) -> Survey:
    """The survey that fits best: one of several columns where the first row names them, else of one."""
    usual = [one for one in surveys if one.dialect.quote != "'" or one.evidence]
    several = [
        one for one in usual
        if one.dialect.delimiter and len(one.first) > 1 and one.cost <= MOST_UNLIKE * one.rows
    ]  # fmt: skip
    alone = [one for one in usual if not one.dialect.delimiter]

    def order(one: Survey) -> tuple[float, int, bool, bool, int, int, int]:
        dialect = one.dialect
        return (
            one.cost, -one.evidence, dialect.quote == "'", dialect.escape and not one.escapes,
            -len(one.first), DELIMITERS.find(dialect.delimiter), one.stray if dialect.escape else 0,
        )  # fmt: skip

    return min(several or alone, key=order)


def _checked(
    dialect: Dialect, relative: Dialect, open_lines: Callable[[], AbstractContextManager[Iterator[str]]], skipped: int
) -> Survey:
    """The dialect as it does on all lines, or its relative where that does better."""
    surveys: list[Survey] = []
    for one in (dialect, relative):
        with open_lines() as lines:
            surveys.append(survey(islice(lines, skipped, None), one))
        if surveys[0].cost == 0:
            break
    return min(surveys, key=lambda one: one.cost)


def _with_names(best: Survey, skipped: int) -> Table:
    """The names of the columns: the first row, or numbers where that is a row as the others."""
    body = [row for row in best.cells[1:] if len(row) == best.columns]
    keys = tuple(
        column for column in range(best.columns if best.dialect.delimiter else 0)
        if len(body) > 1 and _share(body, column) >= NUMERIC
    )  # fmt: skip
    first = best.first
    if _is_data(first, body, keys):
        return Table(best.dialect, tuple(str(number + 1) for number in range(best.columns)), skipped, keys, False)
    names = ("",) * (best.columns - len(first)) + tuple(first)
    return Table(best.dialect, names, skipped, keys)


def _share(body: Sequence[Sequence[str]], column: int) -> float:
    """Of a column's cells, how many are numbers."""
    return sum(bool(NUMBER.fullmatch(row[column].strip())) for row in body) / len(body)


def _is_data(first: Sequence[str], body: Sequence[Sequence[str]], keys: Sequence[int]) -> bool:
    """Whether the first row is one of the others: numbers where they have such, or as long a text."""
    if any(cell.strip().lower() in NAMES for cell in first) or not body or len(first) != len(body[0]):
        return False
    if keys:
        return all(NUMBER.fullmatch(first[key].strip()) for key in keys)
    longest = max(map(len, first))
    typical = sorted(max(map(len, row)) for row in body)[len(body) // 2]
    long = longest >= PROSE and 2 * longest >= typical
    return long or (len(first) == 1 and bool(SENTENCE.search(first[0])))
