"""The Korean half of the story generator: who, where and with what."""

import random

from soban.learn.tale import Tales, Word
from soban.learn.world.korean import final

SPOTS = ("here", "there", "found")
LEVELS = ("습니다", "어요")


def world(chance: random.Random, tales: Tales) -> dict[str, str]:
    """The fields that templates name."""
    words = tales.words
    child = chance.random() < 0.5
    fields = person(chance, tales, child, set())
    friend = person(chance, tales, child and chance.random() < 0.6, {fields["name"], fields["kind"]})
    fields |= {"f" + name: text for name, text in friend.items()}
    fields |= {"hero": fields["familiar"], "friend": friend["familiar"]}
    kinds = {fields["kind"], fields["fkind"]}
    wise = [elder for elder in words["wise"] if elder.split()[0] not in kinds]
    fields["elder"] = chance.choice(words["family"] if child else wise)
    place, spots = chance.choice(tales.places)
    fields |= {"place": place, "weather": chance.choice(words["weather"]), "food": chance.choice(words["foods"])}
    fields["thing"] = f"{chance.choice(words['colours'])} {chance.choice(words['toys'])}"
    return fields | dict(zip(SPOTS, chance.sample(spots, len(SPOTS)), strict=True))


def person(chance: random.Random, tales: Tales, child: bool, taken: set[str]) -> dict[str, str]:
    """A child, an animal with a name, or an animal that is called by its kind."""
    words = tales.words
    trait = chance.choice(words["traits"])
    kind = "아이" if child else chance.choice([animal for animal in words["animals"] if animal not in taken])
    named = child or chance.random() < 0.5
    if named:
        name = chance.choice([n for n in words["names" if child else "animal_names"] if n not in taken])
        # A given name that ends in a consonant takes 이 before its particles: 지훈이는
        familiar = name + "이" if final(name) else name
        intro = f"{Word(name):이라}는 {trait} {kind}"
        first = familiar if child else f"{kind} {familiar}"
    else:
        name = familiar = first = kind
        intro = f"{trait} {kind} 한 마리"
    call = f"{Word(name):아}"
    return {"name": name, "familiar": familiar, "kind": kind, "first": first, "intro": intro, "call": call}


def finish(chance: random.Random, text: str) -> str:
    """The text in one level of speech: the teller's sentences are all in the past tense, so one ending fits them."""
    return text.replace("~", chance.choice(LEVELS))
