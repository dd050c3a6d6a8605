"""The English half of the story generator: the people, places and things."""

import random

from soban.learn.tale import Word

GIRLS = (
    "Lily Mia Anna Lucy Emma Zoe Kate Nora Ella Hana Amy Rosa Sara Mina Jane Sue Beth Alice Clara Daisy Eva Grace Ivy Julia "
    "Lena Maya Molly Nina Olivia Ruby Sophie Tina Wendy Yuna Bora Sena"
).split()
BOYS = (
    "Tom Ben Max Sam Jack Leo Finn Tim Theo Oscar Dan Jun Noah Hugo Adam Alex Bob Carl David Eric Fred George Henry Ian Jake "
    "Kevin Luke Mark Nick Owen Paul Peter Ray Simon Will Minho"
).split()
ANIMALS = (
    "rabbit fox bear cat dog mouse duck turtle squirrel hedgehog frog bird pig goat lamb kitten puppy monkey deer owl"
).split()
ANIMAL_NAMES = "Pip Dot Nib Coco Toto Bibi Momo Fuzzy Sunny Pepper Hazel Bumble Nutty Lulu Rusty Berry".split()
TRAITS = "little kind curious brave shy cheerful small clever gentle young".split()
FAMILY = (("Mom", "she", "her", "her"), ("Dad", "he", "him", "his"), ("Grandma", "she", "her", "her"), ("Grandpa", "he", "him", "his"))
WISE = (("the old owl", "she", "her", "her"), ("the wise turtle", "he", "him", "his"), ("the big bear", "he", "him", "his"), ("the old goat", "she", "her", "her"))

PLACES = (
    {"place": "the park", "spot1": "under the bench", "spot2": "behind the slide", "spot3": "in the sandbox", "spot4": "next to the fountain"},
    {"place": "the forest", "spot1": "under the leaves", "spot2": "behind a big tree", "spot3": "in a bush", "spot4": "next to an old log"},
    {"place": "the garden", "spot1": "under the roses", "spot2": "behind the shed", "spot3": "in the tall grass", "spot4": "next to the well"},
    {"place": "the beach", "spot1": "under a shell", "spot2": "behind a rock", "spot3": "in the sand", "spot4": "next to a boat"},
    {"place": "the river", "spot1": "under the bridge", "spot2": "behind a big stone", "spot3": "in the reeds", "spot4": "next to the water"},
    {"place": "the hill", "spot1": "under a pine tree", "spot2": "behind a rock", "spot3": "in the flowers", "spot4": "next to the gate"},
    {"place": "the farm", "spot1": "under the cart", "spot2": "behind the barn", "spot3": "in the hay", "spot4": "next to the fence"},
    {"place": "the meadow", "spot1": "under a leaf", "spot2": "behind a stump", "spot3": "in the clover", "spot4": "next to a small stream"},
)
WEATHER = ("sunny", "warm", "windy", "cool", "bright", "quiet", "cloudy")
COLOURS = "red blue yellow green white pink purple orange".split()
TOYS = "ball kite hat scarf boat ribbon bell button umbrella balloon drum cup doll car book key coat shoe ring box".split()
FOODS = ("an apple", "apple", "apples"), ("a cookie", "cookie", "cookies"), ("a pear", "pear", "pears"), ("a cake", "cake", "cakes"), ("a carrot", "carrot", "carrots"), ("a berry", "berry", "berries"), ("a nut", "nut", "nuts"), ("a peach", "peach", "peaches")


def world(chance: random.Random) -> dict[str, str]:
    """Who, where and with what."""
    fields: dict[str, str] = {}
    child = chance.random() < 0.55
    fields |= person(chance, child, "", set())
    fields |= person(chance, child and chance.random() < 0.6, "f", {fields["hcall"], fields["kind"]})
    kinds = {fields["kind"], fields["fkind"]}
    elder = chance.choice(FAMILY if child else [wise for wise in WISE if wise[0].split()[-1] not in kinds])
    fields |= dict(zip(("elder", "ehe", "ehim", "ehis"), elder, strict=True))
    fields |= chance.choice(PLACES) | {"weather": chance.choice(WEATHER), "trait": chance.choice(TRAITS)}
    fields["thing"] = f"{chance.choice(COLOURS)} {chance.choice(TOYS)}"
    fields |= dict(zip(("a_food", "food", "foods"), chance.choice(FOODS), strict=True))
    spots = chance.sample(("spot1", "spot2", "spot3", "spot4"), 3)
    fields |= {"here": fields[spots[0]], "there": fields[spots[1]], "found": fields[spots[2]]}
    return fields | {"elder_s": elder[0] + "'s", "ecall": elder[0].removeprefix("the ").title()}


def person(chance: random.Random, child: bool, prefix: str, taken: set[str]) -> dict[str, str]:
    """A child, a named animal or an animal called by its kind; the friend's fields carry the prefix f."""
    girl = chance.random() < 0.5
    pronouns = ("she", "her", "her") if girl else ("he", "him", "his")
    if child:
        kind = "girl" if girl else "boy"
        name = chance.choice([n for n in (GIRLS if girl else BOYS) if n not in taken])
        intro, first = f"a {{trait}} {kind} named {name}", name
    else:
        kind = chance.choice([a for a in ANIMALS if a not in taken])
        if chance.random() < 0.6:
            name = chance.choice([n for n in ANIMAL_NAMES if n not in taken])
            intro = f"a {{trait}} {kind} named {name}"
            first = f"{name} the {kind}"
        else:
            name = f"the {kind}"
            intro = first = f"a {chance.choice(TRAITS)} {kind}" if not prefix else f"{Word(kind):a}"
    trait = chance.choice(TRAITS)
    call = name.removeprefix("the ").title()
    fields = {"intro": intro.format(trait=trait), "first": first, "kind": kind, "call": call}
    fields |= dict(zip(("he", "him", "his"), pronouns, strict=True)) | {"himself": "herself" if girl else "himself"}
    fields = {prefix + key: value for key, value in fields.items()}
    return fields | ({"friend": name} if prefix else {"hero": name, "hcall": call})


def finish(chance: random.Random, text: str) -> str:
    """The story with a comma where a quoted sentence runs on into who said it."""
    return text.replace('." said', '," said')
