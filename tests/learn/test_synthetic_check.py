"""The checker: it takes the world's own stories, and finds what a child would notice in broken ones."""

import random
import re
from collections.abc import Callable

import pytest

from soban.learn import synthetic
from soban.learn.synthetic.table import Language, events, words

LANGUAGES: tuple[Language, ...] = ("en", "ko")
Break = Callable[[synthetic.Story, random.Random], str | None]


def final(word: str) -> bool:
    return (ord(word[-1]) - ord("가")) % 28 > 0 if word[-1] >= "가" else False


def core(story: synthetic.Story) -> list[int]:
    """The events that a story cannot do without."""
    return [i for i, happening in enumerate(story.events) if events()[happening.event].core]


def another_name(story: synthetic.Story, chance: random.Random) -> str | None:
    """Once, somebody else's name stands in the place of a character's."""
    name = chance.choice([n for n, person in story.cast.persons.items() if not person.old and n in story.text])
    places = [match.start() for match in re.finditer(name, story.text)][1:]
    lists = words(story.language).lists
    others = [n for n in lists["girls"] + lists["boys"] if n not in story.text and final(n) == final(name)]
    if not places:
        return None
    at = chance.choice(places)
    return story.text[:at] + chance.choice(others) + story.text[at + len(name) :]


def another_thing(story: synthetic.Story, chance: random.Random) -> str | None:
    """Once, another thing stands in the place of the one that the story is about."""
    known = words(story.language)
    noun = known.get("thing", story.cast.roles["t"])
    places = [m.start() for m in re.finditer(rf"(?<![가-힣a-z]){noun}(?![a-z])", story.text)][1:]
    if len(places) < 2:
        return None
    others = [known.get("thing", key) for key in known.classes["thing"] if key != story.cast.roles["t"]]
    at = chance.choice(places)
    other = chance.choice([other for other in others if final(other) == final(noun)])
    return story.text[:at] + other + story.text[at + len(noun) :]


def without_an_event(story: synthetic.Story, chance: random.Random) -> str | None:
    """What makes the rest possible is not told."""
    gone = chance.choice(core(story))
    return " ".join(sentence for i, sentence in enumerate(story.sentences) if i != gone)


def in_wrong_order(story: synthetic.Story, chance: random.Random) -> str | None:
    """The first and the last turn of the story change places."""
    turns = core(story)
    if len(turns) < 2:
        return None
    sentences = list(story.sentences)
    sentences[turns[0]], sentences[turns[-1]] = sentences[turns[-1]], sentences[turns[0]]
    return " ".join(sentences)


def cut_off(story: synthetic.Story, chance: random.Random) -> str | None:
    """It stops in the middle."""
    return story.text[: chance.randrange(len(story.text) // 3, len(story.text) - 12)]


def exchanged(story: synthetic.Story, chance: random.Random) -> str | None:
    """From a turn of the story on, what one does the other is said to have done: in this one sentence."""
    first, second = story.cast.roles["a"], story.cast.roles["b"]
    fitting = [i for i in core(story) if first in story.sentences[i] and second in story.sentences[i]]
    if not fitting or story.events[fitting[0]].event in ("rain", "breakby"):
        return None  # it rains on both
    at = chance.choice(fitting)
    swapped = story.sentences[at].replace(first, "\0").replace(second, first).replace("\0", second)
    return " ".join([*story.sentences[:at], swapped, *story.sentences[at + 1 :]])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_worlds_own_stories_are_consistent(language: Language) -> None:
    for seed in range(60):
        story = synthetic.story(seed, language)
        verdict = synthetic.check(story.text, language)
        assert verdict.consistent, (story.text, verdict.problems, verdict.unread)
        assert [h.event for h in verdict.events] == [h.event for h in story.events]
        assert not verdict.wrong_particles and not verdict.mixed_levels


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "breaking", [another_name, another_thing, without_an_event, in_wrong_order, cut_off, exchanged]
)
def test_breaks_that_a_child_would_notice_are_found(language: Language, breaking: Break) -> None:
    chance = random.Random(1)
    broken = [text for seed in range(50) if (text := breaking(synthetic.story(seed, language), chance)) is not None]
    noticed = [not synthetic.check(text, language).consistent for text in broken]
    assert len(noticed) >= 10
    assert sum(noticed) >= 0.95 * len(noticed)


def test_wrong_particles_are_counted() -> None:
    wrong = {"은": "는", "는": "은", "을": "를", "를": "을", "과": "와", "와": "과"}
    count = 0
    for seed in range(60):
        story = synthetic.story(seed, "ko")
        name = story.cast.roles["a"]
        match = re.search(rf"{name}이?(은|는|을|를|과|와) ", story.text)
        if match is None:
            continue
        at = match.start(1)
        verdict = synthetic.check(story.text[:at] + wrong[story.text[at]] + story.text[at + 1 :], "ko")
        count += 1
        assert verdict.wrong_particles == [match[0][:-2] + wrong[match[1]]], story.text
        assert verdict.particles > 5
    assert count > 50


def test_mixed_levels_of_speech_are_found() -> None:
    for seed in range(30):
        story = synthetic.story(seed, "ko")
        if story.text.count("습니다.") > 2:
            assert synthetic.check(story.text.replace("습니다.", "어요.", 1), "ko").mixed_levels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Once there was a kind girl named Ann. One day, Ann went to the park. Tom gave the kite to Ann.",
            "Tom was never",
        ),
        (
            "Ann had a red kite. One day, Ann took the kite to the park. Then Ann looked down. The kite was gone! "
            "Ann played with the kite all morning.",
            "play needs",
        ),
        ("Ann had a red kite. One warm day, Ann took her blue kite to the park.", "was red"),
        (
            "Once there was a kind girl named Ann. One day, Ann went to the park. He went to the hill. "
            "That night, Ann had a sweet dream.",
            "nobody here is a boy",
        ),
        ("Once there was a kind girl named Ann. One day, Ann went to the park.", "not ended"),
    ],
)
def test_a_contradiction_is_named(text: str, said: str) -> None:
    verdict = synthetic.check(text, "en")
    assert not verdict.consistent
    assert said == "not ended" or any(said in problem for problem in verdict.problems), verdict.problems


def test_a_name_that_nobody_has_seen_is_taken_from_the_opening() -> None:
    for language, opening, rest in (
        (
            "en",
            "In the tower lived Griselda, who",
            " laughed a lot. One day, Griselda went to the park. That night, Griselda had a sweet dream.",
        ),
        (
            "ko",
            "탑 위에 사는 봉순이는",
            " 잘 웃었어요. 어느 날 봉순이는 공원에 갔어요. 그날 밤 봉순이는 좋은 꿈을 꾸었어요.",
        ),
    ):
        assert synthetic.check(opening + rest, language, opening).consistent  # type: ignore[arg-type]
        assert not synthetic.check(opening + rest, language).consistent  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", " ", "...", "The cat sat on the mat.", "가나다", '"' * 50, "\n" * 9, "a" * 3000])
def test_any_text_gets_a_verdict(text: str) -> None:
    for language in LANGUAGES:
        assert not synthetic.check(text, language).consistent
