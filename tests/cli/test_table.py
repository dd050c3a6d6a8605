"""Tables of 80 columns, judged by the widths that wcwidth gives."""

import pytest
from wcwidth import wcswidth

from soban.cli.terminal.table import COLUMNS, table, truncate, weights
from soban.messages import width

TEXTS = [
    "",
    "gemma2:2b",
    "한국어 모델",
    "쌀 12 kg",
    "日本語とカナ",
    "é",
    "e\u0301",
    "…",
    "ｗｉｄｅ",
    "ㅋㅋㅋ",
    "모델 models 4개",
]


@pytest.mark.parametrize("text", TEXTS)
def test_widths_are_those_of_a_terminal(text: str) -> None:
    assert width(text) == wcswidth(text)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 40])
def test_a_text_is_cut_to_fit(text: str, most: int) -> None:
    assert wcswidth(truncate(text, most)) <= most
    assert truncate(text, 100) == text


def test_columns_stand_below_each_other_whatever_the_letters() -> None:
    lines = table(
        [("이름", "크기", "끝"), ("gemma2:2b", "5.2 GB", "x"), ("한글 이름", "61 MB", "y")], right=(1,)
    ).splitlines()
    for line in lines:
        before = line[: len(line.rstrip()) - 1]
        assert wcswidth(before) == wcswidth(lines[0][:-1])
    assert lines[2].endswith(" 61 MB  y")


def test_a_long_table_stays_within_the_terminal_and_the_named_column_gives_way() -> None:
    rows = [("모델" * 8, "a" * 30, "b" * 60), ("c", "d", "e")]
    for giving in (0, 1, 2):
        lines = table(rows, giving=giving).splitlines()
        assert all(wcswidth(line) <= COLUMNS for line in lines)
    assert table(rows).splitlines()[0].startswith("모델" * 8 + "  " + "a" * 30)  # the last one gave way
    assert "…" in table(rows).splitlines()[0]


def test_numbers_of_weights_are_as_in_names() -> None:
    told = {
        260_000: "260K",
        15_000_000: "15M",
        361_821_120: "362M",
        999_885_952: "1.0B",
        2_614_341_888: "2.6B",
        None: "",
    }
    assert {count: weights(count) for count in told} == told
