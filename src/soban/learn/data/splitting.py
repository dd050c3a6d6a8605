"""Which documents are learnt from and which are held out: by their content alone, near-duplicates always together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError

SPLITS = ("train", "validation", "test")


def split(
    keys: NDArray[np.uint64], groups: NDArray[np.int64], numbers: NDArray[np.int64], shares: Sequence[float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """The numbers of the kept documents in each split, in their order; `shares` are validation's and test's.

    A group's place depends on the smallest key in it and on the seed, so that documents which are added later leave
    the others where they are. A split that is wanted gets at least one group. Raises UserError for too few of them.
    """
    least = np.full(len(keys), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, groups, keys)
    firsts = np.unique(groups[numbers])
    nonempty = [share > 0 for share in shares]
    if len(firsts) <= sum(nonempty):
        raise UserError(
            "{count} documents that differ: too few to hold some out", count=len(firsts),
            hint="add more text, or part it into more documents: --parting",
        )  # fmt: skip
    order = firsts[np.argsort(_mixed(least[firsts], seed), kind="stable")]
    places = np.sort(_mixed(least[firsts], seed)) / 2.0**64
    train_left = len(order) - sum(nonempty)  # groups that may go to the others beyond one each
    parts: dict[str, NDArray[np.int64]] = {}
    start, below = 0, 0.0
    for name, share in zip(SPLITS[1:], shares, strict=True):
        below += share
        stop = start
        if share > 0:
            stop = max(start + 1, min(int(np.searchsorted(places, below)), start + train_left))
        train_left -= max(0, stop - start - 1)
        parts[name], start = order[start:stop], stop
    parts["train"] = order[start:]
    return {name: numbers[np.isin(groups[numbers], parts[name])] for name in SPLITS}


def _mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """The keys in an order that the seed decides: splitmix64's last step."""
    mixed = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
