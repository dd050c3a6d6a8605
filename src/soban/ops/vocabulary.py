"""The two ends of a model: tokens to their rows of the vocabulary, and hidden states to a score for each row.

A large vocabulary is kept in two halves of 4 bits. A token's row is their sum. Scores are first computed with the upper
half alone; the lower is then read for the panels that hold the largest, which is nearly all of the probability.
"""

from typing import Any

from soban.ops import reference
from soban.ops.formats import Matrix


def embed(tokens: Any, table: Matrix, scale: float) -> Any:
    """(T,) -> (T, columns): each token's row of the table, times `scale`."""
    rows = reference.embed(tokens, table, scale)
    if table.residual is None:
        return rows
    return reference.add(rows, reference.embed(tokens, Matrix((table.residual,)), scale))


def scores(x: Any, head: Matrix) -> Any:
    """(T, K) -> (T, rows): x @ head.T."""
    coarse = reference.linear(x, head)
    return coarse if head.residual is None else reference.refine(x, coarse, Matrix((head.residual,)))
