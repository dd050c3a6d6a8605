"""The tables of the world as data: events.txt and plots.txt, and each language's words.txt and wordings.txt."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

Language = Literal["en", "ko"]
Fact = tuple[str, ...]

HERE = Path(__file__).parent

# The class of word that a role's letter stands for.
CLASSES = {
    **dict.fromkeys("abce", "person"),
    **dict.fromkeys("tu", "thing"),
    **dict.fromkeys("pq", "place"),
    **dict.fromkeys("sro", "spot"),
    **dict.fromkeys("nm", "number"),
    "h": "high",
    "k": "skill",
    "x": "fear",
    "f": "food",
    "i": "ingredient",
    "g": "fruit",
    "y": "trap",
    "z": "lure",
    "j": "chore",
    "v": "flower",
    "w": "weather",
}


@dataclass(frozen=True)
class Clause:
    """One condition or effect: a fact whose one-letter words are roles; `sign` is "", "-" (not) or "?" (if known)."""

    sign: str
    fact: Fact


@dataclass(frozen=True)
class Event:
    """Something that can happen: its roles, the roles that it makes known, what it needs and what it makes."""

    name: str
    roles: str
    new: frozenset[str]
    needs: tuple[Clause, ...]
    makes: tuple[Clause, ...]
    core: bool  # kept where a story is told in short


@dataclass(frozen=True)
class Step:
    """One step of a plot: an event with the story's roles, or a goal."""

    name: str
    roles: str
    goal: bool
    optional: bool


@dataclass(frozen=True)
class Wording:
    """One way to tell an event; `circumstances` must all hold, and one that names the day opens the day."""

    event: str
    roles: str
    circumstances: tuple[Fact, ...]
    special: int  # how many of the circumstances its heading has: the most special heading that fits is taken
    text: str
    names_day: bool


@dataclass(frozen=True)
class Words:
    """A language's words: plain lists, and for each class the words and attributes of its members."""

    lists: Mapping[str, list[str]]
    classes: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    spoken: frozenset[str] = frozenset()  # every word that the language's files hold, in small letters

    def get(self, kind: str, key: str, attribute: str = "noun") -> str:
        """A member's word or attribute; where the class has no nouns, its first attribute."""
        entry = self.classes[kind][key]
        return entry[attribute] if attribute in entry else next(iter(entry.values()))


def lines(path: Path) -> Iterator[str]:
    """The lines that say something."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def clauses(text: str) -> tuple[Clause, ...]:
    """`held t a, -broken t` as clauses."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(Clause(part[0] if part[0] in "-?" else "", tuple(part.lstrip("-?").split())) for part in parts)


@cache
def events() -> Mapping[str, Event]:
    """Every event by name."""
    table = {}
    for line in lines(HERE / "events.txt"):
        head, rest = line.split(":", 1)
        needs, _, makes = rest.partition("->")
        name, *roles = head.lstrip("*").split()
        new = frozenset(role[1] for role in roles if role.startswith("+"))
        letters = "".join(role.lstrip("+") for role in roles)
        table[name] = Event(name, letters, new, clauses(needs), clauses(makes), head.startswith("*"))
    return table


@cache
def plots() -> Mapping[str, list[list[Step]]]:
    """The alternatives of every goal, each a list of steps."""
    table: dict[str, list[list[Step]]] = defaultdict(list)
    for line in lines(HERE / "plots.txt"):
        goal, rest = line.split(": ", 1)
        table[goal].append([step(part.strip()) for part in rest.split(",") if part.strip() != "nothing"])
    return table


def step(text: str) -> Step:
    """`~go a p` or `@open`."""
    name, *roles = text.lstrip("~@").split()
    return Step(name, "".join(roles), "@" in text[:2], text.startswith("~"))


@cache
def words(language: Language) -> Words:
    """A language's words."""
    lists: dict[str, list[str]] = {}
    classes: dict[str, dict[str, dict[str, str]]] = {}
    members: dict[str, dict[str, str]] = {}
    attributes: list[str] = []
    for line in lines(HERE / language / "words.txt"):
        head, rest = line.split(": ", 1)
        if head.startswith("list "):
            lists[head[5:]] = rest.split(", ")
        elif head.startswith("class "):
            members = classes[head[6:]] = {}
            attributes = rest.split()
        else:
            members[head] = dict(zip(attributes, rest.split(" | "), strict=True))
    files = (HERE / language / name for name in ("words.txt", "wordings.txt", "talk.txt", "small.txt"))
    every_word = frozenset(
        word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8").lower())
    )
    return Words(lists, classes, every_word)


@cache
def wordings(language: Language) -> Mapping[str, list[Wording]]:
    """Every event's wordings."""
    table: dict[str, list[Wording]] = defaultdict(list)
    event, circumstances = "", ""
    for line in lines(HERE / language / "wordings.txt"):
        if line.startswith("- "):
            text, _, own = line[2:].partition(" | ")
            conditions = [clause.fact for clause in clauses(f"{circumstances}, {own}")]
            name, roles = event.split(maxsplit=1)
            names_day = text.startswith("^")
            special = len(clauses(circumstances))
            wording = Wording(name, roles.replace(" ", ""), tuple(conditions), special, text.lstrip("^"), names_day)
            table[name].append(wording)
        else:
            event, _, circumstances = line.partition(" | ")
    return table


SLOT = re.compile(r"\{(\w+)(?:([./])(\w+))?(?::(\w+))?\}")  # {role}, {role.attribute}, {role/he}, {role:particle}
CHOICE = re.compile(r"\[([^\[\]]*)\]")
