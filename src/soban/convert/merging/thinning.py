"""What is kept of the difference to the model that another was tuned from: the large, the middle, or some at random.

Thresholds hold for a whole tensor, of which only a piece is in memory: magnitudes are counted by their bits, the upper
half of them first, then the lower, so that the k-th largest is exact.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pieces = Callable[[], Iterable[Floats]]  # a tensor's numbers, as often as they are asked for
HALF = 1 << 16


@dataclass(frozen=True)
class Kept:
    """Magnitudes from `low` to below `high` are kept."""

    low: float = 0.0
    high: float = np.inf

    def mask(self, values: Floats) -> npt.NDArray[np.bool_]:
        size = np.abs(values)
        return (size >= np.float32(self.low)) & (size < np.float32(self.high))


def largest(pieces: Pieces, count: int, density: float) -> Kept:
    """The share `density` of the numbers, the largest, with all as large as the last one (TIES: Yadav et al. 2023)."""
    keep = int(density * count)
    return Kept() if keep >= count else Kept(kth_largest(pieces, keep)) if keep else Kept(np.inf)


def middle(pieces: Pieces, count: int, density: float, gamma: float) -> Kept:
    """The share `density`, without the share `gamma` of the largest (Model Breadcrumbs: Davari and Belilovsky 2023)."""
    keep, top = int(density * count), int(gamma * count)
    if keep >= count:
        return Kept()
    top = min(top, count - keep)
    high = kth_largest(pieces, top) if top else np.inf
    low = kth_largest(pieces, min(count, keep + top)) if keep else np.inf
    return Kept(low, high)


def kth_largest(pieces: Pieces, k: int) -> float:
    """The k-th largest magnitude, counted from 1."""
    counts = np.zeros(HALF, np.int64)
    for piece in pieces():
        counts += np.bincount(_bits(piece) >> 16, minlength=HALF)
    upper, above = _place(counts, k)
    counts[:] = 0
    for piece in pieces():
        bits = _bits(piece)
        counts += np.bincount(bits[bits >> 16 == upper] & (HALF - 1), minlength=HALF)
    lower, _ = _place(counts, k - above)
    return float(np.array([upper << 16 | lower], np.uint32).view(np.float32)[0])


def _bits(values: Floats) -> npt.NDArray[np.uint32]:
    """Of positive numbers, the larger one has the larger bits."""
    return np.abs(values).reshape(-1).view(np.uint32)


def _place(counts: npt.NDArray[np.int64], k: int) -> tuple[int, int]:
    """Where the k-th from above is, and how many are above that place."""
    from_above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(from_above, k))
    return len(counts) - 1 - place, int(from_above[place - 1]) if place else 0


def at_random(values: Floats, density: float, dice: Any) -> Floats:
    """Each number stays with the chance `density`, made larger by 1 over it (DARE: Yu et al. 2023)."""
    drawn = dice.random(values.shape, np.float32) < np.float32(density)
    return np.where(drawn, values / np.float32(density), np.float32(0))


def by_rank(values: Floats, density: float, epsilon: float, dice: Any) -> tuple[Floats, Floats]:
    """Each number with the chance that it stays: the larger in its row, the likelier (DELLA: Deep et al. 2024).

    Chances go evenly from density - epsilon to density + epsilon. The numbers that do not stay are 0, the others as
    they were: whoever wants their mean to stay divides by the chances.
    """
    rows = values.reshape(1, -1) if values.ndim < 2 else values
    ranks = np.abs(rows).argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable").astype(np.float32)
    chances = np.float32(density - epsilon) + ranks * np.float32(2 * epsilon / max(1, rows.shape[-1] - 1))
    chances = chances.reshape(values.shape)
    drawn = dice.random(values.shape, np.float32) < chances
    return np.where(drawn, values, np.float32(0)), chances


def elected(weighted: list[Floats], weights: list[float]) -> tuple[Floats, Floats]:
    """Of weighted differences, the sum of those with the sign that most of their mass has, and their weights' sum.

    Zeros have no sign, and take no part (TIES: Yadav et al. 2023).
    """
    positive = np.sum(weighted, axis=0) >= 0
    total, weight = np.zeros_like(weighted[0]), np.zeros_like(weighted[0])
    for one, share in zip(weighted, weights, strict=True):
        takes = ((one > 0) == positive) & (one != 0)
        total += np.where(takes, one, 0)
        weight += np.float32(share) * takes
    return total, weight
