"""The English half of the story generator: who, where and with what."""

import random

from soban.learn.tale import Tales, Word

PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}
SPOTS = ("here", "there", "found")


def world(chance: random.Random, tales: Tales) -> dict[str, str]:
    """The fields that templates name."""
    words = tales.words
    child = chance.random() < 0.55
    fields = person(chance, tales, child, set())
    friend = person(chance, tales, child and chance.random() < 0.6, {fields["call"], fields["kind"]})
    fields |= {"f" + name: text for name, text in friend.items()}
    fields |= {"hero": fields["name"], "friend": friend["name"], "hcall": fields["call"]}
    kinds = {fields["kind"], fields["fkind"]}
    wise = [elder for elder in words["wise"] if elder.split("/")[0].split()[-1] not in kinds]
    elder, pronoun = chance.choice(words["family"] if child else wise).split("/")
    fields |= {"elder": elder, "elder_s": elder + "'s", "ecall": elder.removeprefix("the ").title()}
    fields |= dict(zip(("ehe", "ehim", "ehis"), PRONOUNS[pronoun], strict=True))
    place, spots = chance.choice(tales.places)
    fields |= {"place": place, "weather": chance.choice(words["weather"])}
    fields["thing"] = f"{chance.choice(words['colours'])} {chance.choice(words['toys'])}"
    fields["food"], fields["foods"] = chance.choice(words["foods"]).split("/")
    return fields | dict(zip(SPOTS, chance.sample(spots, len(SPOTS)), strict=True))


def person(chance: random.Random, tales: Tales, child: bool, taken: set[str]) -> dict[str, str]:
    """A child, an animal with a name, or an animal that is called by its kind."""
    words = tales.words
    girl = chance.random() < 0.5
    trait = chance.choice(words["traits"])
    if child:
        kind = "girl" if girl else "boy"
        first = name = chance.choice([n for n in words["girls" if girl else "boys"] if n not in taken])
    else:
        kind = chance.choice([animal for animal in words["animals"] if animal not in taken])
        name = chance.choice([n for n in words["animal_names"] if n not in taken])
        first = f"{name} the {kind}"
    intro = f"{Word(trait):a} {kind} named {name}"
    if not child and chance.random() < 0.4:
        name = f"the {kind}"
        intro = first = f"{Word(trait):a} {kind}"
    pronouns = dict(zip(("he", "him", "his"), PRONOUNS["she" if girl else "he"], strict=True))
    pronouns["himself"] = "herself" if girl else "himself"
    call = name.removeprefix("the ").title()
    return pronouns | {"name": name, "kind": kind, "first": first, "intro": intro, "call": call}


def finish(chance: random.Random, text: str) -> str:
    """The story with a comma where a quoted sentence runs on into who said it."""
    return text.replace('." said', '," said')
