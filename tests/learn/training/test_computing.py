"""How a step is shared among threads."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from soban.learn.data.packing import Batch  # noqa: E402
from soban.learn.training.computing import pieces  # noqa: E402


def batch(rows: int, first: int) -> Batch:
    inputs = np.arange(first, first + rows * 4).reshape(rows, 4)
    return Batch(inputs, inputs + 1, np.arange(0, rows * 4, 4))


@pytest.mark.parametrize(
    ("batches", "rows", "parts", "shares"), [(8, 1, 4, 4), (2, 3, 4, 4), (1, 3, 8, 3), (3, 5, 1, 1)]
)
def test_rows_that_are_accumulated_are_shared_by_all_threads(batches: int, rows: int, parts: int, shares: int) -> None:
    given = [batch(rows, 100 * number) for number in range(batches)]
    parted = pieces(given, parts)
    counts = [sum(len(piece.inputs) for piece in share) for share in parted]
    assert len(parted) == shares and max(counts) - min(counts) <= 1
    inputs = torch.cat([piece.inputs for share in parted for piece in share])
    assert inputs.tolist() == [row for one in given for row in one.inputs.tolist()]
    for piece in (piece for share in parted for piece in share):
        assert (piece.targets == piece.inputs + 1).all()
        assert (piece.documents == piece.documents[:, :1]).all()  # each row is a document here
