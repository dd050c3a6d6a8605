"""English: how the gaps of a wording are filled, and how what fills them is recognised."""

import random
import re
from collections.abc import Iterable

from soban.learn.synthetic.narrator import Narrator
from soban.learn.synthetic.slots import Slot
from soban.learn.synthetic.table import words

PRONOUNS = {
    "he": {"boy": "he", "girl": "she"},
    "him": {"boy": "him", "girl": "her"},
    "his": {"boy": "his", "girl": "her"},
    "himself": {"boy": "himself", "girl": "herself"},
}
NO_NAMES = "A|All|And|At|But|First|He|His|Her|If|In|It|Now|Oh|One|She|So|Soon|The|Then|There|They|This|We|What|When|You"
NAME = rf"(?!(?:{NO_NAMES})\b)[A-Z][a-z]+"
LEVELS = ("",)
AGAIN = 0.3  # how often a thing is told with its colour again
PRONOUN = 0.65


def say(narrator: Narrator, slot: Slot, key: str) -> str:
    """What stands in a gap."""
    text = (
        person(narrator, slot, key)
        if slot.kind == "person"
        else narrator.thing(slot, key, "en", AGAIN, always=slot.particle == "a")
        if slot.kind == "thing"
        else words("en").get(slot.kind, key, slot.attribute or "noun")
    )
    return article(text) if slot.particle == "a" else text


def article(noun: str) -> str:
    """`a kite`, `an orange kite`."""
    return ("an " if noun[0] in "aeio" or noun.startswith("umb") else "a ") + noun


def person(narrator: Narrator, slot: Slot, key: str) -> str:
    """A character in one of its forms."""
    who = narrator.cast.persons[key]
    if slot.subject:
        pronoun = narrator.topic == key and narrator.chance.random() < PRONOUN
        slot = Slot(slot.role)
        if pronoun:
            return PRONOUNS["he"][who.gender]
    match slot.attribute:
        case "intro":
            description = f"{who.trait} {who.kind or who.gender} named {key}"
            if narrator.friendly and key != narrator.hero and narrator.chance.random() < 0.4:
                friend = PRONOUNS["his"][narrator.cast.persons[narrator.hero].gender] + f" friend {key}"
                return friend + (f" the {who.kind}" if who.kind else "")
            return article(description)
        case "first":
            return f"{key} the {who.kind}" if who.kind and not narrator.knows(key) else key
        case "kind":
            return who.kind
        case "":
            return f"{key} the {who.kind}" if who.kind and not narrator.state else key
    return PRONOUNS[slot.attribute][who.gender]


def finish(text: str, level: str) -> str:
    """The wording with capitals where sentences begin."""
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def style(chance: random.Random) -> tuple[str, bool]:
    """A story's level of speech, and whether names take their familiar form: English has one of each."""
    return "", False


def pattern(slot: Slot) -> str:
    """What may stand in a gap, as a regular expression."""
    if slot.kind == "person":
        kinds = one_of(words("en").lists["animals"])
        if slot.subject:
            return f"(?:He|She|{NAME}(?: the {kinds})?)"
        if slot.attribute == "intro":
            return rf"(?:an? [a-z ]+ named {NAME}|(?:his|her) friend {NAME}(?: the {kinds})?)"
        forms = PRONOUNS.get(slot.attribute)
        if forms is None:
            return f"{NAME}(?: the {kinds})?"
        return "(?:" + "|".join(f"[{f[0].upper()}{f[0]}]{f[1:]}" for f in forms.values()) + ")"
    vocabulary = words("en")
    if slot.kind == "thing" and slot.attribute in ("", "n", "colour"):
        colours = one_of(vocabulary.lists["colours"])
        nouns = one_of(vocabulary.get("thing", key) for key in vocabulary.classes["thing"])
        form = {"": f"(?:{colours} )?{nouns}", "n": nouns, "colour": colours}[slot.attribute]
    else:
        form = one_of(vocabulary.get(slot.kind, key, slot.attribute or "noun") for key in vocabulary.classes[slot.kind])
    return rf"(?:an? {form})" if slot.particle == "a" else form


def one_of(texts: Iterable[str]) -> str:
    """Any of some texts, longest first; a sentence's first letter may be a capital."""
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)
    return "(?:" + "|".join(f"[{t[0].upper()}{t[0]}]{re.escape(t[1:])}" for t in unique) + ")"


def who(slot: Slot, text: str) -> tuple[str, str | None]:
    """The name that a person's gap holds ("" for a pronoun), and the gender that it tells."""
    for form in PRONOUNS.values():
        for gender, pronoun in form.items():
            if text.lower() == pronoun and pronoun != "her":
                return "", gender
    if text.lower() == "her":
        return "", "girl"
    if slot.attribute == "intro":
        match = re.search(rf"(?:named|friend) ({NAME})", text)
        kind = re.search(r"\b(girl|boy) named", text)
        return (match[1] if match else ""), (kind[1] if kind else None)
    return text.split(" the ")[0], None


def names(sentence: str) -> list[str]:
    """The words of a sentence that look like names."""
    return re.findall(rf"\b{NAME}\b", sentence)
