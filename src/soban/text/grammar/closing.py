"""The way to the end of a text that has to be of a certain form: tokens that complete it, as few as are easily seen."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from soban.text.grammar.words import Ids, Words

if TYPE_CHECKING:
    from llguidance import LLMatcher

PATIENCE = 4  # times that a choice may come back before something else is tried
LONGEST = 2048  # tokens that are tried; who needs more of them has no way out


def way_out(matcher: "LLMatcher", words: Words, room: int, hints: Sequence[list[int]] = ()) -> list[int] | None:
    """Tokens after which the text is complete, at most `room`; None where none are found. The matcher is used up.

    What is forced is taken at once. Else the first of `hints` that may come in whole, then what closes strings and
    brackets, then what is short. Where there is the same choice again at once, the next of these is taken, and where
    it comes back later, after some times: so numbers that have to be multiples, and expressions that go round, come to
    their end.
    """
    way: list[int] = []
    rounds: Counter[bytes] = Counter()
    before = b""  # the choice that there was just now
    room = min(room, LONGEST)
    while not matcher.is_accepting():
        if len(way) >= room or matcher.is_error():
            return None
        tokens = matcher.compute_ff_tokens()
        if tokens:
            before = b""
        else:
            mask = matcher.compute_bitmask()
            rounds[mask] += PATIENCE if mask == before else 1
            number, before = rounds[mask] // PATIENCE, mask
            tokens = [] if number else next((h for h in hints if matcher.validate_tokens(h) == len(h)), [])
            tokens = tokens or _choice(np.frombuffer(mask, np.uint8), words, number)
            if not tokens:
                return None
        if not matcher.consume_tokens(tokens):
            return None
        way += tokens
    return way if len(way) <= room else None


def _choice(mask: np.ndarray, words: Words, number: int) -> list[int]:
    """The token to take where a choice has come back `number` times too often; [] where there is none at all."""
    order = words.closing
    if _has(mask, words, b"}") and _has(mask, words, b"]"):  # both may come only within a string
        order = words.closing_string
    ids = order[_bits(mask, order)]
    if len(ids) and words.closes(int(ids[0])):
        number //= LONGEST  # strings are closed again and again, and rightly
    if not len(ids):
        ids = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        ids = ids[ids < words.end]
    return [int(ids[number % len(ids)])] if len(ids) else []


def _has(mask: np.ndarray, words: Words, text: bytes) -> bool:
    token = words.token(text)
    return token is not None and bool(mask[token >> 3] >> (token & 7) & 1)


def _bits(mask: np.ndarray, ids: Ids) -> np.ndarray:
    return (mask[ids >> 3] >> (ids & 7) & 1).astype(bool)
