"""Short stories written by a program: a small world is drawn first, then told beat by beat in one of many wordings."""

import random
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Literal

from soban.learn import stories_en, stories_ko
from soban.learn.tale import Tales, Word, read_tales

Language = Literal["en", "ko"]

# Each of these modules offers world(chance, tales), the fields that templates name, and finish(chance, text).
TELLERS: dict[str, ModuleType] = {"en": stories_en, "ko": stories_ko}

# A template may offer a choice of words in place: "[walked|ran] home".
CHOICE = re.compile(r"\[([^\[\]]*)\]")

# The fields that bring the friend into a story; an ending may speak of the friend only then.
FRIEND = re.compile(r"\{([Ff]riend|[Ff]first)\b")

STARTS_AT_ONCE = 0.45  # so that a prompt which is the first event of a story goes on as well as "Once upon a time"
TAKES_PARAGRAPHS = 0.2
PARAGRAPH_BEATS = (3, 6)  # a story in paragraphs breaks before the third and the sixth beat


def stories(seed: int, language: Language) -> Iterator[str]:
    """Stories without end; the same seed and language give the same ones."""
    chance = random.Random(f"{seed} {language}")
    tales = read_tales(language)
    while True:
        yield story(chance, tales, TELLERS[language])


def story(chance: random.Random, tales: Tales, teller: ModuleType) -> str:
    """One story."""
    plot = chance.choice(tales.plots)
    case = chance.choice(plot.cases or [{}])
    fields = inflected(chance, teller.world(chance, tales), case)
    if chance.random() < STARTS_AT_ONCE:
        templates = [chance.choice(plot.starts)]
        beats = plot.beats[plot.skip :]
    else:
        templates = [chance.choice(tales.openings)]
        beats = plot.beats
    templates += [chance.choice(beat) for beat in beats]
    met = any(FRIEND.search(template) for template in (*templates, *case.values()))
    templates.append(chance.choice([e for e in tales.endings if met or not FRIEND.search(e)]))
    spaces = [" "] * len(templates)
    if chance.random() < TAKES_PARAGRAPHS:
        for position in PARAGRAPH_BEATS:
            spaces[position] = "\n"
    lines = zip(spaces, templates, strict=True)
    told = "".join(space + tell(chance, template, fields) for space, template in lines if template)
    return str(teller.finish(chance, told.strip()))


def inflected(chance: random.Random, world: Mapping[str, str], case: Mapping[str, str]) -> dict[str, Word]:
    """The fields of a story, each also with a capital first letter under its capitalised name."""
    words = capitalised(world)
    return capitalised({**world, **{name: tell(chance, text, words) for name, text in case.items()}})


def capitalised(fields: Mapping[str, str]) -> dict[str, Word]:
    """Every field as a word, and once more with a capital."""
    upper = {name.capitalize(): Word(text[0].upper() + text[1:]) for name, text in fields.items()}
    return {name: Word(text) for name, text in fields.items()} | upper


def tell(chance: random.Random, template: str, fields: Mapping[str, Word]) -> str:
    """One sentence or two: the template with its choices made and its fields filled in."""
    chosen = CHOICE.sub(lambda match: chance.choice(match[1].split("|")), template)
    return chosen.format_map(fields)
