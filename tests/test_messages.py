"""Everything that soban says has its Korean: complete, with the same fields, compiled, and in force."""

import gettext
import re
import string
from pathlib import Path

import pytest

from soban import messages
from soban.base.errors import UserError
from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "src" / "soban" / "messages"


TOOL = script("messages")
TEXTS: list[str] = TOOL.used_texts()
COMMANDS = ("pip install",)  # what is to be typed is the same in every language
KOREAN: dict[str, str] = TOOL.read_po(FOLDER / "ko.po")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_has_a_translation_and_none_is_left_over() -> None:
    missing = [text for text in TEXTS if not KOREAN.get(text)]
    stale = [text for text in KOREAN if text not in TEXTS]
    assert not missing and not stale, "python dev.py messages"


def test_a_translation_has_no_field_that_its_text_lacks_and_tells_every_value() -> None:
    assert not [text for text in KOREAN if fields(KOREAN[text]) != fields(text)]


def test_a_translation_is_korean_and_in_lines_where_its_text_is() -> None:
    for text, korean in KOREAN.items():
        words = re.sub(r"\{.*?\}", "", korean)
        assert re.search("[가-힣]", words) or not re.search("[A-Za-z]", words) or words.startswith(COMMANDS), text
        assert text.count("\n") == 0 or korean.count("\n") > 0, text


def test_the_compiled_catalogue_is_the_written_one() -> None:
    with (FOLDER / "ko.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    assert {text: compiled.gettext(text) for text in KOREAN} == KOREAN
    assert (FOLDER / "ko.mo").read_bytes() == TOOL.mo(KOREAN), "python dev.py messages"


def test_the_tools_of_others_read_the_catalogue_alike() -> None:
    read_po = pytest.importorskip("babel.messages.pofile").read_po
    with (FOLDER / "ko.po").open("rb") as file:
        assert {message.id: message.string for message in read_po(file) if message.id} == KOREAN


def test_the_language_is_that_of_soban_lang(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UserError("the prompt is empty", hint="give some text")
    monkeypatch.setenv("SOBAN_LANG", "ko")
    korean = str(error)
    assert re.search("[가-힣]", korean)
    assert messages.translate("the prompt is empty") == KOREAN["the prompt is empty"]
    monkeypatch.setenv("SOBAN_LANG", "en")
    assert str(error) == "the prompt is empty; give some text"
    monkeypatch.setenv("SOBAN_LANG", "xx")
    assert str(error) == "the prompt is empty; give some text"


def test_texts_of_each_kind_are_found() -> None:
    code = '''
raise UserError("a" if x else "b", hint="c")
messages.warn("d"); translate("e"); say("f", n=1)
field(metadata={"help": "g", "off_help": "h", "short": "-i"})
class RunOptions:
    """j"""
UserError(template); print("k")
EXAMPLES = "  soban run        k\\n  soban run \\'a b\\' --seed 1   l m\\n  soban chat\\n"
'''
    import ast

    assert set(TOOL.file_texts(ast.parse(code))) == {*"abcdefghjk", "l m"}
