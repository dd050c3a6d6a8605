"""The story generator: repeatable, varied, true to its own names."""

import re
from itertools import islice

import pytest

from soban.learn.stories import Language, stories

LANGUAGES: tuple[Language, ...] = ("en", "ko")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_decides_the_stories(language: Language) -> None:
    first, again, other = (list(islice(stories(seed, language), 50)) for seed in (3, 3, 4))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_stories_differ(language: Language) -> None:
    some = list(islice(stories(0, language), 3000))
    assert len(set(some)) == len(some)
    beginnings = {story[:40] for story in some}
    assert len(beginnings) > 1000


def test_each_language_has_its_fairy_tale_opening_and_other_ones() -> None:
    for language, opening in (("en", "Once upon a time"), ("ko", "옛날 옛적에")):
        some = list(islice(stories(0, language), 1000))
        share = sum(story.startswith(opening) for story in some) / len(some)
        assert 0.1 < share < 0.6


def test_a_korean_story_keeps_to_one_level_of_speech() -> None:
    for story in islice(stories(1, "ko"), 500):
        told = re.sub(r'"[^"]*"|\'[^\']*\'', "", story)  # what is said aloud has its own level
        ends = set(re.findall(r"(습니다|어요)[.!]", told))
        assert len(ends) == 1, story


def test_an_english_story_calls_only_the_people_that_are_in_it() -> None:
    names = re.compile(r"\b[A-Z][a-z]+\b")
    for story in islice(stories(2, "en"), 500):
        thanked = re.findall(r"Thank you, ([A-Z]\w+)!", story)
        for name in thanked:
            assert len(re.findall(rf"\b{name}\b", story, re.IGNORECASE)) > 1, story
        assert names.search(story)
