"""The gaps of a wording: what stands in them, and the pieces of text between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from soban.learn.synthetic.table import CHOICE, CLASSES, SLOT


@dataclass(frozen=True)
class Slot:
    """`{role}`, `{role.attribute}`, `{role/form}` (a subject: a pronoun or nothing, where clear), `{role:particle}`."""

    role: str
    attribute: str = ""
    subject: bool = False
    particle: str = ""

    @property
    def kind(self) -> str:
        """The class of word that belongs here."""
        return CLASSES[self.role]


@cache
def parts(text: str) -> tuple[str | Slot, ...]:
    """A text without choices as plain pieces and slots, in turns."""
    pieces: list[str | Slot] = []
    end = 0
    for match in SLOT.finditer(text):
        pieces.append(text[end : match.start()])
        role, mark, attribute, particle = match.groups()
        pieces.append(Slot(role, attribute or "", mark == "/", particle or ""))
        end = match.end()
    return (*pieces, text[end:])


@cache
def alternatives(text: str) -> list[str]:
    """Every text that choosing among `[a|b]` gives."""
    match = CHOICE.search(text)
    if match is None:
        return [text]
    return [
        other
        for option in match[1].split("|")
        for other in alternatives(text[: match.start()] + option + text[match.end() :])
    ]


def topic_after(slots: Sequence[Slot], binding: Mapping[str, str]) -> str | None:
    """Whom a pronoun, or a subject left out, means after this text: the one whom it names, if it names only one."""
    persons = {binding[slot.role] for slot in slots if slot.kind == "person" and slot.role in binding}
    return next(iter(persons)) if len(persons) == 1 else None
