"""Panels: 16 rows of a matrix side by side, in blocks of 256 columns, so that one vector holds a number of each row."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

PANEL = 16  # rows side by side: one 512-bit register of 32-bit sums, two of 256 bits
GROUP = 64  # to a multiple of which rows are filled up; numbers of the cache that share a scale
BLOCK = 256  # columns of a block; weights, and activations, that share a scale in our own formats
HALF = 32  # of a group
QUADS = GROUP // 4  # vectors of a group: four neighbouring columns of each row


def groups_of_blocks(columns: int) -> list[int]:
    """The groups of each block of a row."""
    groups, most = -(-columns // GROUP), BLOCK // GROUP
    return [min(most, groups - first) for first in range(0, groups, most)]


def over_blocks(columns: int, size: Callable[[int], int]) -> int:
    """The sum of size(groups) over the blocks of a row, however long a file says that it is."""
    whole, rest = divmod(-(-columns // GROUP), BLOCK // GROUP)
    return whole * size(BLOCK // GROUP) + (size(rest) if rest else 0)


def cut(x: npt.NDArray) -> Iterator[npt.NDArray]:
    """The blocks of (n, columns)."""
    return (x[:, start : start + BLOCK] for start in range(0, x.shape[1], BLOCK))


def vectors(q: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Integers (rows, columns of a block) as (panels, groups, 16 vectors, bytes): byte 4r + j of vector i is row r's at
    column 4i + j.
    """
    panels, groups = len(q) // PANEL, q.shape[1] // GROUP
    whole = q.reshape(panels, PANEL, groups, QUADS, 4).transpose(0, 2, 3, 1, 4)
    return whole.reshape(panels, groups, QUADS, 4 * PANEL)


def rows_of(vectors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same back."""
    panels, groups = vectors.shape[:2]
    return vectors.reshape(panels, groups, QUADS, PANEL, 4).transpose(0, 3, 1, 2, 4).reshape(-1, groups * GROUP)
