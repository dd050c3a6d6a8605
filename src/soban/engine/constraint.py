"""What a text has to be like while it is written: which tokens may come next, and when it has to come to its end."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from soban.ops.formats import Floats

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]  # a bit for each token, those of a byte from its lowest; tokens past its end may not come

# what is added to the scores of eight tokens, by their byte of a mask: the quickest way to put one in
ADDED = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0, -np.inf)
ADDED = ADDED.astype(np.float32)


class Constraint(Protocol):
    """Of one sequence. Tokens that end a text are not its business: they may come where it is complete."""

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""

    @property
    def ended(self) -> bool:
        """Whether it has to: nothing may follow."""

    @property
    def shortened(self) -> bool:
        """Whether it was brought to an end for want of room, so that it is not what the model would have written."""

    def begin(self, room: int | None) -> None:
        """Before the first token. Raises UserError where no text of at most `room` tokens is known that is complete."""

    def allowed(self) -> Mask:
        """The tokens that may come next. Raises UserError where there are none, though the text may not end."""

    def forced(self) -> list[int]:
        """The tokens that come next whatever the model says, as far as they are known."""

    def settled(self, token: int, room: int | None) -> int | None:
        """The token, if the text can be completed with `room` tokens from this one on.

        Else the first one of a way to complete it with so many; None: it is complete and ends here.
        """

    def take(self, token: int) -> None:
        """Goes on by a token that is allowed."""

    def valid(self, tokens: Sequence[int]) -> int:
        """How many of these may come one after the other."""


Factory = Callable[[], Constraint]  # a new one for each sequence of a request


def permits(mask: Mask, token: int) -> bool:
    """Whether the mask has a token."""
    return token >> 3 < len(mask) and bool(mask[token >> 3] >> (token & 7) & 1)


def masked(scores: Floats, mask: Mask, ends: Collection[int]) -> tuple[Ids | None, Floats]:
    """The scores (vocabulary,) of what the mask or `ends` have: the few ids and their scores, ascending by id.

    Where there are many, None and all scores, with -inf for the others.
    """
    size = len(scores)
    bits = mask[: -(-size // 8)]
    places = np.flatnonzero(bits)
    within = [token for token in ends if token < size]
    if 2 * len(places) < len(bits) or not len(bits):  # looked for in those bytes alone that have any
        inner = np.flatnonzero(np.unpackbits(bits[places], bitorder="little"))
        ids = (places[inner >> 3] << 3) + (inner & 7)
        ids = np.union1d(ids[: int(ids.searchsorted(size))], np.array(within, np.int64))
        return ids, scores[ids]
    left = np.full(size, -np.inf, np.float32)
    added = ADDED.take(bits, axis=0).reshape(-1)[:size]
    np.add(scores[: len(added)], added, out=left[: len(added)])
    left[within] = scores[within]
    return None, left
