"""GGUF's blocks in panels: the gguf package says what numbers they hold, and the layout is the one that is told."""

import gguf as judge
import numpy as np
import pytest

from soban.ops import formats, gguf
from soban.ops.formats import PANEL, Rows, decode
from tests.blocks import HALF_PLACES, random_blocks

SHAPES = [(1, 1), (16, 2), (17, 3), (40, 9)]  # rows, blocks of a row


@pytest.mark.parametrize("format", gguf.TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_panels_hold_bit_for_bit_the_numbers_of_the_gguf_package(format: str, shape: tuple[int, int]) -> None:
    rows, columns = shape[0], shape[1] * gguf.TYPES[format].values
    blocks = random_blocks(1, format, rows, columns)
    theirs = judge.dequantize(blocks, judge.GGMLQuantizationType[format.upper()])
    part = Rows(format, rows, columns, gguf.pack(format, blocks, columns))
    assert np.array_equal(decode(part).view(np.uint32), theirs.view(np.uint32))
    chosen = np.array([rows - 1, 0])
    assert np.array_equal(decode(part, chosen), theirs[chosen])


@pytest.mark.parametrize("format", gguf.TYPES)
def test_panels_take_three_hundredths_more_than_the_file_at_most(format: str) -> None:
    assert formats.stored_bytes(format, PANEL, 512) <= 1.03 * PANEL * gguf.row_bytes(format, 512)


def test_the_layout_is_the_one_that_is_told() -> None:
    """One row of Q6_K whose codes, and Q4_K whose scales, are known."""
    row, k = 3, 64 + 4 * 11 + 2  # quad 11 of group 1: the high nibbles of vector 3, shift 2 * 2 + 2 of upper vector 1
    block = np.zeros((PANEL, 210), np.uint8)
    block[row, (k % 64) + 64 * (k // 128)] = (0b1101 << 4) if k // 64 % 2 else 0b1101
    block[row, 128 + k // 128 * 32 + k % 32] = 0b10 << (2 * (k // 32 % 4))
    block[row, 192 + 6] = 5  # the scale of columns 96 to 111
    block[row, 208:] = np.array([1.5], np.float16).view(np.uint8)
    data = gguf.pack("q6_k", block, 256)
    assert data[2 * row : 2 * row + 2].view(np.float16) == 1.5 and data[32 + 16 * 6 + row] == 5
    group = data[320 + 768 :]
    assert group[64 * 3 + 4 * row + 2] >> 4 == 0b1101
    assert group[64 * (8 + 1) + 4 * row + 2] >> 6 & 3 == 0b10
    block = np.zeros((PANEL, 144), np.uint8)
    block[row, 4 + 2], block[row, 4 + 4 + 3] = 33, 44  # scale of columns 64 to 95, minimum of 96 to 127
    data = gguf.pack("q4_k", block, 256)
    assert data[64 + 16 * 2 + row] == 33 and data[64 + 128 + 16 * 3 + row] == 44


@pytest.mark.parametrize("format", gguf.TYPES)
def test_scales_that_are_no_numbers_are_noticed(format: str) -> None:
    blocks = random_blocks(2, format, 20, 512)
    assert gguf.are_finite(format, 512, gguf.pack(format, blocks, 512))
    at = HALF_PLACES.get(format, (0,))[-1]
    blocks[17, at : at + 2] = np.array([np.inf], np.float16).view(np.uint8)
    assert not gguf.are_finite(format, 512, gguf.pack(format, blocks, 512))
