"""The two ends of a model: tokens to their rows of the vocabulary, and hidden states to a score for each row.

A large vocabulary is kept in two halves of 4 bits. A token's row is their sum. Scores are first computed with the upper
half alone; the lower is then read for the panels that hold the largest, which is nearly all of the probability.
"""

from typing import Any

from soban.ops import reference
from soban.ops.formats import PANEL, Matrix

REFINED_SHARE, REFINED_LEAST = 16, 64  # refine() takes a panel of 16 at the most, where there are more than 64
REFINED_MARGIN = 10.0  # ... if it comes so near to the largest score: exp(-10) of its probability


def embed(ids: Any, table: Matrix, scale: float) -> Any:
    """(T,) -> (T, columns): the table's row for each token id, or position, times `scale`."""
    rows = reference.embed(ids, table, scale)
    if table.residual is None:
        return rows
    return reference.add(rows, reference.embed(ids, Matrix((table.residual,)), scale))


def scores(x: Any, head: Matrix) -> Any:
    """(T, K) -> (T, rows): x @ head.T."""
    coarse = reference.linear(x, head)
    if head.residual is None:
        return coarse
    return reference.refine(x, coarse, Matrix((head.residual,)), refined_panels(head.shape[0]), REFINED_MARGIN)


def refined_panels(rows: int) -> int:
    """How many panels of a matrix of so many rows `refine` takes at the most."""
    panels = -(-rows // PANEL)
    return min(panels, max(REFINED_LEAST, -(-panels // REFINED_SHARE)))
