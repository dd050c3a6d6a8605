"""Who tells a story, whatever the language: the mind in which its characters and things are known, or not yet."""

import random
from dataclasses import dataclass, field

from soban.learn.synthetic.plan import Cast
from soban.learn.synthetic.rules import State
from soban.learn.synthetic.slots import Slot
from soban.learn.synthetic.table import Language, words


@dataclass
class Narrator:
    """What a teller keeps in mind: whom a pronoun would mean, and what has been named and said."""

    chance: random.Random
    cast: Cast
    hero: str
    familiar: bool
    friendly: bool
    state: State = field(default_factory=dict)
    topic: str | None = None
    mentioned: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def knows(self, key: str) -> bool:
        """Whether a character has been in the story before."""
        return key in self.mentioned or (self.hero != key and ("known", key) in self.state)

    def thing(self, slot: Slot, key: str, language: Language, again: float, always: bool = False) -> str:
        """A thing in words: with its colour at first or `always`, later mostly without; `again`: how often with."""
        noun = words(language).get("thing", key)
        colour = self.cast.colours[key]
        match slot.attribute:
            case "":
                full = always or key not in self.mentioned or self.chance.random() < again
                self.mentioned.add(key)
                return f"{colour} {noun}" if full else noun
            case "n":
                return noun
            case "colour":
                return colour
        return words(language).get("thing", key, slot.attribute)
