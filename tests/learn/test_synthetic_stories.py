"""The stories of the world: repeatable, varied, possible; in Korean with right particles and one level of speech."""

import re
import unicodedata
from itertools import islice

import pytest

from soban.learn import synthetic
from soban.learn.synthetic.rules import ANY, agrees, happen, satisfy, strangers, unfulfilled
from soban.learn.synthetic.slots import Slot, alternatives, parts
from soban.learn.synthetic.table import CLASSES, Language, events, plots, wordings, words

LANGUAGES: tuple[Language, ...] = ("en", "ko")
FINAL = range(0x11A8, 0x1200)  # final consonants, as Unicode decomposes a syllable
PAIRS = {"은": "는", "이": "가", "을": "를", "과": "와"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_decides_the_stories(language: Language) -> None:
    first, again, other = (list(islice(synthetic.stories(seed, language), 30)) for seed in (3, 3, 4))
    assert first == again
    assert not set(first) & set(other)
    assert synthetic.story(5, language).text == synthetic.story(5, language).text != synthetic.story(6, language).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_stories_differ(language: Language) -> None:
    some = list(islice(synthetic.stories(0, language), 800))
    assert len(set(some)) == len(some)
    assert len({story[:40] for story in some}) > 400
    lengths = sorted(len(story.split()) for story in some)
    assert lengths[0] > 25 and lengths[-1] < 260


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_has_wordings_and_there_are_hundreds_of_patterns(language: Language) -> None:
    table = wordings(language)
    assert set(events()) == set(table)
    assert all(len(several) >= 3 for several in table.values())
    assert sum(len(several) for several in table.values()) > 500


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_wording_names_only_roles_that_its_event_or_the_cast_has(language: Language) -> None:
    for name, several in wordings(language).items():
        for wording in several:
            assert wording.roles == events()[name].roles, wording
            for text in alternatives(wording.text):
                slots = [piece for piece in parts(text) if isinstance(piece, Slot)]
                assert "{" not in "".join(p for p in parts(text) if isinstance(p, str)), wording
                assert all(slot.role in wording.roles or slot.role in "wt" for slot in slots), wording


def test_both_languages_know_the_same_world() -> None:
    english, korean = words("en").classes, words("ko").classes
    assert {name: list(members) for name, members in english.items()} == {n: list(m) for n, m in korean.items()}


def test_every_step_of_every_plot_is_an_event_or_a_goal_with_its_number_of_roles() -> None:
    for alternatives_ in plots().values():
        for step in (step for steps in alternatives_ for step in steps):
            if step.goal:
                assert step.name in plots()
            else:
                assert len(step.roles) == len(events()[step.name].roles), step
                assert all(CLASSES[a] == CLASSES[b] for a, b in zip(step.roles, events()[step.name].roles, strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_of_a_story_is_possible_when_it_comes_and_every_want_comes_true(language: Language) -> None:
    seen = set()
    for seed in range(300):
        story = synthetic.story(seed, language)
        old = frozenset(name for name, person in story.cast.persons.items() if person.old)
        first = next(n for h in story.chain[:1] for r, n in h.roles.items() if CLASSES[r] == "person" and n not in old)
        state = {("known", first): None, ("at", first, "home"): None}
        for happening in story.chain:
            event = events()[happening.event]
            filled = satisfy(event, happening.roles, state, old)
            assert filled is not None and not strangers(event, happening.roles, state, old), happening
            happen(event, filled, state)
        assert not unfulfilled(state)
        assert frozenset(state) == story.facts
        holders = [fact for fact in state if agrees(("held", ANY, ANY), fact)]
        assert len({fact[1] for fact in holders}) == len(holders)  # a thing has one holder
        seen |= {happening.event for happening in story.chain}
    assert len(seen) > 0.9 * len(events())


def has_final(word: str) -> bool:
    """By Unicode's own decomposition, not by our arithmetic."""
    return ord(unicodedata.normalize("NFD", word)[-1]) in FINAL


def test_korean_particles_fit_the_last_sound_by_unicode_itself() -> None:
    count = 0
    nouns = {
        words("ko").get(kind, key) for kind in ("thing", "place", "fruit", "food") for key in words("ko").classes[kind]
    }
    for seed in range(300):
        story = synthetic.story(seed, "ko")
        names = [name for name, person in story.cast.persons.items() if not person.old]
        names += [name + "이" for name in names if has_final(name)]
        for after_consonant, after_vowel in PAIRS.items():
            for stem in re.findall(rf"([가-힣]+)(?:{after_consonant}|{after_vowel})(?= )", story.text):
                if stem not in names and stem not in nouns:
                    continue
                right = after_consonant if has_final(stem) else after_vowel
                wrong = after_vowel if has_final(stem) else after_consonant
                if after_consonant == "이" and stem + "이" in names:
                    continue  # 지훈이 is also the familiar name
                assert re.search(rf"\b{stem}{right}(?= )", story.text), (stem, story.text)
                assert not re.search(rf"\b{stem}{wrong}(?= )", story.text), (stem, story.text)
                count += 1
    assert count > 2000


def test_a_korean_story_keeps_to_one_level_of_speech() -> None:
    seen = set()
    for story in islice(synthetic.stories(1, "ko"), 300):
        narration = re.sub(r'"[^"]*"', "", story)  # what is said aloud has its own level
        ends = set(re.findall(r"(습니다|어요)[.!]", narration))
        assert len(ends) == 1, story
        assert not re.search(r"[^다요][.!](?= |$)", re.sub(r"[가-힣]+!", "", narration).strip()), story
        seen |= ends
    assert seen == {"습니다", "어요"}


def test_english_articles_fit_the_next_sound() -> None:
    for story in islice(synthetic.stories(2, "en"), 300):
        assert not re.search(r"\ba [aeio]\w+", story), story
        assert not re.search(r"\ban [^aeiou]", story), story


def test_english_sentences_begin_with_capitals_and_no_gap_is_left() -> None:
    for story in islice(synthetic.stories(3, "en"), 300):
        assert not re.search(r"[.!?] [a-z]", story), story
        assert not re.search(r"[{}\[\]~^|]|  ", story), story
