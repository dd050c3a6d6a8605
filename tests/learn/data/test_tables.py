"""Tables come back as Python's csv module reads them, whatever dialect it has written; what breaks one costs a row."""

import csv
import io
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from soban.learn.data import tables
from soban.learn.data.decoding import detect
from soban.learn.data.records import records
from soban.learn.data.rows import Broken
from soban.learn.data.sources import find

WORDS = [
    "토끼가", "숲에서", "놀았다.", "go", "home,", "now;", "it's", "a|b", "c:d", "tab\there", "'quoted'", '"said"', '""',
    "그래,", "가자", "back\\slash", '5"', "100", "line\nend",
]  # fmt: skip
SAID = 'He said "go", and left'
MEANT = {"index": "{}", "text": "", "more": ""}


def text(chance: random.Random, words: list[str] = WORDS) -> str:
    return " ".join(chance.choices(words, k=chance.randint(1, 8))).strip()


def rows_of(chance: random.Random, count: int) -> list[list[str]]:
    """Numbers, texts, and texts that may be missing; some need quotes in any dialect."""
    rows = [[str(number), text(chance), chance.choice(["", text(chance)])] for number in range(count)]
    for row in chance.sample(rows, max(1, count // 5)):
        row[1] = f"{SAID}\nand said: 'so'; then | went\t{row[0]}"
    return rows


def read(path: Path, data: bytes) -> list[Any]:
    path.write_bytes(data)
    (source,) = find([path]).sources
    return list(records(source, detect(source), "auto"))


def written(rows: list[list[str]], dialect: dict[str, Any], nonnumeric: bool) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **dialect)
    writer.writerows([[int(row[0]) if nonnumeric and row[0].isdigit() else row[0], *row[1:]] for row in rows])
    return out.getvalue()


def dialects() -> list[dict[str, Any]]:
    """What csv.writer can be told: quotes or escapes, and which rows get them."""
    several = []
    for delimiter, end, quote in itertools.product(",;\t|:", ("\r\n", "\n", "\r"), "\"'"):
        base = {"delimiter": delimiter, "lineterminator": end, "quotechar": quote}
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
            several.append(base | {"quoting": quoting})
            several.append(base | {"quoting": quoting, "doublequote": False, "escapechar": "\\"})
        several.append(base | {"quoting": csv.QUOTE_NONE, "escapechar": "\\"})
    return several


def check_dialect(path: Path, seed: int, dialect: dict[str, Any], header: bool) -> None:
    """A random table in a dialect is read as Python's csv module reads it."""
    chance = random.Random(seed)
    rows = rows_of(chance, chance.choice([20, 60]))
    if dialect["lineterminator"] == "\r":  # the writer quotes no other line ends
        rows = [[cell.replace("\n", "\r") for cell in row] for row in rows]
    names = ["index", "text", "more"] if header else ["1", "2", "3"]
    content = written([names, *rows] if header else rows, dialect, dialect["quoting"] == csv.QUOTE_NONNUMERIC)
    reading = dialect | ({"quoting": csv.QUOTE_MINIMAL} if dialect["quoting"] == csv.QUOTE_NONNUMERIC else {})
    judge = [row for row in csv.reader(io.StringIO(content, newline=""), **reading) if row][int(header) :]
    encoding = chance.choice(["utf-8", "utf-8-sig", "cp949", "utf-16"])
    records = read(path, content.encode(encoding))
    case = (seed, dialect, encoding)
    assert [isinstance(row, Broken) or list(row.values()) for row in records] == judge, case
    assert list(records[0]) == names and [row[1] for row in judge] == [row[1] for row in rows], case


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_dialect_that_pythons_csv_module_writes_is_found(tmp_path: Path, every: int) -> None:
    for seed, (dialect, header) in list(enumerate(itertools.product(dialects(), (True, False))))[::every]:
        check_dialect(tmp_path / "a.csv", seed, dialect, header)


def test_escaped_quotes_in_cells_without_quotes_do_not_hide_the_dialect(tmp_path: Path) -> None:
    escaping = {"quotechar": "'", "quoting": csv.QUOTE_MINIMAL, "doublequote": False, "escapechar": "\\"}
    check_dialect(tmp_path / "a.csv", 325, escaping | {"delimiter": "|", "lineterminator": "\r"}, False)
    check_dialect(tmp_path / "a.csv", 1921, escaping | {"delimiter": ";", "lineterminator": "\r\n"}, False)


def test_a_cell_that_is_two_quotes_stays_so_where_other_quotes_are_letters(tmp_path: Path) -> None:
    bare = {"quotechar": "'", "quoting": csv.QUOTE_NONE, "escapechar": "\\", "lineterminator": "\n"}
    for seed, delimiter in ((1216, ","), (1754, "\t")):
        check_dialect(tmp_path / "a.csv", seed, bare | {"delimiter": delimiter}, True)


def test_a_cell_with_tabs_and_lines_that_look_like_rows_is_one_where_its_quotes_are_meant(tmp_path: Path) -> None:
    every = {"delimiter": "\t", "lineterminator": "\r", "quotechar": "'", "quoting": csv.QUOTE_ALL}
    check_dialect(tmp_path / "a.csv", 2708, every, True)
    rows = [["0", 'one "so"\tand\nmore\t"so"'], ["1", "two"], ["2", "three"]]
    for dialect in ({}, {"doublequote": False, "escapechar": "\\"}):
        content = written([["index", "text"], *rows], dialect | {"delimiter": "\t"}, False)
        assert [list(row.values()) for row in read(tmp_path / "a.csv", content.encode())] == rows


def test_blanks_behind_delimiters_do_not_hide_the_quotes(tmp_path: Path) -> None:
    for seed in range(20):
        chance = random.Random(seed)
        rows = [["index", "text", "more"], *rows_of(chance, 30)]
        lines = [", ".join([row[0], *('"' + cell.replace('"', '""') + '"' for cell in row[1:])]) for row in rows]
        judge = list(csv.reader(io.StringIO("\n".join(lines), newline=""), skipinitialspace=True))
        assert [list(row.values()) for row in read(tmp_path / "a.csv", "\n".join(lines).encode())] == judge[1:]


def test_a_word_of_excel_tells_the_delimiter_and_is_no_row(tmp_path: Path) -> None:
    for word, delimiter in (("sep=;", ";"), ('"sep=|"', "|"), ("SEP=,", ",")):
        content = f"{word}\r\nid{delimiter}text\r\n1{delimiter}one\r\n"
        assert read(tmp_path / "a.csv", content.encode("utf-8-sig")) == [{"id": "1", "text": "one"}]


def test_a_table_whose_only_columns_are_by_apostrophes_without_evidence_is_read_as_one_column(tmp_path: Path) -> None:
    assert [list(row.values()) for row in read(tmp_path / "a.csv", b"\";\r';")] == [["';"]]


def test_a_quote_that_nobody_closes_costs_no_row_but_its_own(tmp_path: Path) -> None:
    for seed in range(40):
        chance = random.Random(seed)
        delimiter = chance.choice(",;\t|")
        plain = [word for word in WORDS if not set(word) & set("\"'\n,;\t|\\")]
        rows = [[str(number), text(chance, plain), text(chance, plain)] for number in range(50)]
        hurt = chance.sample(range(50), 3)
        lines = [delimiter.join(row) for row in [["index", "text", "more"], *rows]]
        for number in hurt:
            cells = list(rows[number])
            cells[chance.choice([1, 2])] = '"' + text(chance, plain)
            lines[number + 1] = delimiter.join(cells)
        records = read(tmp_path / "a.csv", "\n".join(lines).encode())
        good = [list(row.values()) for row in records if not isinstance(row, Broken)]
        assert [row for row in rows if rows.index(row) not in hurt] == [row for row in good if int(row[0]) not in hurt]
        assert len(records) == 50, seed  # each is read, or told


def test_what_the_first_lines_do_not_show_is_found_in_the_others(tmp_path: Path) -> None:
    rows = [[str(number), f"text {number}"] for number in range(tables.SAMPLE + 50)]
    rows += [[str(number), f'"go, now" number {number}'] for number in range(100)]
    content = written([["index", "text"], *rows], {"doublequote": False, "escapechar": "\\"}, False)
    assert [list(row.values()) for row in read(tmp_path / "a.csv", content.encode())] == rows


def test_a_row_name_without_a_column_name_is_one_as_r_writes_it(tmp_path: Path) -> None:
    content = '"text" "label"\n"1" "one" 3\n"2" "two" 4\n'.replace(" ", ",")
    assert [row["text"] for row in read(tmp_path / "a.csv", content.encode())] == ["one", "two"]


def test_random_bytes_in_a_table_lose_no_row_without_a_word(tmp_path: Path) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        rows = [[str(number), f"This is the text of number {number}, and more."] for number in range(80)]
        data = bytearray(written([["index", "text"], *rows], {}, False).encode())
        for _ in range(3):
            data[chance.randrange(20, len(data))] = ord(chance.choice('",;\n\\x\'"'))
        records = read(tmp_path / "a.csv", bytes(data))
        good = [row for row in records if not isinstance(row, Broken)]
        same = sum(list(row.values()) in rows for row in good)
        assert same >= len(rows) - 6 and len(records) >= len(rows) - 3, seed
