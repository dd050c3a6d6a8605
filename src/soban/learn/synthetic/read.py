"""A story read back: each stretch of text to the wordings that could have told it, and what they say happened."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product

from soban.learn.synthetic import korean
from soban.learn.synthetic.plan import Happening
from soban.learn.synthetic.rules import Binding, State, satisfy, strangers
from soban.learn.synthetic.slots import Slot, alternatives, parts
from soban.learn.synthetic.table import CLASSES, Language, Wording, events, wordings, words
from soban.learn.synthetic.tell import VOICES

SENTENCE = re.compile(r'.+?[.!?]+["\']?(?= |$)|.+$')
CANDIDATES = 24  # readings of one stretch that are tried
MOST_MARKS = 12  # sentence marks of one wording
MARK = re.compile(r"[.!?]\"?")


@dataclass(frozen=True)
class Form:
    """One wording with one choice made, as it is recognised."""

    wording: Wording
    slots: tuple[Slot, ...]
    literals: tuple[str, ...]  # pieces that must be in the text, for a quick look
    marks: int  # how many sentence marks it has, outside its slots
    expression: str


@dataclass(frozen=True)
class Match:
    """A stretch of text that a form fits: what each slot holds, and where the stretch ends."""

    form: Form
    contents: tuple[tuple[Slot, str], ...]
    end: int


@dataclass(frozen=True)
class Reading:
    """What a match means: the event, whom and what its roles stand for, and what is wrong in the words themselves."""

    happening: Happening
    match: Match
    filled: Binding | None  # all roles, where the event can happen now
    wrong: tuple[str, ...]


@cache
def forms(language: Language) -> list[Form]:
    """Every form of every wording."""
    every = []
    levels = "(?:" + "|".join(VOICES[language].LEVELS) + ")"
    for wording in (w for several in wordings(language).values() for w in several):
        for text in alternatives(wording.text):
            pieces = parts(text)
            slots = tuple(piece for piece in pieces if isinstance(piece, Slot))
            plain = [piece for piece in pieces if isinstance(piece, str)]
            expression = "".join(
                f"({VOICES[language].pattern(piece)})" if isinstance(piece, Slot) else literal(piece, levels)
                for piece in pieces
            )
            literals = tuple(bit for piece in plain for bit in piece.split("~") if len(bit) > 1)
            marks = len(MARK.findall("".join(plain)))
            every.append(Form(wording, slots, literals, marks, expression + "(?= |$)"))
    return every


def literal(text: str, levels: str) -> str:
    """Plain text as an expression; `~` is any level's ending."""
    return levels.join(map(re.escape, text.split("~")))


@lru_cache(maxsize=4096)
def compiled(expression: str) -> re.Pattern[str]:
    """A form's expression."""
    return re.compile(expression)


def matches(text: str, start: int, language: Language) -> list[Match]:
    """Every form that fits the text from `start`, the longest stretch first."""
    fitting = []
    ends = [mark.end() for mark in islice(MARK.finditer(text, start), MOST_MARKS)]
    stretches = ["", *(text[start:end] for end in ends), *[text[start:]] * MOST_MARKS]
    for form in forms(language):
        ahead = stretches[form.marks]
        if all(bit in ahead for bit in form.literals) and (match := compiled(form.expression).match(text, start)):
            contents = tuple(zip(form.slots, (group or "" for group in match.groups()), strict=True))
            fitting.append(Match(form, contents, match.end()))
    return sorted(fitting, key=lambda match: -match.end)


@dataclass
class Reader:
    """What a reader keeps in mind while reading."""

    language: Language
    old: frozenset[str]
    state: State
    genders: dict[str, str | None]
    colours: dict[str, str]
    recent: list[str]  # characters, the last named last
    topic: str | None = None

    def readings(self, match: Match) -> Iterator[Reading]:
        """What a match can mean, the likeliest first."""
        event = events()[match.form.wording.event]
        names: dict[str, str] = {}
        genders: dict[str, str] = {}  # gender by role
        keys: dict[str, list[str]] = {}
        wrong: list[str] = []
        for slot, text in match.contents:
            if slot.kind == "person":
                name, gender = VOICES[self.language].who(slot, text)
                if name and names.setdefault(slot.role, name) != name:
                    wrong.append(f"{names[slot.role]} becomes {name}")
                if gender and genders.setdefault(slot.role, gender) != gender:
                    wrong.append(f"the gender of {slot.role} changes")
            elif not (slot.kind == "thing" and slot.attribute == "colour"):
                possible = meanings(self.language, slot.kind, slot.attribute, bare(slot, text, self.language))
                before = keys.get(slot.role)
                keys[slot.role] = [key for key in possible if before is None or key in before]
                if not keys[slot.role]:
                    wrong.append(f"{text} does not fit")
                    keys[slot.role] = possible
        # A pronoun's character: the topic first, then who was named last
        persons = [*([self.topic] if self.topic else []), *(p for p in reversed(self.recent) if p != self.topic)]
        pronouns = [r for r in dict.fromkeys(s.role for s, _ in match.contents if s.kind == "person") if r not in names]
        choices: list[list[tuple[str, str]]] = [[(role, name)] for role, name in names.items()]
        for role in pronouns:
            fitting = [p for p in persons if genders.get(role) is None or self.genders.get(p) in (None, genders[role])]
            if not fitting:
                wrong.append(f"nobody here is a {genders.get(role, 'character')}")
            choices.append([(role, p) for p in fitting] or [(role, "")])
        choices += [[(role, key) for key in several] for role, several in keys.items()]
        for _, choice in zip(range(CANDIDATES), product(*choices), strict=False):
            binding = {role: key for role, key in choice if key}
            people = [key for role, key in binding.items() if CLASSES[role] == "person"]
            if len(set(people)) < len(people):
                continue
            filled = satisfy(event, binding, self.state, self.old)
            if filled is not None and strangers(event, binding, self.state, self.old):
                filled = None
            yield Reading(
                Happening(event.name, binding), match, filled, (*wrong, *self.disagreements(match, binding, genders))
            )

    def disagreements(self, match: Match, binding: Mapping[str, str], genders: Mapping[str, str]) -> list[str]:
        """Where the words contradict what the story has said of a character's gender or a thing's colour."""
        wrong = [
            f"{binding[role]} was a {self.genders[binding[role]]}"
            for role, gender in genders.items()
            if role in binding and self.genders.get(binding[role]) not in (None, gender)
        ]
        for role, thing, colour in self.coloured(match, binding):
            if self.colours.get(thing, colour) != colour:
                wrong.append(f"the {thing} in {role} was {self.colours[thing]}")
        return wrong

    def coloured(self, match: Match, binding: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        """The things that a match gives a colour."""
        for slot, text in match.contents:
            if slot.kind == "thing" and slot.attribute in ("", "colour") and slot.role in binding:
                colour = next((c for c in words(self.language).lists["colours"] if c in text), None)
                if colour is not None:
                    yield slot.role, binding[slot.role], colour


@cache
def index(language: Language, kind: str, attribute: str) -> Mapping[str, list[str]]:
    """The keys that a word of a class can mean."""
    vocabulary = words(language)
    meanings: dict[str, list[str]] = {}
    for key in vocabulary.classes[kind]:
        meanings.setdefault(vocabulary.get(kind, key, attribute).lower(), []).append(key)
    return meanings


def meanings(language: Language, kind: str, attribute: str, text: str) -> list[str]:
    """The keys that a slot's word can mean."""
    return index(language, kind, "noun" if attribute in ("", "n") else attribute).get(text.lower(), [])


def bare(slot: Slot, text: str, language: Language) -> str:
    """A slot's word without article, colour and particle."""
    if language == "en":
        candidates = [re.sub(r"^[Aa]n? ", "", text) if slot.particle == "a" else text]
    else:
        candidates = [text.removesuffix(form) for form in korean.PARTICLES.get(slot.particle, ("",))]
    if slot.kind == "thing" and slot.attribute == "":
        colours = "|".join(words(language).lists["colours"])
        candidates = [re.sub(rf"^(?:{colours}) ", "", word, flags=re.IGNORECASE) for word in candidates]
    # 팽이지만: of two forms of a particle that both fit, the one that leaves a word
    return next((word for word in candidates if meanings(language, slot.kind, slot.attribute, word)), candidates[0])
