"""Near-duplicates: MinHash finds pairs that may be alike, their shingles tell whether they are.

MinHash: Broder, "On the resemblance and containment of documents" (1997); bands: Leskovec, Rajaraman, Ullman, "Mining
of Massive Datasets", chapter 3. Works on characters, so that it needs no words and Korean is as good as English.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from soban.learn.data.quality import BMP, HAN, HANGUL, NUMBER, OTHER_LETTER, classes

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint32]

# Characters in a shingle. A syllable of Hangul holds two or three letters.
LETTERS, SYLLABLES = 5, 3
BANDS, ROWS = 16, 4  # a pair of similarity s meets with 1 - (1 - s^4)^16: 0.99 at 0.7, 0.07 at 0.26
HASHES = BANDS * ROWS
SLACK = 0.2  # three standard errors of an estimate by 64 hashes: 3 * sqrt(0.8 * 0.2 / 64) = 0.15
REPRESENTATIVES = 16  # of a band's bucket, with which its other documents are compared
MULTIPLIER = np.uint32(0x01000193)
EMPTY = np.uint32(0xFFFFFFFF)


def code_points(text: str) -> Codes:
    """The characters as numbers."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


@functools.cache
def _constants() -> tuple[Hashes, Hashes]:
    """Odd factors and summands of the hash functions, the same in every run."""
    chance = np.random.default_rng(20_240_229)
    factors, summands = chance.integers(0, 1 << 32, (2, HASHES), np.uint32)
    return factors | np.uint32(1), summands


def shingles(codes: Codes) -> Hashes:
    """Hashes of all runs of a few letters and digits, each once, in order; case, blanks and signs do not count."""
    return np.unique(runs(codes))


def runs(codes: Codes) -> Hashes:
    """The same, in the order of the text: for a signature it does not matter how often one comes."""
    kinds = classes()[np.minimum(codes, BMP)]
    letters = codes[kinds >= NUMBER]
    upper = (letters >= 0x41) & (letters <= 0x5A)
    letters = np.where(upper, letters + np.uint32(32), letters)
    syllables = 2 * np.count_nonzero((kinds >= HANGUL) & (kinds <= HAN)) > np.count_nonzero(kinds >= OTHER_LETTER)
    length = min(SYLLABLES if syllables else LETTERS, max(1, len(letters)))
    count = len(letters) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint32)
    mixed = np.full(count, 0x811C9DC5, np.uint32)  # FNV-1a, a character at a time, then murmur3's last step
    for offset in range(length):
        mixed = (mixed ^ letters[offset : offset + count]) * MULTIPLIER
        mixed ^= mixed >> np.uint32(15)
    for factor, shift in ((0x85EBCA6B, 13), (0xC2B2AE35, 16)):
        mixed = mixed * np.uint32(factor)
        mixed ^= mixed >> np.uint32(shift)
    return mixed


def signatures(sets: Sequence[Hashes]) -> NDArray[np.uint32]:
    """The MinHash signatures (documents, HASHES) of sets of shingles."""
    minhashes = np.full((len(sets), HASHES), EMPTY, np.uint32)
    full = [number for number, hashes in enumerate(sets) if hashes.size]
    if full:
        together = np.concatenate([sets[number] for number in full])
        starts = np.cumsum([0, *(sets[number].size for number in full)])[:-1]
        for index, (factor, summand) in enumerate(zip(*_constants(), strict=True)):
            minhashes[full, index] = np.minimum.reduceat(together * factor + summand, starts)
    return minhashes


def similarity(left: Hashes, right: Hashes) -> float:
    """Jaccard: the share of all shingles that both have."""
    common = np.intersect1d(left, right, assume_unique=True).size
    union = left.size + right.size - common
    return common / union if union else 1.0


class Groups:
    """Documents joined to groups; the first of each stands for it."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def first(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    def join(self, left: int, right: int) -> None:
        low, high = sorted((self.first(left), self.first(right)))
        self._parents[high] = low

    def of_all(self) -> NDArray[np.int64]:
        """The first of each document's group."""
        return np.array([self.first(number) for number in range(len(self._parents))], np.int64)


def alike(
    minhashes: NDArray[np.uint32], sets: Callable[[int], Hashes], least: float, tell: Callable[[float], None]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[tuple[int, int]]]:
    """Which documents are too like one that stays, the group of each, and the pairs that were found.

    `minhashes` are the signatures, `sets` gives the shingles of a document by its number, `least` is the similarity
    from which two are alike. A document goes only if it is like an earlier one that stays.
    """
    groups = Groups(len(minhashes))
    pairs: set[tuple[int, int]] = set()
    unlike: set[tuple[int, int]] = set()
    for band in range(BANDS):
        keys = np.ascontiguousarray(minhashes[:, band * ROWS : (band + 1) * ROWS]).view(np.uint64)
        mixed = keys[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ keys[:, 1]
        order = np.argsort(mixed, kind="stable")
        edges = np.concatenate([[0], np.flatnonzero(np.diff(mixed[order])) + 1, [len(order)]])
        for index in np.flatnonzero(np.diff(edges) > 1):
            _compare(order[edges[index] : edges[index + 1]].tolist(), minhashes, sets, least, unlike, pairs)
        tell((band + 1) / BANDS)
    for left, right in pairs:
        groups.join(left, right)
    return _dropped(len(minhashes), pairs), groups.of_all(), sorted(pairs)


def _compare(
    bucket: list[int], minhashes: NDArray[np.uint32], sets: Callable[[int], Hashes], least: float,
    unlike: set[tuple[int, int]], pairs: set[tuple[int, int]],
) -> None:  # fmt: skip
    """Notes which documents of a bucket are like one of its representatives."""
    representatives: list[int] = []
    for number in bucket:
        if minhashes[number, 0] == EMPTY and minhashes[number, -1] == EMPTY:
            continue  # without letters there is nothing to compare
        estimates = (minhashes[representatives] == minhashes[number]).mean(axis=1) if representatives else ()
        for other, estimate in zip(representatives, estimates, strict=True):
            pair = (other, number)
            if pair in pairs:
                break  # one is enough: the others are in its group
            if estimate >= least - SLACK and pair not in unlike:
                if similarity(sets(other), sets(number)) >= least:
                    pairs.add(pair)
                    break
                unlike.add(pair)
        if len(representatives) < REPRESENTATIVES:
            representatives.append(number)


def _dropped(count: int, pairs: set[tuple[int, int]]) -> NDArray[np.bool_]:
    """Those that are like an earlier one that stays, in the order of the documents."""
    gone = np.zeros(count, bool)
    for later, earlier in sorted((high, low) for low, high in pairs):
        gone[later] |= not gone[earlier]
    return gone
