"""Judges what a story model says in conversation: whether its stories hold together and its answers are right.

    python scripts/judge_answers.py                           # the bundled model, 200 of each kind in each language
    python scripts/judge_answers.py out/bundled --count 50 --out docs/bundled-model.md

Stories are asked for by names that the corpus does not hold, and read by the world's own checker. Questions are about
stories that the world tells and the corpus does not hold; right is what the world itself might answer, word for word.
So it is with small talk and sums, which are asked for in wordings and with words that the corpus does not hold; and in
whole conversations, which change between the languages, every turn has to be in the right one, free of the template's
markup, and ended by the model itself.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from judge_stories import BOYS, GIRLS, LIMIT, arguments, asked_for, percent
from judge_stories import HEADING as FINDINGS

import soban
from soban.learn import synthetic
from soban.learn.synthetic.narrator import Narrator
from soban.learn.synthetic.small import Kind, ask, draw_kind, kinds, speaks
from soban.learn.synthetic.table import Language
from soban.learn.synthetic.talk import LEVEL, Message, Talk, listener, questions_of, stage, stranger, turn_of
from soban.learn.synthetic.tell import Story, story_of

HEADING = "## What it answers"
SHORT = 60  # tokens that an answer may have
DRAWS = 20  # of each answer, which may name the colour of a thing or leave it out
WRONG = 3  # answers of each kind that are shown
KINDS = {
    "told": "stories about a name that is asked for: consistent",
    "about": "questions about a story: answered rightly",
    "stranger": "questions about somebody who is not in it: answered rightly",
    "small": "small talk in unseen words: answered rightly",
    "sums": "sums of numbers up to ten in unseen words: right",
    "turns": "turns of conversations: ended by themselves, without markup",
    "spoken": "in the language of the question",
    "changed": "the same after a change of language",
}
TURNS = 10  # of a conversation
CHANGED, STORY = 0.3, 0.15  # turns in the other language than the one before, and requests for a story
MARKUP = re.compile(r"\[/?INST|<<|</?s>|<\||\ufffd")
HANGUL = re.compile("[가-힣]")
# Kinds that say the same: what one of them answers is right for the other
ALIKE = ({"unknown", "capital"}, {"sad", "bored"}, {"hello", "feel"})


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
        narrator, roles = stage(talk)
        yield talk.turn("storyof", narrator, knowing(narrator, roles, "a", names[number % len(names)]))[0]


def questions(language: Language, count: int, chance: random.Random, kind: str) -> Iterator[Asked]:
    """One question about each of so many stories: about what happened, or about a `stranger`."""
    talk = Talk(chance, language, [])
    while count:
        story = story_of(chance, language, level=LEVEL)
        request = talk.turn("story", *stage(talk))[0]
        if pair := about(talk, story) if kind == "about" else about_stranger(talk, story):
            question, right = pair
            said = [("user", request), ("assistant", story.text), ("user", question)]
            yield Asked([{"role": role, "content": text} for role, text in said], right)
            count -= 1


def about(talk: Talk, story: Story) -> tuple[str, set[str]] | None:
    """A question about what happened in a story, with its right answers."""
    possible = list(questions_of(talk, story, listener(story)))
    if not possible:
        return None
    question, _, turn, roles = talk.chance.choice(possible)
    return question, answers(talk, story, turn.answers, roles)


def about_stranger(talk: Talk, story: Story) -> tuple[str, set[str]]:
    """A question about somebody who is not in a story, with its right answers."""
    narrator = listener(story)
    roles = knowing(narrator, story.cast.roles, "c", stranger(talk, story))
    turn = turn_of("stranger", talk.language)
    return talk.say(talk.chance.choice(turn.questions), narrator, roles), answers(talk, story, turn.answers, roles)


def answers(talk: Talk, story: Story, texts: list[str], roles: dict[str, str]) -> set[str]:
    """Every way in which the world might say these answers."""
    possible = set()
    for named_before in (set(), set(roles.values())):
        for text in texts:
            for _ in range(DRAWS):
                narrator = listener(story)
                narrator.chance, narrator.mentioned = talk.chance, set(named_before)
                possible.add(talk.say(text, narrator, roles))
    return possible


def knowing(narrator: Narrator, roles: dict[str, str], role: str, name: str) -> dict[str, str]:
    """The roles with one of them played by a child of that name, who joins the cast."""
    child = next(person for person in narrator.cast.persons.values() if not person.old)
    narrator.cast.persons.setdefault(name, replace(child, name=name, kind=""))
    return {**roles, role: name}


def small_talk(language: Language, count: int, chance: random.Random, sums: bool) -> Iterator[Asked]:
    """So many questions in unseen words, each kind in turn: alone, or after another turn in either language."""
    chosen = [kind for kind in kinds(language).values() if kind.is_sum == sums]
    for number in range(count):
        kind = chosen[number % len(chosen)]
        question, right = ask(chance, language, kind, unseen=True)
        before: list[Message] = []
        if chance.random() < 0.5:
            other: Language = chance.choice(("en", "ko")) if speaks(question) else language
            said, answers = ask(chance, other, draw_kind(chance, other))
            before = [{"role": "user", "content": said}, {"role": "assistant", "content": chance.choice(answers)}]
        yield Asked([*before, {"role": "user", "content": question}], {*right, *alike(language, kind)})


def alike(language: Language, kind: Kind) -> set[str]:
    """The answers of the kinds that say the same as this one."""
    names = {name for group in ALIKE if kind.name in group for name in group}
    return {answer for name in names for answer in kinds(language)[name].answers}


@dataclass
class Turn:
    """A turn of a whole conversation, as it came."""

    question: str
    answer: str
    ended: bool  # by the model itself
    changed: bool  # the turn before was in the other language

    @property
    def clean(self) -> bool:
        """Whether it ended by itself and shows no markup."""
        return self.ended and not MARKUP.search(self.answer)

    @property
    def spoken(self) -> bool:
        """Whether the answer is in the language of the question; an equation is in both."""
        own = bool(HANGUL.search(self.answer))
        return not speaks(self.question) or not speaks(self.answer) or own == bool(HANGUL.search(self.question))


def conversed(model: soban.Model, language: Language, count: int, seed: int, **options: float) -> Iterator[Turn]:
    """Conversations of unseen questions, with requests for stories and changes of the language between them."""
    chance = random.Random(f"{seed} {language} turns")
    for number in range(-(-count // TURNS)):
        dialogue = soban.Dialogue(model, max_new_tokens=LIMIT, seed=seed + number, on_full="slide", **options)
        spoken = language
        for turn in range(min(TURNS, count - number * TURNS)):
            changed = turn > 0 and chance.random() < CHANGED
            if changed:
                spoken = "en" if spoken == "ko" else "ko"
            question = asked_next(chance, spoken)
            reply = dialogue.say(question)
            yield Turn(question, reply.read(), reply.figures.finished == "end", changed)


def asked_next(chance: random.Random, language: Language) -> str:
    """A question in unseen words that is in its language, or a request for a story."""
    if chance.random() < STORY:
        return next(requests(language, 1, chance))
    while True:
        question, _ = ask(chance, language, draw_kind(chance, language), unseen=True)
        if speaks(question):
            return question


def judge(
    model: soban.Model, language: Language, count: int, turns: int, seed: int, **options: float
) -> tuple[dict[str, list[bool]], list[str]]:
    """Which of the stories and answers of each kind are right; and wrong answers, as they came."""
    chance = random.Random(f"{seed} {language} answers")
    outcomes = {"told": list(told(model, language, count, chance, seed, **options))}
    wrong: list[str] = []
    for kind in ("about", "stranger"):
        outcomes[kind], others = answered(model, questions(language, count, chance, kind), seed, **options)
        wrong += others[:WRONG]
    for kind in ("small", "sums"):
        outcomes[kind], others = answered(model, small_talk(language, count, chance, kind == "sums"), seed, **options)
        wrong += others[:WRONG]
    said = list(conversed(model, language, turns, seed, **options))
    outcomes |= {
        "turns": [turn.clean for turn in said],
        "spoken": [turn.spoken for turn in said],
        "changed": [turn.spoken for turn in said if turn.changed],
    }
    others = [f"{turn.question} **{turn.answer.strip()}**" for turn in said if not (turn.clean and turn.spoken)]
    return outcomes, wrong + others[:WRONG]


def told(
    model: soban.Model, language: Language, count: int, chance: random.Random, seed: int, **options: float
) -> Iterator[bool]:
    """Whether each story that is asked for is consistent; a few words may come before it."""
    for number, request in enumerate(requests(language, count, chance)):
        messages = [{"role": "user", "content": request}]
        text = str(model.chat(messages, max_new_tokens=LIMIT, seed=seed + number, **options)).strip()
        after = text.partition("\n")[2]
        yield any(synthetic.check(story, language).consistent for story in (text, after))


def answered(
    model: soban.Model, questions: Iterable[Asked], seed: int, **options: float
) -> tuple[list[bool], list[str]]:
    """Which answers are right; and the others, each with its question and one that would have been right."""
    right, wrong = [], []
    for number, one in enumerate(questions):
        answer = str(model.chat(one.messages, max_new_tokens=SHORT, seed=seed + number, **options)).strip()
        right.append(answer in one.right)
        if answer not in one.right:
            wrong.append(f"{one.messages[-1]['content']} **{answer}** (*{min(one.right)}*)")
    return right, wrong


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=500, help="of conversations, in each language")
    given = parser.parse_args()
    model, own = asked_for(given)
    languages: tuple[Language, ...] = ("en", "ko")
    judged = {language: judge(model, language, given.count, given.turns, given.seed, **own) for language in languages}
    lines = ["| | " + " | ".join(languages) + " |", "|---|---|---|"]
    for kind in KINDS:
        outcomes = [judged[one][0][kind] for one in languages]
        lines.append(f"| {KINDS[kind]} | " + " | ".join(percent(right) if right else "" for right in outcomes) + " |")
    lines += ["", "The first wrong answers of each kind, most with one that would have been right:", ""]
    lines += [f"- {answer}" for one in languages for answer in judged[one][1]]
    text = "\n".join(lines) + "\n"
    if given.out:
        whole = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
        before, mark, after = whole.partition(FINDINGS)
        given.out.write_text(f"{before.partition(HEADING)[0]}{HEADING}\n\n{text}\n{mark}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
