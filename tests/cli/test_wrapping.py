"""Lists that fit a terminal: no line too long, nothing lost, meanings below each other."""

import itertools
import random
import unicodedata

import pytest

from soban.cli import main
from soban.cli.terminal.wrapping import definitions, hanging, paragraphs, wrapped
from soban.messages import width

WORDS = [
    "a",
    "token",
    "토큰",
    "가운데에서",
    "likeliest",
    "(error|slide|summarise)",
    "x" * 70,
    "가" * 40,
    "é",
    "e\u0301",
    "👍",
]


def columns(text: str) -> int:
    """The judge: as wcwidth counts, which terminals follow."""
    wcwidth = pytest.importorskip("wcwidth")
    return int(wcwidth.wcswidth(text))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_line_is_wider_than_it_may_be_and_every_word_is_there(seed: int, width: int) -> None:
    dice = random.Random(seed)
    rows = [
        (f"  /이름{n}"[: dice.randrange(4, 9)], " ".join(dice.choices(WORDS, k=dice.randrange(1, 20))))
        for n in range(5)
    ]
    lines = definitions(rows, width).split("\n")
    assert max(map(columns, lines)) <= width
    together = "".join("".join(lines).split())
    assert together == "".join("".join(name + meaning for name, meaning in rows).split())
    # as much as fits stands in each line
    for meaning in (meaning for _, meaning in rows):
        parts = wrapped(meaning, width)
        for part, following in itertools.pairwise(parts):
            word = following.split()[0]
            assert columns(part) + 1 + columns(word) > width or columns(word) >= width - 1


def test_meanings_stand_below_each_other_or_below_the_names() -> None:
    rows = [("  가나", "one two three four five six seven"), ("  abcdef", "넷")]
    assert definitions(rows, 42).split("\n") == [
        "  가나    one two three four five six",
        "          seven",
        "  abcdef  넷",
    ]
    assert definitions(rows, 30).split("\n") == [
        "  가나", "      one two three four five", "      six seven", "  abcdef", "      넷",
    ]  # fmt: skip
    assert wrapped("x" * 31, 30) == ["x" * 30, "x"] and wrapped("가" * 3, 5) == ["가가", "가"]
    assert paragraphs("one two\n\n셋 넷", 5) == "one\ntwo\n\n셋 넷" and paragraphs("one two", None) == "one two"
    assert definitions(rows, None).split("\n") == ["  가나    one two three four five six seven", "  abcdef  넷"]
    assert unicodedata.east_asian_width("가") == "W"


def test_a_number_and_its_unit_stay_together() -> None:
    for amount in ("80.8 GB", "512 kB", "100 Mbit/s", "3 %", "26.1억 개", "459.1만 개"):
        text = f"가나다라 마바사 {amount} 아자차카"
        for most in range(12, 40):
            lines = wrapped(text, most)
            assert any(amount in line for line in lines) and "".join("".join(lines).split()) == "".join(text.split())
    assert wrapped("1 Big 2 GBs 3 개미", 5) == ["1 Big", "2 GBs", "3", "개미"]


def test_what_follows_the_first_line_hangs() -> None:
    text = "모델은 한국어를 잘 압니다 " * 8
    lines = hanging("    - ", text, 80)
    assert len(lines) > 2 and max(map(columns, lines)) <= 80
    assert lines[0].startswith("    - 모델은") and lines[1].startswith("      ") and lines[1][6] != " "
    assert " ".join(lines).split() == ["-", *text.split()]


def test_a_firm_blank_keeps_words_together() -> None:
    assert wrapped("it has 5\xa0GB of them", 8) == ["it has", "5 GB of", "them"]


def test_the_prose_of_help_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, language in ((60, "en"), (60, "ko"), (80, "ko")):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("SOBAN_LANG", language)
        assert main(["recommend", "--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(width(line) for line in lines[1 : lines.index("", 2)]) <= columns
