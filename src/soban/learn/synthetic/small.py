"""Talk that is about no story: greetings, moods, small sums, and what the teller does not know or cannot do."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from soban.learn.synthetic.korean import with_particle
from soban.learn.synthetic.plan import INVENTED, invented
from soban.learn.synthetic.table import CHOICE, HERE, Language, lines, words

GAP = re.compile(r"<(\w+)(?::(\w+))?>|\{([xyz])(?::(\w+))?\}")
CASUAL = 0.2  # questions that are typed in haste: no capital, no full stop
SHORT_FORMS = (
    ("I am ", "I'm "), ("It is ", "It's "), ("What is ", "What's "), ("Who is ", "Who's "), ("You are ", "You're "),
    ("That is ", "That's "), (" do not ", " don't "), ("Let us ", "Let's "), (" cannot ", " can't "),
)  # fmt: skip
TEN = 10  # the largest number that is added or taken away
# How often each kind is talked of; the others have 1
WEIGHTS = {
    "plus": 8.0, "plus digits": 5.0, "minus": 7.0, "minus digits": 4.0, "below": 2.0, "hard": 2.5, "unknown": 5.0,
    "capital": 2.5, "cannot": 3.0, "hello": 2.0, "sad": 1.5, "glad": 1.5, "mine": 1.5, "food": 1.5, "machine": 1.5,
}  # fmt: skip
# Numbers above ten: of how many digits, and how often
BIG = ((11, 99, 0.6), (100, 999, 0.25), (1000, 9999, 0.15))
Form = Literal["digits", "numbers", "sino", "native"]
FORMS: Mapping[Language, tuple[Form, ...]] = {"en": ("digits", "numbers"), "ko": ("digits", "sino", "native")}


@dataclass(frozen=True)
class Kind:
    """Questions of one kind and their answers. `unseen`: wordings that are kept for judging."""

    name: str
    is_sum: bool
    questions: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sum:
    """Two numbers and their sum or difference, in digits or words."""

    values: Mapping[str, int]
    form: Form

    def write(self, letter: str, particle: str | None, language: Language) -> str:
        """The number of a gap; a particle goes by how the number is read."""
        value = self.values[letter]
        if self.form == "digits":
            return str(value) + read_particle(value, particle)
        text = lists(language)[self.form][value]
        return with_particle(text, particle) if particle else text


@cache
def read(language: Language) -> tuple[Mapping[str, Kind], Mapping[str, list[str]]]:
    """The kinds and the lists of words of a language's small.txt."""
    kinds: dict[str, Kind] = {}
    word_lists: dict[str, list[str]] = {}
    kind = Kind("", is_sum=False)
    for line in lines(HERE / language / "small.txt"):
        mark, _, rest = line.partition(" ")
        if mark in ("list", "unseen"):
            name, _, members = rest.partition(": ")
            word_lists[name if mark == "list" else f"unseen {name}"] = members.split(", ")
        elif mark in ("small", "sum"):
            kinds[rest] = kind = Kind(rest, mark == "sum")
        else:
            {"?": kind.questions, "!": kind.unseen, "=": kind.answers}[mark].append(rest)
    return kinds, word_lists


def kinds(language: Language) -> Mapping[str, Kind]:
    """All kinds of small talk by name."""
    return read(language)[0]


def lists(language: Language) -> Mapping[str, list[str]]:
    """The lists of words that fill the gaps of small talk."""
    return read(language)[1]


@dataclass
class Filling:
    """What stands in the gaps of one question and its answer."""

    chance: random.Random
    language: Language
    unseen: bool
    sum: Sum
    name: str

    def fill(self, text: str) -> str:
        """The text with choices made and gaps filled."""
        choice = CHOICE.sub(lambda match: self.chance.choice(match[1].split("|")), text)
        sentence = re.sub(" +", " ", GAP.sub(self.gap, choice)).strip()
        return sentence[0].upper() + sentence[1:]

    def gap(self, match: re.Match[str]) -> str:
        """The word of one gap."""
        kind, particle, letter, after = match.groups()
        if letter:
            return self.sum.write(letter, after, self.language)
        if kind == "big":
            low, high, _ = self.chance.choices(BIG, [share for *_, share in BIG])[0]
            value = self.chance.randint(low, high)
            return str(value) + read_particle(value, particle)
        word = self.word(kind)
        return with_particle(word, particle) if particle else word

    def word(self, kind: str) -> str:
        """A name, a word that is none, or one of a list."""
        if kind == "name":
            return self.name
        if kind == "odd":
            return invented(self.chance, words(self.language), ()).lower()
        word_lists = lists(self.language)
        return self.chance.choice(word_lists[f"unseen {kind}" if self.unseen else kind])


def draw_kind(chance: random.Random, language: Language) -> Kind:
    """A kind of small talk."""
    by_name = kinds(language)
    return chance.choices(list(by_name.values()), [WEIGHTS.get(name, 1.0) for name in by_name])[0]


def speaks(question: str) -> bool:
    """Whether a question is in a language: 12*12 is in none."""
    return any(letter.isalpha() and letter != "x" for letter in question)


def ask(chance: random.Random, language: Language, kind: Kind, unseen: bool = False) -> tuple[str, list[str]]:
    """A question of a kind and all its answers; `unseen`: in words that are kept for judging."""
    numbers = draw_sum(chance, language, kind)
    filling = Filling(chance, language, unseen, numbers, draw_name(chance, language, unseen))
    question = filling.fill(chance.choice(kind.unseen if unseen else kind.questions))
    answers = [filling.fill(answer) for answer in kind.answers]
    return question if unseen else casual(chance, question), answers


def draw_sum(chance: random.Random, language: Language, kind: Kind) -> Sum:
    """Numbers up to ten; what is taken away is no more than what there is, but for sums that cannot be."""
    form = "digits" if kind.name.endswith("digits") else chance.choice(FORMS[language])
    x, y = chance.randint(0, TEN), chance.randint(0, TEN)
    if kind.name.startswith("minus"):
        x, y = max(x, y), min(x, y)
        return Sum({"x": x, "y": y, "z": x - y}, form)
    if kind.name == "below":
        x, y = sorted(chance.sample(range(TEN + 1), 2))
    return Sum({"x": x, "y": y, "z": x + y}, form)


def draw_name(chance: random.Random, language: Language, unseen: bool) -> str:
    """The name of whoever talks."""
    vocabulary = words(language)
    if unseen:
        return chance.choice(vocabulary.lists["unseen"])
    if chance.random() < INVENTED:
        return invented(chance, vocabulary, ())
    return chance.choice(vocabulary.lists["girls"] + vocabulary.lists["boys"])


def casual(chance: random.Random, question: str) -> str:
    """The question, now and then as it is typed in haste."""
    for long, short in SHORT_FORMS:
        if long in question and chance.random() < 0.5:
            question = question.replace(long, short)
    if chance.random() < CASUAL:
        question = question.rstrip(" .?!") or question
    if chance.random() < CASUAL:
        question = question[0].lower() + question[1:]
    return question


def read_particle(value: int, particle: str | None) -> str:
    """A particle after a number in digits, by the sound of its last digit as it is read; "" where there is none."""
    if not particle:
        return ""
    # A last 0 stands for 십, 백 or 천, which end in a consonant, as 영 does
    digit = lists("ko")["sino"][value % 10]
    return with_particle(digit, particle)[len(digit) :]
