"""A model's tensors as a Hugging Face file has them, from whatever kind of file they lie in."""

from collections.abc import Iterator

import numpy as np

from soban.convert.source import Floats, Source, halves, rotated_heads
from soban.models import Architecture
from soban.models.plan import Part
from soban.weights.checkpoint import GGUF


def whole_rows(source: Source, architecture: Architecture, name: str) -> Iterator[Floats]:
    """A tensor of a fitted source by Hugging Face's name, in pieces of its rows."""
    parts = architecture.plan.tensors()[name]
    heads = _heads(source, architecture)
    if parts[0].transposed or parts[0].heads > 1:
        yield _joined([source.whole(part.name) for part in parts], parts[0])
        return
    for part in parts:
        if (count := heads.get(part.name)) is None:
            yield from source.rows(part.name)
        else:
            values = source.whole(part.name)
            yield halves(values.reshape(len(values), -1), count).reshape(values.shape)


def _heads(source: Source, architecture: Architecture) -> dict[str, int]:
    """The tensors whose heads are kept in pairs, and how many heads they have."""
    if source.is_llama2c:
        return rotated_heads(architecture)
    return rotated_heads(architecture, GGUF) if source.checkpoint.interleaved else {}


def _joined(parts: list[Floats], part: Part) -> Floats:
    """Parts as the larger tensor of a Hugging Face folder has them: of each head in turn, or turned over."""
    if part.heads > 1:
        by_heads = [values.reshape(part.heads, -1, *values.shape[1:]) for values in parts]
        parts = [np.concatenate(by_heads, axis=1).reshape(-1, *parts[0].shape[1:])]
    whole = np.concatenate(parts)
    return whole.T if part.transposed else whole
