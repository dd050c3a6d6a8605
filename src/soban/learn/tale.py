"""What both languages' stories are made of: words that inflect inside a template, and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A particle's form after a final consonant, and after a vowel. The key is what a template says: {hero:은}
PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "아": ("아", "야"),
    "이라": ("이라", "라"),
    "이랑": ("이랑", "랑"),
    "이었": ("이었", "였"),
    "이야": ("이야", "야"),
}

FIRST_SYLLABLE, LAST_SYLLABLE = ord("가"), ord("힣")
FINALS = 28  # a syllable's number is (lead * 21 + vowel) * 28 + final; final 0 is none, 8 is ㄹ
FINAL_L = 8


class Word(str):
    """Text whose format spec adds a Korean particle ({hero:은}) or an English article ({thing:a})."""

    def __format__(self, spec: str) -> str:
        if spec == "a":
            return ("an " if self[0].lower() in "aeiou" else "a ") + self
        return self + particle(self, spec) if spec else str(self)


def particle(word: str, kind: str) -> str:
    """The form of a Korean particle that follows `word`; `kind` is its form after a consonant."""
    after_consonant, after_vowel = PARTICLES[kind]
    last = ord(word[-1])
    final = (last - FIRST_SYLLABLE) % FINALS if FIRST_SYLLABLE <= last <= LAST_SYLLABLE else 0
    if kind == "으로" and final == FINAL_L:
        return after_vowel
    return after_consonant if final else after_vowel


@dataclass(frozen=True)
class Plot:
    """One kind of story. A beat is a list of wordings of one step; a wording may be empty.

    `starts` open a story at once, in place of an opening and of the first `skip` beats. Each story draws one of `cases`:
    fields that belong together (what breaks, and how it is mended).
    """

    name: str
    skip: int
    starts: Sequence[str]
    beats: Sequence[Sequence[str]]
    cases: Sequence[Mapping[str, str]]
