"""Conversations: turns in order, and answers that are true of the story told."""

import random
import re
from itertools import pairwise

import pytest

from soban.learn import synthetic
from soban.learn.synthetic.small import speaks
from soban.learn.synthetic.table import CLASSES, Language, events, words
from soban.learn.synthetic.talk import LEVEL, Talk, listener, questions_of, turns
from soban.learn.synthetic.tell import story_of
from tests.scripts import script

LANGUAGES: tuple[Language, ...] = ("en", "ko")
HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_decides_the_conversation_and_the_roles_take_turns(language: Language) -> None:
    for seed in range(60):
        messages = synthetic.conversation(seed, language)
        assert messages == synthetic.conversation(seed, language)
        roles = [message["role"] for message in messages]
        talk = roles[1:] if roles[0] == "system" else roles
        assert talk == ["user", "assistant"] * (len(talk) // 2)
        assert all(message["content"].strip() for message in messages)
        assert not any(re.search(r"[{}~|^]", message["content"]) for message in messages)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_is_in_the_language_of_its_question(language: Language) -> None:
    other = 0
    for seed in range(150):
        messages = [message for message in synthetic.conversation(seed, language) if message["role"] != "system"]
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            if not speaks(question["content"]) or not speaks(answer["content"]):
                continue
            assert bool(HANGUL.search(question["content"])) == bool(HANGUL.search(answer["content"])), (
                question,
                answer,
            )
            other += bool(HANGUL.search(question["content"])) != (language == "ko")
    assert other  # small talk in the other language happens


def test_another_story_may_be_asked_for_in_the_other_language() -> None:
    languages = []
    for seed in range(150):
        answers = [m["content"] for m in synthetic.conversation(seed, "en") if m["role"] == "assistant"]
        languages.append({bool(HANGUL.search(answer)) for answer in answers if len(answer) > 200})
    assert {False, True} in languages and {False} in languages and {True} in languages


class Parrot:
    """A model that gives the answers it was made with, in turns."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers

    def chat(self, messages: object, **_: object) -> str:
        return self.answers.pop(0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_judge_takes_the_worlds_own_answers_and_no_others(language: Language) -> None:
    judge = script("judge_answers")
    questions = {
        kind: list(judge.questions(language, 40, random.Random(f"1 {language} {kind}"), kind))
        for kind in ("about", "stranger")
    }
    for kind, conversations in questions.items():
        for one in conversations:
            assert [message["role"] for message in one.messages] == ["user", "assistant", "user"]
        rightly = [min(one.right) for one in conversations]
        assert judge.answered(Parrot(rightly), conversations, 0)[0] == [True] * 40
        wrongly = [min(one.right) for one in (*conversations[1:], conversations[0])]
        assert sum(judge.answered(Parrot(wrongly), conversations, 0)[0]) < 10, kind


def test_the_judge_reads_stories_with_and_without_words_before_them() -> None:
    judge = script("judge_answers")
    stories = [story_of(random.Random(seed), "en").text for seed in range(20)]
    introduced = [f"Here is a story about somebody.\n{story}" for story in stories]
    others = [" ".join(story.split()[:-9]) for story in stories]
    for texts, least, most in ((stories, 19, 20), (introduced, 19, 20), (others, 0, 1)):
        assert least <= sum(judge.told(Parrot(texts), "en", 20, random.Random(0), 0)) <= most


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_world_answers_is_right(language: Language) -> None:
    judge, chance = script("judge_answers"), random.Random(3)
    talk = Talk(chance, language, [])
    for _ in range(30):
        story = story_of(chance, language, level=LEVEL)
        for _, answer, turn, roles in questions_of(talk, story, listener(story)):
            assert answer in judge.answers(talk, story, turn.answers, roles)


def stories_of(seed: int) -> list[list[dict[str, str]]]:
    """The stories of a conversation, each with the turns that follow it."""
    blocks: list[list[dict[str, str]]] = []
    for message in synthetic.conversation(seed, "en"):
        story = message["content"].removeprefix("Of course! ")
        story = re.sub(r"^(Here is|This is a story|I know a story)[^\n]*\n", "", story)
        if message["role"] == "assistant" and len(story) > 250:
            blocks.append([{"role": "assistant", "content": story}])
        elif blocks:
            blocks[-1].append(message)
    return blocks


# What a question asks for, as the event and the role in which the story, read back, has the answer.
ASKED = {
    r"What did \w+ lose\?": ("lose", "t"),
    r"Who found the": ("find", "a"),
    r"Where was the [\w ]+ stuck": ("catch", "h"),
    r"Who mended the": ("mend", "e"),
    r"Who broke the": ("breakby", "b"),
    r"Who took the": ("snatch", "b"),
    r"Who saved": ("rescue", "a"),
    r"How many [\w ]+ were left": ("share", "m"),
    r"How many [\w ]+ did \w+ have": ("have", "n"),
    r"What was \w+ afraid of": ("afraid", "x"),
    r"Who was ill": ("sick", "e"),
    r"Whose birthday": ("birthday", "b"),
    r"What did \w+ want to learn": ("wantskill", "k"),
    r"What grew": ("bloom", "v"),
    r"Who brought \w+ home": ("guide", "b"),
}


def test_answers_agree_with_the_story_as_it_is_read_back() -> None:
    count = 0
    for seed in range(150):
        for story, *rest in stories_of(seed):
            for question, answer in pairwise(rest):
                kind = next((k for k in ASKED if question["role"] == "user" and re.match(k, question["content"])), None)
                if kind is None:
                    continue
                event, role = ASKED[kind]
                read = synthetic.check(story["content"], "en").events
                key = next((h.roles[role] for h in read if h.event == event and role in h.roles), None)
                if key is None:
                    continue
                word = key if CLASSES[role] == "person" else words("en").get(CLASSES[role], key)
                assert word in answer["content"], (story, question, answer)
                count += 1
    assert count > 10


def test_who_is_not_in_the_story_is_said_to_be_in_none() -> None:
    seen = 0
    for seed in range(200):
        text = " ".join(m["content"] for m in synthetic.conversation(seed, "en"))
        for name in re.findall(r"There is no (\w+) in this story", text):
            seen += 1
            assert not any(
                re.search(rf"\b{name}\b", m["content"])
                for m in synthetic.conversation(seed, "en")
                if m["role"] == "assistant"
                and len(m["content"]) > 200
                and not m["content"].startswith("Once upon a time, there was a " + name)
            )
    assert seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_a_few_hundred_kinds_of_questions_about_events_that_exist(language: Language) -> None:
    kinds = turns(language)
    assert sum(len(turn.questions) for turn in kinds) > 200
    for turn in kinds:
        if turn.kind == "about":
            name, *roles = turn.subject
            assert len(roles) == len(events()[name].roles), turn
        assert turn.answers or turn.subject[0] in ("story", "another", "shorter"), turn


def test_both_languages_answer_the_same_kinds() -> None:
    english, korean = ({(turn.kind, turn.subject) for turn in turns(language)} for language in LANGUAGES)
    assert english == korean
    lists = [{name for name in words(language).lists if not name.startswith("name_")} for language in LANGUAGES]
    assert lists[0] == lists[1]
