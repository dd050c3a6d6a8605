"""A chain of events as text: one wording for each, in its circumstances, in one voice."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from soban.learn.synthetic import english, korean
from soban.learn.synthetic.narrator import Narrator
from soban.learn.synthetic.plan import Cast, Happening, chain, draw, introduce
from soban.learn.synthetic.rules import bound, happen, holds
from soban.learn.synthetic.slots import Slot, alternatives, parts, topic_after
from soban.learn.synthetic.table import CLASSES, Fact, Language, Wording, events, wordings, words

VOICES: dict[str, ModuleType] = {"en": english, "ko": korean}
# These say that a day begins; after an introduction the story moves on with one of them.
STILL = {"begin", "like", "own", "gift", "love", "pair", "afraid", "wantskill", "lonely", "wish"}
STRANGERS = {"befriend", "invite"}  # in a story with these, nobody is called a friend from the beginning
PARAGRAPHS = 0.2  # the share of stories told in paragraphs
TURNS = {"lose", "catch", "break", "breakby", "snatch", "meet", "rain", "trapped", "tryskill", "strike", "astray"}


@dataclass(frozen=True)
class Story:
    """A story's text, what is so at its end, and what happened, with whom and what in words."""

    text: str
    sentences: tuple[str, ...]  # what is said of each event
    facts: frozenset[Fact]
    events: tuple[Happening, ...]
    language: Language
    cast: Cast
    chain: tuple[Happening, ...]  # the events with keys of the tables
    familiar: bool


def story(seed: int, language: Language) -> Story:
    """The story of a seed; the same seed and language give the same one."""
    return story_of(random.Random(f"{seed} {language}"), language)


def stories(seed: int, language: Language) -> Iterator[str]:
    """Stories without end; the same seed and language give the same ones."""
    chance = random.Random(f"{seed} {language} stories")
    while True:
        yield story_of(chance, language).text


def story_of(chance: random.Random, language: Language, level: str | None = None) -> Story:
    """A story with a cast that is drawn, in a level of speech where one is given."""
    usual, familiar = VOICES[language].style(chance)
    cast = draw(chance, language)
    return tell(chance, cast, chain(chance, cast), language, usual if level is None else level, familiar)


def tell(
    chance: random.Random, cast: Cast, happenings: list[Happening], language: Language, level: str, familiar: bool
) -> Story:
    """The events as a story."""
    voice = VOICES[language]
    names = {happening.event for happening in happenings}
    narrator = Narrator(chance, cast, cast.roles["a"], familiar, not names & STRANGERS)
    old = frozenset(name for name, person in cast.persons.items() if person.old)
    paragraphs = chance.random() < PARAGRAPHS
    sentences: list[str] = []
    text, day = "", False
    for happening in happenings:
        event = events()[happening.event]
        if not text:
            introduce(event.roles, happening.roles, narrator.state, old)
        wording = choose(narrator, happening, language, day)
        day = day or wording.names_day or event.name == "dawn" or event.name not in STILL
        sentences.append(voice.finish(render(narrator, wording, happening.roles, voice), level))
        text += (("\n" if paragraphs and event.name in TURNS else " ") if text else "") + sentences[-1]
        happen(event, happening.filled, narrator.state)
        narrator.mentioned |= {happening.roles[role] for role in event.roles if CLASSES[role] == "person"}
    events_in_words = tuple(in_words(happening, cast, language) for happening in happenings)
    return Story(
        text, tuple(sentences), frozenset(narrator.state), events_in_words, language, cast, tuple(happenings), familiar
    )


def choose(narrator: Narrator, happening: Happening, language: Language, day: bool) -> Wording:
    """A wording that fits the circumstances and has not been used; the first that moves names the day."""
    fitting = [w for w in wordings(language)[happening.event] if fits(narrator, w, happening.roles)]
    most = max(wording.special for wording in fitting)
    fitting = [wording for wording in fitting if wording.special == most]
    dawning = [wording for wording in fitting if wording.names_day]
    fitting = dawning if dawning and not day else [wording for wording in fitting if not wording.names_day]
    fresh = [wording for wording in fitting if wording.text not in narrator.used]
    wording = narrator.chance.choice(fresh or fitting)
    narrator.used.add(wording.text)
    return wording


def fits(narrator: Narrator, wording: Wording, roles: Mapping[str, str]) -> bool:
    """Whether the circumstances of a wording hold."""
    return all(circumstance(narrator, bound(fact, roles)) for fact in wording.circumstances)


def circumstance(narrator: Narrator, fact: Fact) -> bool:
    """Whether a circumstance holds: of a character, a word, or the state."""
    match fact:
        case ("old", who):
            return narrator.cast.persons[who].old
        case ("worked", who):  # somebody helped with what had gone wrong
            return (
                any(holds(("was", trouble), narrator.state) for trouble in ("lost", "high", "broken"))
                and who == narrator.hero
            )
        case ("newcomer", who):
            return who != narrator.hero
        case ("away", who):
            return holds(("at", who, "_"), narrator.state) and ("at", who, "home") not in narrator.state
        case ("mass" | "many" as kind, what):
            return words("en").get("ingredient", what, "kind") == kind
    return fact in narrator.state


def render(narrator: Narrator, wording: Wording, roles: Mapping[str, str], voice: ModuleType) -> str:
    """The wording with a choice made at every `[a|b]` and its gaps filled."""
    binding = {**narrator.cast.roles, **roles}
    pieces = parts(narrator.chance.choice(alternatives(wording.text)))
    slots = [piece for piece in pieces if isinstance(piece, Slot)]
    phrases = []
    for piece in pieces:
        phrases.append(voice.say(narrator, piece, binding[piece.role]) if isinstance(piece, Slot) else piece)
    narrator.topic = topic_after(slots, binding)
    return "".join(phrases)


def in_words(happening: Happening, cast: Cast, language: Language) -> Happening:
    """The event with words of the language for its roles."""
    vocabulary = words(language)
    roles = {
        role: key if CLASSES[role] == "person" else vocabulary.get(CLASSES[role], key)
        for role, key in happening.roles.items()
    }
    return Happening(happening.event, roles)
