"""Judges what a story model says in conversation: whether its stories hold together and its answers are right.

    python scripts/judge_answers.py                           # the bundled model, 200 of each kind in each language
    python scripts/judge_answers.py out/bundled --count 50 --out docs/bundled-model.md

Stories are asked for by names that the corpus does not hold, and read by the world's own checker. Questions are about
stories that the world tells and the corpus does not hold; right is what the world itself might answer, word for word.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from judge_stories import BOYS, GIRLS, LIMIT, arguments, asked_for, percent
from judge_stories import HEADING as FINDINGS

import soban
from soban.learn import world
from soban.learn.world.table import Language
from soban.learn.world.talk import LEVEL, Message, Talk, listener, meant, named, stage, stranger
from soban.learn.world.tell import Story, Telling, story_of

HEADING = "## What it answers"
SHORT = 60  # tokens that an answer may have
DRAWS = 20  # of each answer, which may name the colour of a thing or leave it out
WRONG = 5  # answers that are shown
KINDS = {
    "told": "stories about a name that is asked for: consistent",
    "about": "questions about a story: answered rightly",
    "stranger": "questions about somebody who is not in it: answered rightly",
}


@dataclass
class Asked:
    """A conversation that ends with a question, and all that would be right to answer."""

    messages: list[Message]
    right: set[str]


def requests(language: Language, count: int, chance: random.Random) -> Iterator[str]:
    """Requests for stories about somebody whom the corpus does not know."""
    talk = Talk(chance, language, [])
    for number in range(count):
        names = GIRLS[language] + BOYS[language]
        telling, roles = stage(talk)
        yield talk.turn("storyof", telling, knowing(telling, roles, "a", names[number % len(names)]))[0]


def questions(language: Language, count: int, chance: random.Random, kind: str) -> Iterator[Asked]:
    """One question about each of so many stories: about what happened, or about a `stranger`."""
    talk = Talk(chance, language, [])
    while count:
        story = story_of(chance, language, level=LEVEL)
        request = talk.turn("story", *stage(talk))[0]
        if asked := about(talk, story) if kind == "about" else about_stranger(talk, story):
            question, right = asked
            said = [("user", request), ("assistant", story.text), ("user", question)]
            yield Asked([{"role": role, "content": text} for role, text in said], right)
            count -= 1


def about(talk: Talk, story: Story) -> tuple[str, set[str]] | None:
    """A question about what happened in a story, with its right answers."""
    possible = list(meant(talk, story, listener(story)))
    if not possible:
        return None
    question, _, turn, roles = talk.chance.choice(possible)
    return question, answers(talk, story, turn.answers, roles)


def about_stranger(talk: Talk, story: Story) -> tuple[str, set[str]]:
    """A question about somebody who is not in a story, with its right answers."""
    telling = listener(story)
    roles = knowing(telling, story.cast.roles, "c", stranger(talk, story))
    turn = named("stranger", talk.language)
    return talk.say(talk.chance.choice(turn.questions), telling, roles), answers(talk, story, turn.answers, roles)


def answers(talk: Talk, story: Story, texts: list[str], roles: dict[str, str]) -> set[str]:
    """Every way in which the world might say these answers."""
    found = set()
    for named_before in (set(), set(roles.values())):
        for text in texts:
            for _ in range(DRAWS):
                telling = listener(story)
                telling.chance, telling.mentioned = talk.chance, set(named_before)
                found.add(talk.say(text, telling, roles))
    return found


def knowing(telling: Telling, roles: dict[str, str], role: str, name: str) -> dict[str, str]:
    """The roles with one of them played by a child of that name, who joins the cast."""
    child = next(person for person in telling.cast.persons.values() if not person.old)
    telling.cast.persons.setdefault(name, replace(child, name=name, kind=""))
    return {**roles, role: name}


def judge(
    model: soban.Model, language: Language, count: int, seed: int, **options: float
) -> tuple[dict[str, list[bool]], list[str]]:
    """Which of the stories and answers of each kind are right; and wrong answers, as they came."""
    chance = random.Random(f"{seed} {language} answers")
    found = {"told": list(told(model, language, count, chance, seed, **options))}
    wrong: list[str] = []
    for kind in ("about", "stranger"):
        found[kind], others = answered(model, questions(language, count, chance, kind), seed, **options)
        wrong += others
    return found, wrong


def told(
    model: soban.Model, language: Language, count: int, chance: random.Random, seed: int, **options: float
) -> Iterator[bool]:
    """Whether each story that is asked for is consistent; a few words may come before it."""
    for number, request in enumerate(requests(language, count, chance)):
        asked = [{"role": "user", "content": request}]
        text = str(model.chat(asked, max_new_tokens=LIMIT, seed=seed + number, **options)).strip()
        after = text.partition("\n")[2]
        yield any(world.check(story, language).consistent for story in (text, after))


def answered(model: soban.Model, asked: Iterable[Asked], seed: int, **options: float) -> tuple[list[bool], list[str]]:
    """Which answers are right; and the others, each with its question and one that would have been right."""
    right, wrong = [], []
    for number, one in enumerate(asked):
        answer = str(model.chat(one.messages, max_new_tokens=SHORT, seed=seed + number, **options)).strip()
        right.append(answer in one.right)
        if answer not in one.right:
            wrong.append(f"{one.messages[-1]['content']} **{answer}** (*{min(one.right)}*)")
    return right, wrong


def main() -> None:
    given = arguments(__doc__).parse_args()
    model, own = asked_for(given)
    languages: tuple[Language, ...] = ("en", "ko")
    judged = {language: judge(model, language, given.count, given.seed, **own) for language in languages}
    lines = ["| | " + " | ".join(languages) + " |", "|---|---|---|"]
    lines += [
        f"| {KINDS[kind]} | " + " | ".join(percent(judged[one][0][kind]) for one in languages) + " |" for kind in KINDS
    ]
    lines += ["", "The first wrong answers, each with one that would have been right:", ""]
    lines += [f"- {answer}" for one in languages for answer in judged[one][1][:WRONG]]
    text = "\n".join(lines) + "\n"
    if given.out:
        whole = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
        before, mark, after = whole.partition(FINDINGS)
        given.out.write_text(f"{before.partition(HEADING)[0]}{HEADING}\n\n{text}\n{mark}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
