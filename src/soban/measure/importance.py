"""How large the numbers are that each matrix of a model is multiplied with, column by column, while it reads a text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.measure.layers import Tape
from soban.measure.tensors import open_form
from soban.ops import make_batch, make_cache
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.text.tokenizers.tokenizer import Tokenizer
from soban.weights.checkpoint import GGUF
from soban.weights.gguf.importance import Importance

CHUNK = 512  # tokens of a piece of text, as llama-imatrix cuts it
AT_ONCE = 2048  # tokens that are read together: weights are taken apart once for all of them
OUTPUTS = 64  # of these tokens the logits: a large vocabulary takes a megabyte for each
TOKENS = 16_384  # in all, where nobody says
FEWEST = 32  # of a text that is worth it


def pieces_of(tokenizer: Tokenizer, text: str, most: int, longest: int) -> list[list[int]]:
    """The text's first tokens in pieces, each with what every text begins with. Raises UserError for a short one."""
    ids = list(tokenizer.encode(text))
    length = min(CHUNK, longest)
    if len(ids) < FEWEST:
        raise UserError(
            "a text of {count} tokens says too little of how a model is used", count=len(ids),
            hint="give some pages of text like what it is to read and write",
        )  # fmt: skip
    begins = [] if tokenizer.bos_id is None or ids[0] != tokenizer.bos_id else [tokenizer.bos_id]
    bare = ids[len(begins) :][:most]
    step = length - len(begins)
    pieces = [begins + bare[start : start + step] for start in range(0, len(bare), step)]
    return [piece for piece in pieces if len(piece) >= min(FEWEST, length)]


def collect(
    path: Path, pieces: Sequence[Sequence[int]], dataset: str,
    progress: Callable[[float], None] = lambda share: None,
) -> Importance:  # fmt: skip
    """The importance matrix of the model at a path, over pieces of token ids; by GGUF's names of its matrices.

    NumPy computes, with the weights as they are stored. Raises UserError where the model cannot be read.
    """
    form = open_form(path)
    longest = max(map(len, pieces))
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    parts = {part.name: part for part in form.architecture.plan.parts()}

    def watch(names: tuple[str, ...], x: Floats) -> None:
        squares = np.einsum("ij,ij->j", x, x, dtype=np.float64)
        for name in {parts[name].source(GGUF) or name for name in names}:
            sums[name] = sums.get(name, 0) + squares
            counts[name] = counts.get(name, 0) + len(x)

    batches = _batches(pieces)
    total = len(batches) * (form.architecture.config.num_hidden_layers + 2)
    for n, batch_of in enumerate(batches):
        tape = Tape(form, longest, watch)
        pages = -(-longest // PAGE)
        tables = [range(i * pages, (i + 1) * pages) for i in range(len(batch_of))]
        rows = sum(map(len, batch_of))
        seen = range(0, rows, max(1, rows // OUTPUTS))
        batch = make_batch(batch_of, [0] * len(batch_of), tables, seen, form.architecture.config.row(longest))
        cache = make_cache(len(batch_of) * pages, form.architecture.config.geometries, "f32", len(batch_of))
        layers = form.architecture.config.num_hidden_layers
        for layer in range(-1, layers + 1):
            tape.run(layer, batch, cache)
            tape.drop(layer)
            progress((n * (layers + 2) + layer + 2) / total)
    return Importance(
        {name: values[None].astype(np.float32) for name, values in sums.items()},
        {name: np.array([count], np.float32) for name, count in counts.items()},
        (dataset,), len(pieces), longest, str(path),
    )  # fmt: skip


def _batches(pieces: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Pieces that are read together."""
    batches: list[list[Sequence[int]]] = [[]]
    for piece in pieces:
        if batches[-1] and sum(map(len, batches[-1])) + len(piece) > AT_ONCE:
            batches.append([])
        batches[-1].append(piece)
    return batches
