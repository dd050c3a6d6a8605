"""Markdown as it streams: what the terminal gets is the text and looks, whatever the pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soban.cli.terminal.markdown import Markdown, printable

LOOK = re.compile(r"\x1b\[0(?:;([0-9;]+))?m")
NAMES = {"2": "dim", "1": "bold", "3": "italic", "1;3": "bold italic", "36": "code"}
texts = st.text(st.sampled_from(list("*_`#->~ \n\t12.)ab가\\\r\x1b\x07")), max_size=60)


def drawn(text: str, size: int = 1) -> str:
    markdown = Markdown()
    return "".join(markdown.feed(text[n : n + size]) for n in range(0, len(text), size)) + markdown.finish()


def looks(text: str) -> list[tuple[str, str]]:
    """(look, piece) in turn; what has no look is ""."""
    parts = LOOK.split("\x1b[0m" + drawn(text))[1:]
    return [(NAMES[look] if look else "", piece) for look, piece in zip(parts[::2], parts[1::2], strict=True) if piece]


def looking(look: str, text: str) -> list[str]:
    return [piece for name, piece in looks(text) if name == look]


@given(texts)
def test_without_the_looks_it_is_the_text(text: str) -> None:
    assert LOOK.sub("", drawn(text)) == printable(text)


@given(texts, st.integers(1, 9))
def test_the_pieces_in_which_it_comes_change_nothing(text: str, size: int) -> None:
    assert drawn(text, size) == drawn(text, len(text) or 1)


@given(texts)
def test_no_look_crosses_the_end_of_a_line_or_of_the_text(text: str) -> None:
    state = ""
    for part in re.split(r"(\x1b\[[0-9;]*m|\n)", drawn(text)):
        if part.startswith("\x1b"):
            state = part
        assert part != "\n" or state in ("", "\x1b[0m")
    assert state in ("", "\x1b[0m")


@given(texts)
def test_little_is_held_back(text: str) -> None:
    # Blanks and runs at the beginning of a line wait for what they begin; in a line at most three marks do.
    markdown = Markdown()
    for character in text:
        markdown.feed(character)
        assert len(markdown.held.lstrip(" \t")) <= 10 or re.fullmatch(r"[ \t]*(`+|~+)", markdown.held)


def test_bold_italic_and_both() -> None:
    text = "a **b c** d *e* _f_ ***g*** __h__"
    assert looking("bold", text) == ["b c", "h"]
    assert looking("italic", text) == ["e", "f"]
    assert looking("bold italic", text) == ["g"]
    assert "".join(piece for name, piece in looks(text) if name == "") == "a  d    "


def test_emphasis_closes_before_a_korean_particle() -> None:
    assert looks('이것은 **"강조"**는 아니다') == [
        ("", "이것은 "), ("dim", "**"), ("bold", '"강조"'), ("dim", "**"), ("", "는 아니다"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["2 * 3 * 4", "2**3 and 2*3*4", "snake_case_name", "a \\*b\\* c", "*****", "f(x_1, x_2)", "a* b*", "-5", "#1"],
)
def test_what_only_looks_like_a_mark_stays_plain(text: str) -> None:
    assert looks(text) == [("", text)]


def test_an_open_mark_ends_with_its_line() -> None:
    assert looks("**a\nb") == [("dim", "**"), ("bold", "a"), ("", "\nb")]


def test_headings_are_bold_and_lists_have_quiet_marks() -> None:
    assert looks("## A *b*\ntext") == [
        ("dim", "## "), ("bold", "A "), ("dim", "*"), ("bold italic", "b"), ("dim", "*"), ("", "\ntext"),
    ]  # fmt: skip
    assert looking("dim", "- a\n  * b\n1. c\n23) d\n> e\n> - f") == ["- ", "  * ", "1. ", "23) ", ">", "> - "]


def test_code_has_its_own_look_and_no_marks() -> None:
    assert looking("code", "use `a*b*c` or ``d`e``") == ["a*b*c", "d`e"]
    text = "```python\nx = a**b**c  # not\n\n    - y\n```\n**z**"
    assert looking("code", text) == ["x = a**b**c  # not", "    - y"]
    assert looking("dim", text) == ["```python", "```", "**", "**"]
    assert looking("bold", text) == ["z"]


def test_a_longer_fence_holds_shorter_ones() -> None:
    assert looking("code", "````\n```\na\n```\n````\nb") == ["```", "a", "```"]


def test_a_model_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9b\x7f\r\n\tc") == "a␛[2Jb␇\ufffd␡\n\tc"
