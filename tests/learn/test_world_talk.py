"""Conversations: turns in order, and answers that are true of the story told."""

import re

import pytest

from soban.learn import world
from soban.learn.world.table import Language, events, words
from soban.learn.world.talk import turns

LANGUAGES: tuple[Language, ...] = ("en", "ko")
HANGUL = re.compile("[가-힣]")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_decides_the_conversation_and_the_roles_take_turns(language: Language) -> None:
    for seed in range(60):
        messages = world.conversation(seed, language)
        assert messages == world.conversation(seed, language)
        roles = [message["role"] for message in messages]
        talk = roles[1:] if roles[0] == "system" else roles
        assert talk == ["user", "assistant"] * (len(talk) // 2)
        assert all(message["content"].strip() for message in messages)
        assert not any(re.search(r"[{}~|^]", message["content"]) for message in messages)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_is_in_the_language_of_its_question(language: Language) -> None:
    other = 0
    for seed in range(150):
        messages = [message for message in world.conversation(seed, language) if message["role"] != "system"]
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            assert bool(HANGUL.search(question["content"])) == bool(HANGUL.search(answer["content"])), (
                question,
                answer,
            )
            other += bool(HANGUL.search(question["content"])) != (language == "ko")
    assert other  # small talk in the other language happens


def stories_of(seed: int) -> list[list[dict[str, str]]]:
    """The turns of a conversation after each story."""
    parts: list[list[dict[str, str]]] = []
    for message in world.conversation(seed, "en"):
        if message["role"] == "assistant" and world.check(message["content"].split("\n", 1)[-1], "en").consistent:
            parts.append([message])
        elif message["role"] == "assistant" and world.check(message["content"], "en").consistent:
            parts.append([message])
        elif parts:
            parts[-1].append(message)
    return parts


def test_answers_agree_with_the_story_as_it_is_read_back() -> None:
    asked = 0
    for seed in range(60):
        for told, *rest in stories_of(seed):
            story = told["content"]
            for question, answer in zip(rest, rest[1:], strict=False):
                if question["role"] != "user":
                    continue
                if match := re.match(
                    r"Who (lost something|found|mended|broke|took|helped|gave|saved|taught)", question["content"]
                ):
                    name = re.match(r"(The )?(\w+)", answer["content"])
                    assert name is not None and (match[0] and name[2] in story), (question, answer, story)
                    asked += 1
                if match := re.match(r"How many (\w+) were left", question["content"]):
                    number = re.search(r"had (\w+) left", answer["content"])
                    assert number is not None and f"{number[1]}" in story
                    asked += 1
    assert asked > 10


def test_who_is_not_in_the_story_is_said_to_be_in_none() -> None:
    seen = 0
    for seed in range(200):
        text = " ".join(m["content"] for m in world.conversation(seed, "en"))
        for name in re.findall(r"There is no (\w+) in this story", text):
            seen += 1
            assert not any(
                re.search(rf"\b{name}\b", m["content"])
                for m in world.conversation(seed, "en")
                if m["role"] == "assistant"
                and len(m["content"]) > 200
                and not m["content"].startswith("Once upon a time, there was a " + name)
            )
    assert seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_a_few_hundred_kinds_of_questions_about_events_that_exist(language: Language) -> None:
    kinds = turns(language)
    assert sum(len(turn.questions) for turn in kinds) > 250
    for turn in kinds:
        if turn.kind == "about":
            name, *roles = turn.subject
            assert len(roles) == len(events()[name].roles), turn
        assert turn.answers or turn.subject[0] in ("story", "another", "shorter"), turn


def test_both_languages_answer_the_same_kinds() -> None:
    english, korean = ({(turn.kind, turn.subject) for turn in turns(language)} for language in LANGUAGES)
    assert english == korean
    assert words("en").lists.keys() == words("ko").lists.keys()
