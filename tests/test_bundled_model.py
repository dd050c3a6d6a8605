"""The model that comes with soban does what it is there for: stories that hold together, answers, small talk."""

import random
import re

import pytest

import soban
from soban.cli import llama2c
from soban.learn import synthetic
from soban.learn.synthetic.small import ask, kinds
from soban.learn.synthetic.table import Language

# With names that no story of its corpus has
OPENINGS: list[tuple[Language, str, str]] = [
    ("en", "Greta", "Once upon a time, there was a little girl named Greta."),
    ("en", "Rufus", "One day, Rufus met a"),
    ("en", "Tess", "Tess wanted to learn to"),
    ("en", "Otis", "Otis had a"),
    ("en", "Pearl", "Pearl and Basil were good friends."),
    ("en", "Nell", "One sunny morning, Nell woke up"),
    ("ko", "해솔", "옛날 옛적에 해솔이라는 착한 아이가 살고 있었어요."),
    ("ko", "찬우", "어느 맑은 날, 찬우는 길에서"),
    ("ko", "별하", "별하에게는"),
    ("ko", "초아", "초아와 규민은 친한 친구였습니다."),
    ("ko", "태인", "태인이 무서워하는 것이"),
    ("ko", "나경", "해님이 반짝 떠올랐습니다. 나경은"),
]


@pytest.fixture(scope="module")
def model() -> soban.Model:
    return soban.load()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_its_stories_hold_together_and_end(model: soban.Model, language: Language) -> None:
    held = 0
    for spoken, name, opening in OPENINGS:
        if spoken == language:
            generation = model.start(opening, temperature=0, max_new_tokens=300, echo=True)
            told = generation.read()
            assert isinstance(told, str) and told.startswith(opening) and told.count(name) >= 3
            held += synthetic.check(told, language, opening).consistent and generation.figures.finished == "end"
    assert held >= 3


@pytest.mark.parametrize(
    ("asked", "name", "question"),
    [
        ("Tell me a story about Zelmo.", "Zelmo", "Who was in the story?"),
        ("소담이 이야기 해 줘.", "소담", "누구 이야기야?"),
    ],
)
def test_it_tells_a_story_when_asked_and_answers_about_it(
    model: soban.Model, asked: str, name: str, question: str
) -> None:
    talk = soban.Dialogue(model, temperature=0, max_new_tokens=200)
    assert talk.say(asked).read().count(name) >= 3
    assert name in talk.say(question).read()


def test_a_text_that_goes_on_shows_no_mark_of_the_template(model: soban.Model) -> None:
    prompt = "한국의 수도는 어디야?"
    made = [
        model.start(prompt),
        llama2c.start(model, prompt, system=None, raw=False, echo=None, steps=60, sampling={}),
        model.start(prompt, raw=True),
    ]
    assert [text.streams[text.sequences[0]].stops.feed("좋은 질문 [/INST] 이지만") for text in made] == [
        ("좋은 질문", True), ("좋은 질문", True), ("좋은 질문 [/INST] 이지만", False),  # who writes templates sees all
    ]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "ko"])
def test_it_answers_small_talk_and_sums_that_it_has_not_seen(model: soban.Model, language: Language) -> None:
    chance, right, count = random.Random(0), {False: 0, True: 0}, {False: 0, True: 0}
    for number in range(2 * len(kinds(language))):
        kind = list(kinds(language).values())[number % len(kinds(language))]
        question, answers = ask(chance, language, kind, unseen=True)
        generation = model.start_chat([{"role": "user", "content": question}], temperature=0, max_new_tokens=60)
        answer = str(generation.read()).strip()
        assert generation.figures.finished == "end" and "INST" not in answer, (question, answer)
        right[kind.is_sum] += answer in answers
        count[kind.is_sum] += 1
    assert right[False] > 0.5 * count[False] and right[True] > 0.6 * count[True], (right, count)


def test_it_answers_in_the_language_that_it_is_spoken_to_in(model: soban.Model) -> None:
    talk = soban.Dialogue(model, temperature=0, max_new_tokens=200)
    for asked in (
        "Hello!",
        "너는 누구야?",
        "What can you do?",
        "고마워!",
        "I am sad today.",
        "2 더하기 3은 뭐야?",
        "Goodbye!",
    ):
        answer = talk.say(asked).read()
        assert bool(re.search("[가-힣]", answer)) == bool(re.search("[가-힣]", asked)), (asked, answer)
