"""A story before it is told: who and what is in it, and a chain of events from a want to its fulfilment."""

import random
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from soban.learn.synthetic.rules import Binding, State, happen, satisfy, strangers, unfulfilled
from soban.learn.synthetic.table import CLASSES, Language, Step, Words, events, plots, words

CHILDREN = 0.6  # the share of stories about children; the others are about animals
MIXED = 0.35  # how often a child meets an animal
# How often a name is made up: whoever learns from the stories must see that a name can be anything, and look back. Of
# the others it is less: whoever has to make up a name of its own, out of so many, is tempted to repeat the hero's
INVENTED, INVENTED_LATER = 0.6, 0.2
SHORT = 0.25  # of them, names of one syllable
ALIKE = 0.5  # and of two syllables of which one is a known name's, where writing need not go on as in that


@dataclass(frozen=True)
class Person:
    """A character; `name` tells it from the others."""

    name: str
    gender: Literal["girl", "boy"]
    kind: str = ""  # an animal's kind; a child has none, nor has an elder
    trait: str = ""
    old: bool = False


@dataclass(frozen=True)
class Cast:
    """Whom and what the roles of a story stand for: keys of the words' tables, and names of persons."""

    roles: dict[str, str]
    persons: dict[str, Person]
    colours: dict[str, str]


@dataclass(frozen=True)
class Happening:
    """An event with whom and what its roles stand for."""

    event: str
    roles: dict[str, str]
    filled: Binding = field(default_factory=dict)  # also the roles that only its needs name, as where it happens


def draw(chance: random.Random, language: Language) -> Cast:
    """The cast of a story."""
    vocabulary = words(language)
    child = chance.random() < CHILDREN
    persons: dict[str, Person] = {}
    roles = {}
    for role in "abc":
        person = character(chance, vocabulary, child and (role == "a" or chance.random() > MIXED), persons)
        roles[role] = person.name
        persons[person.name] = person
    gender = chance.choice(("girl", "boy"))
    elder = chance.choice(vocabulary.lists["elder_women" if gender == "girl" else "elder_men"])
    roles["e"] = elder
    persons[elder] = Person(elder, gender, old=True)  # type: ignore[arg-type]
    for letter, kind in (("t", "thing"), ("h", "high"), ("k", "skill"), ("x", "fear"), ("g", "fruit"), ("y", "trap")):
        roles[letter] = chance.choice(list(vocabulary.classes[kind]))
    for letter, kind in (("z", "lure"), ("j", "chore"), ("v", "flower"), ("w", "weather"), ("i", "ingredient")):
        roles[letter] = chance.choice(list(vocabulary.classes[kind]))
    roles["f"] = roles["i"].split("-")[0]
    roles["p"], roles["q"] = chance.sample([place for place in vocabulary.classes["place"] if place != "home"], 2)
    spots = [spot for spot in vocabulary.classes["spot"] if spot.startswith(roles["p"] + "-")]
    roles |= dict(zip("sro", chance.sample(spots, 3), strict=True))
    number = chance.randint(2, 5)
    roles |= {"n": str(number), "m": str(number - 1)}
    return Cast(roles, persons, {roles["t"]: chance.choice(vocabulary.lists["colours"])})


def character(chance: random.Random, vocabulary: Words, child: bool, others: dict[str, Person]) -> Person:
    """A child or an animal that is none of the others."""
    gender: Literal["girl", "boy"] = "girl" if chance.random() < 0.5 else "boy"
    lists = vocabulary.lists
    trait = chance.choice(lists["traits"])
    names = lists[f"{gender}s" if child else f"animal_{gender}s"]
    name = chance.choice([name for name in names if name not in others])
    if chance.random() < (INVENTED_LATER if others else INVENTED):
        name = invented(chance, vocabulary, others)
    kinds = {person.kind for person in others.values()}
    kind = "" if child else chance.choice([kind for kind in lists["animals"] if kind not in kinds])
    return Person(name, gender, kind, trait)


def invented(chance: random.Random, vocabulary: Words, others: Container[str]) -> str:
    """A name that is no word of the language's stories, in no list, and not kept for judging."""
    while True:
        name = spelled(chance, vocabulary.lists)
        never = any(part in name.lower() for part in vocabulary.lists["name_never"])
        if not never and len(name) > 1 and name not in others and name.lower() not in vocabulary.spoken:
            return name


def spelled(chance: random.Random, lists: Mapping[str, list[str]]) -> str:
    """A name of two syllables of a list, or put together from sounds."""
    if "name_sounds" in lists:
        syllables = [chance.choice(lists["name_sounds"]) for _ in range(2)]
        if chance.random() < ALIKE:
            place = chance.randrange(2)
            syllables[place] = chance.choice([name for name in lists["girls"] + lists["boys"] if len(name) == 2])[place]
        return "".join(syllables)
    short = chance.random() < SHORT
    parts = ("onsets", "vowels", "codas") if short else ("onsets", "vowels", "middles", "ends")
    return "".join(chance.choice(lists[f"name_{part}"]) for part in parts).replace("-", "").capitalize()


def chain(chance: random.Random, cast: Cast) -> list[Happening]:
    """A chain of events in which every event can happen when its turn comes, and every goal comes true."""
    old = frozenset(name for name, person in cast.persons.items() if person.old)
    whole = Step("story", "", goal=True, optional=False)
    for happenings, state in expand(chance, [whole], [], {}, cast, old):
        if not unfulfilled(state):
            return happenings
    raise ValueError("no plot is possible for this cast")


def expand(
    chance: random.Random, steps: list[Step], happenings: list[Happening], state: State, cast: Cast, old: frozenset[str]
) -> Iterator[tuple[list[Happening], State]]:
    """Every way to carry the steps out, in random order: goals are replaced by their steps, events must be possible."""
    if not steps:
        yield happenings, state
        return
    step, rest = steps[0], steps[1:]
    if step.optional and chance.random() < 0.5:
        yield from expand(chance, rest, happenings, state, cast, old)
        return
    if step.goal:
        alternatives = plots()[step.name]
        for alternative in chance.sample(alternatives, len(alternatives)):
            yield from expand(chance, [*alternative, *rest], happenings, state, cast, old)
        return
    event = events()[step.name]
    roles = {formal: cast.roles[actual] for formal, actual in zip(event.roles, step.roles, strict=True)}
    after = dict(state)
    if not happenings:
        introduce(event.roles, roles, after, old)
    filled = None if strangers(event, roles, after, old) else satisfy(event, roles, after, old)
    if filled is not None:
        happen(event, filled, after)
        yield from expand(chance, rest, [*happenings, Happening(step.name, roles, filled)], after, cast, old)
    elif step.optional:
        yield from expand(chance, rest, happenings, state, cast, old)


def introduce(letters: str, roles: dict[str, str], state: State, old: frozenset[str]) -> None:
    """The first to be named in a story is known by that, and at home until it is said otherwise."""
    persons = (roles[letter] for letter in letters if CLASSES[letter] == "person" and letter in roles)
    first = next((person for person in persons if person not in old), None)
    if first is not None:
        state[("known", first)] = None
        state[("at", first, "home")] = None
