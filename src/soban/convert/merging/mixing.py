"""Sums of tensors: the share of each, by its weight alone or by the angles between them.

What lies between tensors (their products and lengths) comes as a Gram matrix, so that it can be summed up piece by
piece and over several tensors; the mixing itself then needs a piece of each at a time.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
COLLINEAR = 1e-6  # sine of an angle below which a great circle is a line
MERGEKIT_COLLINEAR = 0.9995  # cosine above which mergekit takes it for one


def linear(weights: Sequence[float], *, normalize: bool = True) -> Doubles:
    """The weights, as shares of their sum if they are to be normalised (model soups: Wortsman et al. 2022)."""
    shares = np.array(weights, np.float64)
    return shares / shares.sum() if normalize else shares


def slerp(gram: Doubles, t: float, *, like_mergekit: bool = False) -> Doubles:
    """Shares of two vectors on the great circle between their directions: the first at t = 0 (Shoemake 1985).

    `gram`: (2, 2), their products with each other. Where they point the same way, or one is zero, it is the line.
    """
    lengths = math.sqrt(gram[0, 0]) * math.sqrt(gram[1, 1])
    if lengths == 0:
        return np.array([1 - t, t])
    cosine = min(1.0, max(-1.0, gram[0, 1] / lengths))
    line = abs(cosine) > MERGEKIT_COLLINEAR if like_mergekit else math.sqrt(1 - cosine**2) < COLLINEAR
    if line:
        return np.array([1 - t, t])
    angle = math.acos(cosine)
    return np.array([math.sin((1 - t) * angle), math.sin(t * angle)]) / math.sin(angle)


def warp(gram: Doubles, share: float = 1.0) -> Doubles:
    """Shares of task vectors in WARP's merge: one after the other joins by SLERP, the m-th with 1/m (Rame et al. 2024).

    `gram`: (M, M), products of the differences to the start. `share`: how far from the start to go (LITI); 1 keeps the
    vectors' length where the mean of them would shrink it.
    """
    shares = np.zeros(len(gram))
    shares[0] = 1.0
    for m in range(1, len(gram)):
        before, new = shares, np.eye(len(gram))[m]
        both = np.stack([before, new])
        shares = slerp(both @ gram @ both.T, 1 / (m + 1)) @ both
    return share * shares


def model_stock(gram: Doubles) -> Doubles:
    """Shares of task vectors in Model Stock: their mean, nearer to the start the wider they part (Jang et al. 2024).

    `gram`: (N, N), products of the differences to the start. The angle is the mean of cosines over all pairs.
    """
    count = len(gram)
    lengths = np.sqrt(np.diag(gram))
    pairs = [(i, j) for i in range(count) for j in range(i)]
    cosine = float(np.mean([gram[i, j] / max(1e-12, lengths[i] * lengths[j]) for i, j in pairs]))
    ratio = count * cosine / (1 + (count - 1) * cosine)
    return np.full(count, ratio / count)
