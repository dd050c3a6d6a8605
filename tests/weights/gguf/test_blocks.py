"""Blocks to numbers: bit for bit those of the gguf package, whose dequantisers equal ggml's."""

import gguf
import numpy as np
import pytest

from soban.weights.checkpoint import BLOCKS
from soban.weights.gguf.blocks import BY_NAME, DECODERS, KINDS, PLAIN, REFUSED, TYPES, numbers


@pytest.mark.parametrize("format", DECODERS)
def test_numbers_of_random_bytes_are_those_of_the_gguf_package(format: str) -> None:
    kind = BY_NAME[format]
    # all bytes, so that scales are also infinite and no numbers
    rows = np.random.default_rng(1).integers(0, 256, (40, 9 * kind.bytes), np.uint8)
    with np.errstate(all="ignore"):
        theirs = gguf.dequantize(rows, gguf.GGMLQuantizationType(kind.number))
    ours = numbers(format, rows)
    assert ours.shape == (40, 9 * kind.values)
    finite = np.isfinite(theirs)
    assert finite.mean() > 0.5
    assert np.array_equal(ours[finite].view(np.uint32), theirs[finite].view(np.uint32))
    assert np.array_equal(np.isnan(ours), np.isnan(theirs)) and np.array_equal(np.isinf(ours), np.isinf(theirs))


def test_more_blocks_than_one_go_takes_come_out_in_their_order() -> None:
    rows = np.random.default_rng(2).integers(0, 256, (300, 4 * 144), np.uint8)
    assert np.array_equal(
        numbers("q4_k", rows)[200], numbers("q4_k", rows[200:201])[0], equal_nan=True
    )  # 300 x 1024 numbers are more than one go


def test_every_type_has_the_size_and_the_name_that_ggml_gives_it() -> None:
    for kind in KINDS:
        theirs = gguf.GGMLQuantizationType(kind.number)
        assert kind.title == theirs.name and (kind.values, kind.bytes) == gguf.GGML_QUANT_SIZES[theirs]
    for theirs in gguf.GGMLQuantizationType:
        assert (theirs.value in TYPES) != (REFUSED.get(theirs.value) == theirs.name)
    assert set(DECODERS) == BLOCKS and set(PLAIN) | BLOCKS == set(BY_NAME)
