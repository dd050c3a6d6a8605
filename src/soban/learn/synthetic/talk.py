"""Conversations about the world's stories: greetings, requests, questions whose answers come from what happened."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType

from soban.learn.synthetic.narrator import Narrator
from soban.learn.synthetic.plan import INVENTED, draw, invented
from soban.learn.synthetic.rules import agrees, bound
from soban.learn.synthetic.slots import Slot, parts
from soban.learn.synthetic.small import ask, draw_kind, kinds, speaks
from soban.learn.synthetic.table import CLASSES, HERE, Fact, Language, events, lines, words
from soban.learn.synthetic.tell import VOICES, Story, story_of, tell

Message = dict[str, str]

# How often a conversation has such a turn.
SYSTEM, GREETING, SMALL_TALK, ODD, ANOTHER, SHORTER, THANKS, GOODBYE = 0.3, 0.4, 0.3, 0.6, 0.35, 0.2, 0.5, 0.3
BETWEEN = 0.3  # small talk after a story and the questions about it
INTRODUCED = 0.5  # stories that come with a word before them
QUESTIONS = (1, 4)  # about each story
OTHER_LANGUAGE = 0.15  # small talk in the other language, answered in it
CHAT = (1, 9)  # turns of a conversation that is mostly small talk,
TOLD = 0.35  # in which a story may be asked for, too
SUMS = (4, 10)  # turns of a conversation of sums alone
SWITCHED = (0.1, 0.35)  # the language of the first story, and of another one, to what was spoken before
ODD_ONES = ("stranger", "stranger", "stranger", "unsaid", "unknown")  # whom nobody named is easily taken for a hero
REQUESTS = ("story", "story", "storyof", "storykind", "storything")
NOBODY = 0.1  # small talk about somebody of whom no story has been told
LEVEL = "어요"  # a conversation's stories in Korean


@dataclass(frozen=True)
class Turn:
    """Questions of one kind and their answers; `subject` is the event or fact that they are about, with its roles."""

    kind: str  # "turn", "about" or "after"
    subject: Fact
    questions: list[str]
    answers: list[str]


@cache
def turns(language: Language) -> list[Turn]:
    """All kinds of turns of a language."""
    table: list[Turn] = []
    for line in lines(HERE / language / "talk.txt"):
        mark, _, rest = line.partition(" ")
        if mark == "?":
            table[-1].questions.append(rest)
        elif mark == "=":
            table[-1].answers.append(rest)
        else:
            table.append(Turn(mark, tuple(rest.split()), [], []))
    return table


def turn_of(name: str, language: Language) -> Turn:
    """The turn that is said at any time by that name."""
    return next(turn for turn in turns(language) if turn.kind == "turn" and turn.subject == (name,))


@dataclass
class Talk:
    """A conversation as it grows."""

    chance: random.Random
    language: Language
    messages: list[Message]

    def add(self, question: str, answer: str) -> None:
        """A question and its answer."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def say(self, text: str, narrator: Narrator, roles: dict[str, str]) -> str:
        """A line with its gaps filled."""
        return filled(text, narrator, roles, VOICES[self.language])

    def turn(self, name: str, narrator: Narrator, roles: dict[str, str]) -> tuple[str, str]:
        """A question of a kind and one of its answers ("" where a story is the answer)."""
        kind = turn_of(name, self.language)
        question, answer = self.chance.choice(kind.questions or [""]), self.chance.choice(kind.answers or [""])
        return self.say(question, narrator, roles), self.say(answer, narrator, roles)

    def small(self, name: str) -> None:
        """A question of a kind of small talk and one of its answers."""
        question, answers = ask(self.chance, self.language, kinds(self.language)[name])
        self.add(question, self.chance.choice(answers))


def conversation(seed: int, language: Language) -> list[Message]:
    """The conversation of a seed: messages with `role` (system, user, assistant) and `content`."""
    return draw_conversation(random.Random(f"{seed} {language} talk"), language)


def conversations(seed: int, language: Language) -> Iterator[list[Message]]:
    """Conversations without end; the same seed and language give the same ones."""
    chance = random.Random(f"{seed} {language} talks")
    while True:
        yield draw_conversation(chance, language)


def small_conversations(seed: int, language: Language) -> Iterator[list[Message]]:
    """Conversations of small talk without end; the same seed and language give the same ones."""
    chance = random.Random(f"{seed} {language} small talks")
    while True:
        yield draw_small_conversation(chance, language)


def sum_conversations(seed: int, language: Language) -> Iterator[list[Message]]:
    """Conversations of sums and what is taken for one, without end, now and then in the other language."""
    chance = random.Random(f"{seed} {language} sums")
    while True:
        talk = Talk(chance, language, [])
        for _ in range(chance.randint(*SUMS)):
            if chance.random() < OTHER_LANGUAGE:
                talk = switched(talk)
            by_name = kinds(talk.language)
            talk.small(chance.choice([name for name, kind in by_name.items() if kind.is_sum or name == "hard"]))
        yield talk.messages


def draw_small_conversation(chance: random.Random, language: Language) -> list[Message]:
    """Turns that are about no story, in one language or in both, and perhaps a story among them."""
    talk = Talk(chance, language, [])
    if chance.random() < SYSTEM:
        talk.messages.append({"role": "system", "content": talk.turn("system", *stage(talk))[1]})
    count = chance.randint(*CHAT)
    story = chance.randrange(count) if chance.random() < TOLD else None
    for number in range(count):
        if chance.random() < OTHER_LANGUAGE:
            talk = switched(talk)
        if number == story:
            request(talk, chance.choice(REQUESTS))
        small_talk(talk)
    return talk.messages


def draw_conversation(chance: random.Random, language: Language) -> list[Message]:
    """Small talk, a story, questions about it, perhaps another one, thanks and goodbye."""
    talk = Talk(chance, language, [])
    if chance.random() < SYSTEM:
        talk.messages.append({"role": "system", "content": talk.turn("system", *stage(talk))[1]})
    if chance.random() < GREETING:
        talk.small("hello")
    if chance.random() < SMALL_TALK:
        small_talk(talk)
    if chance.random() < SWITCHED[0]:
        talk = switched(talk)
    story = request(talk, chance.choice(REQUESTS))
    if chance.random() < BETWEEN:
        small_talk(talk)
    if chance.random() < ANOTHER:
        again = chance.random() >= SWITCHED[1]
        talk = talk if again else switched(talk)
        story = request(talk, "another" if again else chance.choice(("another", *REQUESTS)))
    if chance.random() < SHORTER:
        talk.add(talk.turn("shorter", *stage(talk))[0], shortened(chance, story))
    if chance.random() < THANKS:
        talk.small("thanks")
    if chance.random() < GOODBYE:
        talk.small("bye")
    return talk.messages


def switched(talk: Talk) -> Talk:
    """The same conversation, gone on with in the other language."""
    return replace(talk, language="ko" if talk.language == "en" else "en")


def small_talk(talk: Talk) -> None:
    """One turn that is about no story, now and then in the other language and answered in it."""
    speaker = switched(talk) if talk.chance.random() < OTHER_LANGUAGE else talk
    if talk.chance.random() < NOBODY:
        speaker.add(*speaker.turn("nobody", *stage(speaker)))
        return
    kind = draw_kind(talk.chance, speaker.language)
    question, answers = ask(talk.chance, speaker.language, kind)
    if speaks(question) or speaker is talk:
        speaker.add(question, talk.chance.choice(answers))


def request(talk: Talk, kind: str) -> Story:
    """A story on request, and questions about it."""
    story = story_of(talk.chance, talk.language, level=LEVEL)
    hero = story.cast.persons[story.cast.roles["a"]]
    has_thing = words(talk.language).get("thing", story.cast.roles["t"]) in story.text
    if (kind == "storykind" and not hero.kind) or (kind == "storything" and not has_thing):
        kind = "storyof"
    narrator = listener(story)
    question, before = talk.turn(kind, narrator, story.cast.roles)
    talk.add(question, f"{before}\n{story.text}" if before and talk.chance.random() < INTRODUCED else story.text)
    pairs = list(dict.fromkeys(questions(talk, story, narrator)))
    for pair in talk.chance.sample(pairs, min(len(pairs), talk.chance.randint(*QUESTIONS))):
        talk.add(*pair)
    if talk.chance.random() < ODD:
        name = stranger(talk, story)
        narrator.cast.persons[name] = replace(hero, name=name, kind="")
        odd = talk.chance.choice(ODD_ONES)
        if odd == "unknown":
            talk.small(odd)
        else:
            talk.add(*talk.turn(odd, narrator, {**story.cast.roles, "c": name}))
    return story


def questions(talk: Talk, story: Story, narrator: Narrator) -> Iterator[tuple[str, str]]:
    """One question with its answer for everything that happened, and for what is so at the end."""
    yield from ((question, answer) for question, answer, _, _ in questions_of(talk, story, narrator))


def questions_of(talk: Talk, story: Story, narrator: Narrator) -> Iterator[tuple[str, str, Turn, dict[str, str]]]:
    """The same with what each question is about: a turn and its roles.

    A question that two things answer differently ("Where did she go?") is asked of none.
    """
    candidates = []
    for turn in turns(talk.language):
        for roles in subjects(turn, story):
            question = talk.say(talk.chance.choice(turn.questions), narrator, roles)
            narrator.mentioned.clear()
            answer = talk.say(talk.chance.choice(turn.answers), narrator, roles)
            candidates.append((question, answer, turn, roles))
    possible = [
        other
        for turn in turns(talk.language)
        for roles in subjects(turn, story)
        for other in every(talk, turn, narrator, roles)
    ]
    yield from (one for one in candidates if possible.count(one[0]) == 1)


def every(talk: Talk, turn: Turn, narrator: Narrator, roles: dict[str, str]) -> list[str]:
    """All the questions of a turn."""
    return [talk.say(question, narrator, roles) for question in turn.questions]


def subjects(turn: Turn, story: Story) -> Iterator[dict[str, str]]:
    """The roles for which a turn makes sense after a story."""
    if turn.kind == "about":
        name, *letters = turn.subject
        for happening in story.chain:
            if happening.event == name:
                yield dict(zip(letters, happening.roles.values(), strict=True))
    elif turn.kind == "after":
        pattern = bound(turn.subject, {})
        for fact in sorted(story.facts):
            if agrees(pattern, fact):
                roles = dict(zip(turn.subject[1:], fact[1:], strict=True))
                # What the story names only in its plan is no subject
                if all(CLASSES[role] != "thing" or key == story.cast.roles["t"] for role, key in roles.items()):
                    yield roles


def stranger(talk: Talk, story: Story) -> str:
    """A name that is not in the story."""
    vocabulary = words(talk.language)
    if talk.chance.random() < INVENTED:
        return invented(talk.chance, vocabulary, story.text)
    return talk.chance.choice(
        [name for name in vocabulary.lists["girls"] + vocabulary.lists["boys"] if name not in story.text]
    )


def shortened(chance: random.Random, story: Story) -> str:
    """The story in its most important events."""
    ends = {story.chain[0].event, story.chain[-1].event}
    chain = [h for h in story.chain if events()[h.event].core or h.event in ends]
    return tell(chance, story.cast, chain, story.language, LEVEL, story.familiar).text


def listener(story: Story) -> Narrator:
    """What somebody keeps in mind who has heard the story: everybody is known by name."""
    return Narrator(random.Random(story.text), story.cast, "", story.familiar, friendly=False, state={("told",): None})


def stage(talk: Talk) -> tuple[Narrator, dict[str, str]]:
    """A cast for a turn that is about no story."""
    cast = draw(talk.chance, talk.language)
    narrator = Narrator(talk.chance, cast, "", familiar=False, friendly=False, state={("told",): None})
    return narrator, cast.roles


def filled(text: str, narrator: Narrator, roles: dict[str, str], voice: ModuleType) -> str:
    """A line with its gaps filled."""
    pieces = parts(text)
    line = "".join(
        voice.say(narrator, piece, roles[piece.role]) if isinstance(piece, Slot) else piece for piece in pieces
    )
    return str(voice.finish(line, LEVEL))
