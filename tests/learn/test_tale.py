"""Words inside templates: Korean particles, English articles, and the tables of plots."""

import re
import unicodedata

import pytest

from soban.learn import stories_en, stories_ko
from soban.learn.stories import CHOICE
from soban.learn.tale import Word, read_tales
from soban.learn.world.korean import PARTICLES, with_particle

FINAL_L = "\u11af"


@pytest.mark.parametrize(
    ("word", "kind", "form"),
    [
        ("곰", "은", "은"),
        ("토끼", "은", "는"),
        ("달", "이", "이"),
        ("여우", "이", "가"),
        ("책", "을", "을"),
        ("사과", "을", "를"),
        ("밥", "과", "과"),
        ("나무", "과", "와"),
        ("집", "으로", "으로"),
        ("학교", "으로", "로"),
        ("서울", "으로", "로"),
        ("별", "은", "은"),
        ("지훈", "아", "아"),
        ("수아", "아", "야"),
        ("보람", "이라", "이라"),
        ("하나", "이었", "였"),
        ("꽃", "이야", "이야"),
        ("Tom", "은", "는"),
    ],
)
def test_a_particle_has_its_known_form(word: str, kind: str, form: str) -> None:
    assert with_particle(word, kind) == word + form


@pytest.mark.parametrize("kind", PARTICLES)
def test_a_particle_follows_the_final_consonant_of_every_syllable(kind: str) -> None:
    after_consonant, after_vowel = PARTICLES[kind]
    for code in range(ord("가"), ord("힣") + 1):
        letters = unicodedata.normalize("NFD", chr(code))  # the judge: a third letter is the final consonant
        closed = len(letters) == 3 and not (kind == "으로" and letters[2] == FINAL_L)
        form = after_consonant if closed else after_vowel
        assert with_particle(chr(code), kind) == chr(code) + form, chr(code)


def test_an_article_agrees_with_the_first_sound() -> None:
    assert f"{Word('orange hat'):a}, {Word('red ball'):a}, {Word('owl')}" == "an orange hat, a red ball, owl"


@pytest.mark.parametrize(("language", "teller"), [("en", stories_en), ("ko", stories_ko)])
def test_every_wording_of_every_case_can_be_told(language: str, teller: object) -> None:
    import random

    from soban.learn.stories import inflected

    tales = read_tales(language)
    assert len(tales.plots) >= 10
    for plot in tales.plots:
        for case in plot.cases or [{}]:
            fields = inflected(random.Random(0), teller.world(random.Random(1), tales), case)  # type: ignore[attr-defined]
            wordings = [*tales.openings, *tales.endings, *plot.starts, *(text for beat in plot.beats for text in beat)]
            for wording in wordings:
                for choice in range(4):
                    text = CHOICE.sub(lambda match: (match[1].split("|") * 4)[choice], wording).format_map(fields)  # noqa: B023
                    assert not re.search(r"[\[\]{}|]", text), (plot.name, wording)
