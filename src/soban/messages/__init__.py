"""What soban says to people: English templates with named fields, and their translations."""

import functools
import gettext
import locale
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

logger = logging.getLogger("soban")


def language() -> str:
    """The two-letter code of the user's language: SOBAN_LANG, then the locale, then English."""
    for name in ("SOBAN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value[:2].lower()
    return (locale.getlocale()[0] or "en")[:2].lower()


@functools.cache
def catalogue(code: str) -> gettext.NullTranslations:
    """The translations into one language; English is the text itself."""
    path = Path(__file__).parent / f"{code}.mo"
    if code == "en" or not path.is_file():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        return gettext.GNUTranslations(file)


def translate(template: str, **fields: object) -> str:
    """The template in the user's language, its fields filled in."""
    return catalogue(language()).gettext(template).format(**fields)


def width(text: str) -> int:
    """Columns that a text takes in a terminal: a Hangul syllable two, a mark on the letter before it none."""
    import unicodedata

    wide = (2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))
    return sum(wide)


# What a terminal obeys, or that turns the order of letters: control characters, line ends, marks of direction.
OBEYED = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """The text as it may stand in a terminal: \\x1b, \\n and the like where a character would be obeyed."""
    return OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def padded(text: str, columns: int, right: bool = False) -> str:
    """The text with blanks behind it up to so many columns; `right`: before it."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


@functools.cache
def _once(text: str) -> None:
    logger.warning(text)


def show(text: str) -> None:
    """Writes something to the log that needs no stop; the same words once a process."""
    _once(text)


_hearer: ContextVar[Callable[[str], None]] = ContextVar("hearer", default=show)


def warn(template: str, **fields: object) -> None:
    """Tell whoever asks for what is being done something that needs no stop; the log, where nobody wants to hear it."""
    _hearer.get()(translate(template, **fields))


@contextmanager
def heard_by(hearer: Callable[[str], None]) -> Iterator[None]:
    """What is told meanwhile, in this thread, is for the hearer: it belongs to one request, and not to the process."""
    before = _hearer.set(hearer)
    try:
        yield
    finally:
        _hearer.reset(before)
