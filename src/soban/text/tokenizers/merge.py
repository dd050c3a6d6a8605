"""Greedy merging as in SentencePiece's BPE and llama2.c: the best-scored neighbours join first, leftmost on ties."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from operator import add
from typing import AnyStr, Generic

MAX_CACHED_WORDS = 20_000
MAX_CACHED_LENGTH = 64  # longer words hardly come twice


def merge(symbols: Sequence[AnyStr], scores: Mapping[AnyStr, float]) -> list[tuple[int, AnyStr]]:
    """What is left of `symbols` when no two neighbours spell a piece of `scores` any more.

    Each entry is (index of its first symbol, text). O(n log n): a heap of pairs over a linked list of symbols.
    """
    texts: list[AnyStr | None] = list(symbols)
    count: int = len(symbols)
    before: list[int] = list(range(-1, count - 1))
    after = [*range(1, count), -1]
    # (-score, left, right, length of both when the pair was seen)
    heap = [
        (-scores[joined], left, left + 1, len(joined))
        for left, joined in enumerate(map(add, symbols, symbols[1:]))
        if joined in scores
    ]
    heapq.heapify(heap)
    while heap:
        _, left, right, length = heapq.heappop(heap)
        first, second = texts[left], texts[right]
        if first is None or second is None or len(first) + len(second) != length:
            continue  # one of the two has been merged since
        text = first + second
        texts[left], texts[right] = text, None
        previous, following = before[left], after[right]
        after[left] = following
        if following >= 0:
            before[following] = left
            joined = text + texts[following]
            if joined in scores:
                heapq.heappush(heap, (-scores[joined], left, following, len(joined)))
        if previous >= 0:
            joined = texts[previous] + text  # type: ignore[operator]
            if joined in scores:
                heapq.heappush(heap, (-scores[joined], previous, left, len(joined)))
    return [(index, text) for index, text in enumerate(texts) if text is not None]


def words(text: AnyStr, space: AnyStr) -> list[AnyStr]:
    """The text cut before each run of spaces: where no piece `crosses_words`, the words merge independently."""
    parts: list[AnyStr] = []
    spaces = 0
    for part in text.split(space):
        if part:
            parts.append(space * spaces + part)
            spaces = 0
        spaces += 1
    if spaces > 1:
        parts.append(space * (spaces - 1))
    return parts


def crosses_words(piece: AnyStr, space: AnyStr) -> bool:
    """Whether the piece holds a space after something else, so that text must not be cut at spaces."""
    return space in piece.lstrip(space)


class WordCache(Generic[AnyStr]):
    """Encodes text word by word and remembers the ids of common words; with `whole`, a text is one word."""

    def __init__(self, encode_word: Callable[[AnyStr], list[int]], space: AnyStr, whole: bool) -> None:
        self._encode_word: Callable[[AnyStr], list[int]] = encode_word
        self._space: AnyStr = space
        self._whole = whole
        self._known: dict[AnyStr, list[int]] = {}

    def encode(self, text: AnyStr) -> list[int]:
        """The ids of the words of `text`, one after another."""
        if self._whole:
            return self._encode_word(text)
        ids: list[int] = []
        for word in words(text, self._space):
            word_ids = self._known.get(word)
            if word_ids is None:
                word_ids = self._encode_word(word)
                if len(word) <= MAX_CACHED_LENGTH and len(self._known) < MAX_CACHED_WORDS:
                    self._known[word] = word_ids
            ids += word_ids
        return ids
