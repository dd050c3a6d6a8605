"""What both languages' stories are made of: words that inflect inside a template, and plots read from a table.

A table (tales/en.txt) is made of lines: `words NAME: word, word` adds to a list of words, `place NAME: spot, spot` to
the places; `opening`, `ending`, `start` and `beat` begin a list whose wordings follow as `- text`; `plot NAME SKIP`
begins a plot; `case name: text | name: text` is one of its cases.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soban.learn.world.korean import with_particle


class Word(str):
    """Text whose format spec adds a Korean particle ({hero:은}) or an English article ({thing:a})."""

    def __format__(self, spec: str) -> str:
        if spec == "a":
            return ("an " if self[0].lower() in "aeiou" else "a ") + self
        return with_particle(self, spec) if spec else str(self)


@dataclass(frozen=True)
class Plot:
    """One kind of story. A beat is a list of wordings of one step; a wording may be empty.

    `starts` open a story at once, in place of an opening and of the first `skip` beats. Each story draws one of the
    `cases`, which are fields that belong together (what breaks, and how it is mended).
    """

    name: str
    skip: int
    starts: list[str] = field(default_factory=list)
    beats: list[list[str]] = field(default_factory=list)
    cases: list[Mapping[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Tales:
    """All that one language tells."""

    words: Mapping[str, list[str]]
    places: list[tuple[str, list[str]]]
    openings: list[str]
    endings: list[str]
    plots: list[Plot]


def read_tales(language: str) -> Tales:
    """The table of a language."""
    tales = Tales(defaultdict(list), [], [], [], [])
    plots, wordings = tales.plots, tales.openings
    path = Path(__file__).with_name("tales") / f"{language}.txt"
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "" | "#":
                continue
            case "-":
                wordings.append(rest)
            case "words":
                name, _, words = rest.partition(": ")
                tales.words[name].extend(words.split(", "))
            case "place":
                name, _, spots = rest.partition(": ")
                tales.places.append((name, spots.split(", ")))
            case "opening":
                wordings = tales.openings
            case "ending":
                wordings = tales.endings
            case "plot":
                name, skip = rest.split()
                plots.append(Plot(name, int(skip)))
            case "start":
                wordings = plots[-1].starts
            case "beat":
                wordings = []
                plots[-1].beats.append(wordings)
            case "case":
                plots[-1].cases.append(dict(part.split(": ", 1) for part in rest.split(" | ")))
            case _:
                raise ValueError(f"{path}: {line}")
    return tales
