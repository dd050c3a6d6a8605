"""Random blocks of GGUF's types, as a file may hold them: any codes and steps, small finite scales."""

import numpy as np
import numpy.typing as npt

from soban.ops import gguf
from soban.ops.formats import Rows

# Where a block keeps its float16; the others at its beginning.
HALF_PLACES = {"q4_1": (0, 2), "q5_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}


def random_blocks(seed: int, format: str, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """(rows, bytes of a row)."""
    dice, kind = np.random.default_rng(seed), gguf.TYPES[format]
    blocks = dice.integers(0, 256, (rows * columns // kind.values, kind.bytes), np.uint8)
    for at in HALF_PLACES.get(format, (0,)):
        scales = (dice.uniform(-1, 1, len(blocks)) * 2e-3).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def random_rows(seed: int, format: str, rows: int, columns: int) -> Rows:
    """The same in panels."""
    return Rows(format, rows, columns, gguf.pack(format, random_blocks(seed, format, rows, columns), columns))
