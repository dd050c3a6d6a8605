"""Is a document worth learning from: its length, its signs, its repetitions, its language, and whether it is whole."""

import functools
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Classes of characters: letters last, and of them the scripts of syllables side by side
BLANK, SIGN, NUMBER, OTHER_LETTER, LATIN, HANGUL, KANA, HAN, CYRILLIC, ARABIC, DEVANAGARI, THAI = range(12)
LANGUAGES: dict[str, tuple[int, ...]] = {
    "en": (LATIN,), "ko": (HANGUL,), "ja": (KANA, HAN), "zh": (HAN,), "ru": (CYRILLIC,), "ar": (ARABIC,),
    "hi": (DEVANAGARI,), "th": (THAI,),
}  # fmt: skip
SCRIPTS = {
    "LATIN": LATIN, "HANGUL": HANGUL, "HIRAGANA": KANA, "KATAKANA": KANA, "CJK": HAN, "CYRILLIC": CYRILLIC,
    "ARABIC": ARABIC, "DEVANAGARI": DEVANAGARI, "THAI": THAI,
}  # fmt: skip
BMP = 0x10000
# What decoders make of bytes that the encoding has not; the last four are cp932's
REPLACEMENT = re.compile("[\ufffd\uf8f0-\uf8f3]")
# UTF-8 that was read as one byte a character: Hangul begins with ê to í, accented letters with Ã or Â.
MOJIBAKE = re.compile("[ÃÂê-í][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œ]")
MOST_MOJIBAKE = 3
# No control characters but line ends and tabs, no byte order marks, no lone halves of pairs.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")
TRAILING = re.compile(r"[ \t]+(?=\n)")
LINE_ENDS = re.compile("\r\n?|\u2028|\u2029|\x85")
# Prose of some length packs to 0.35 to 0.6 of its size, lists of one sentence with other names to 0.15.
REPETITIVE = 0.1
LONG_ENOUGH_TO_PACK = 600  # bytes
MOST_ONE_SIGN = 0.5  # share of a text
LONG_ENOUGH_FOR_SIGNS = 20


@dataclass(frozen=True)
class Quality:
    """What a document must be."""

    min_characters: int = 5
    max_characters: int = 1_000_000
    max_symbols: float = 0.4  # share of the characters that are neither letters, numbers nor blanks
    languages: tuple[str, ...] = ()
    min_language: float = 0.5  # share of the letters that are of these languages' scripts


REASONS = ("empty", "short", "long", "broken", "symbols", "repetitive", "language")


def tidied(text: str) -> str:
    """NFC, plain line ends, no control characters, no blanks at the ends of lines or of the text."""
    text = CONTROL.sub("", LINE_ENDS.sub("\n", text))
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return TRAILING.sub("", text).strip()


def fault(text: str, codes: NDArray[np.uint32], quality: Quality) -> str | None:
    """Why a tidied text is not good enough, a word of REASONS; None if it is. `codes` are its code points."""
    if len(text) < quality.min_characters:
        return "short" if text else "empty"
    if len(text) > quality.max_characters:
        return "long"
    if REPLACEMENT.search(text) or len(MOJIBAKE.findall(text)) >= MOST_MOJIBAKE:
        return "broken"
    counts = np.bincount(classes()[np.minimum(codes, BMP)], minlength=THAI + 1)
    if counts[SIGN] > quality.max_symbols * len(text):
        return "symbols"
    if _is_repetitive(text, codes):
        return "repetitive"
    if quality.languages and not _is_in(quality.languages, quality.min_language, counts):
        return "language"
    return None


def _is_repetitive(text: str, codes: NDArray[np.uint32]) -> bool:
    if len(text) >= LONG_ENOUGH_FOR_SIGNS:
        counts = np.bincount(codes & np.uint32(0xFFF))  # a few characters share a place, none of them common together
        counts[32:33] = 0
        if counts.max() > MOST_ONE_SIGN * len(text):
            return True
    data = text.encode()[: 1 << 16]
    return len(data) >= LONG_ENOUGH_TO_PACK and len(zlib.compress(data, 1)) < REPETITIVE * len(data)


def _is_in(languages: Sequence[str], share: float, counts: NDArray[np.int64]) -> bool:
    """Whether enough of the letters belong to scripts of these languages."""
    scripts = sorted({script for language in languages for script in LANGUAGES[language]})
    letters = counts[OTHER_LETTER:].sum()
    return bool(letters and counts[scripts].sum() >= share * letters)


@functools.cache
def classes() -> NDArray[np.uint8]:
    """The class of every character of the basic plane, and last that of all others, which are signs."""
    table = np.full(BMP + 1, SIGN, np.uint8)
    for code in range(BMP):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace():
            table[code] = BLANK
        elif category[0] == "N":
            table[code] = NUMBER
        elif category[0] in "LM":
            script = unicodedata.name(character, "").partition(" ")[0]
            table[code] = SCRIPTS.get(script, OTHER_LETTER)
    return table
