"""Weight formats: what is stored, how far it is from the original, and that extremes survive."""

import numpy as np
import pytest

from soban.ops import formats, gguf
from soban.ops.formats import BLOCK, GROUP, PANEL, decode, encode, matrix, stored_bytes, turn, unpack

SHAPES = [(1, 1), (16, 64), (17, 65), (33, 130), (5, 288), (48, 64)]


@pytest.mark.parametrize("format", formats.FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoding_gives_the_shape_back_and_the_size_is_as_told(format: str, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    part = encode(values, format)
    assert part.data.nbytes == stored_bytes(format, *shape)
    assert decode(part).shape == shape
    chosen = np.array([shape[0] - 1, 0])
    np.testing.assert_array_equal(decode(part, chosen), decode(part)[chosen])


def turned(values: np.ndarray) -> np.ndarray:
    return turn(values, inverse=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_q8_is_within_half_a_step_of_what_is_stored_and_never_minus_128(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    levels, scales = unpack(encode(values, "q8"))
    assert levels.min() >= -127
    steps = np.repeat(scales, BLOCK, axis=1)[:, : levels.shape[1]]
    assert (np.abs(steps * levels - turned(values)) <= 0.501 * steps).all()
    for start in range(0, levels.shape[1], BLOCK):
        assert (np.abs(levels[:, start : start + BLOCK].astype(int)).max(axis=1) == 127).all()


def test_q4_is_nearer_than_plain_rounding_between_the_extremes() -> None:
    values = np.random.default_rng(2).standard_normal((64, 512)).astype(np.float32)
    groups = turned(values).reshape(64, -1, GROUP)
    low, step = groups.min(-1, keepdims=True), np.ptp(groups, axis=-1, keepdims=True) / 15
    plain = turn((np.rint((groups - low) / step) * step + low).reshape(values.shape))
    error = np.square(decode(encode(values, "q4")) - values).mean()
    assert error < 0.7 * np.square(plain - values).mean()


def test_the_layout_is_the_one_that_is_told() -> None:
    levels = np.zeros((PANEL, BLOCK + GROUP), np.float32)
    levels[:, 0] = levels[:, BLOCK] = 127  # the scale of both blocks is 1
    row, k = 3, BLOCK + 4 * 5 + 2  # group 0 of the second block
    levels[row, k], levels[row, k + 32] = 9, -5
    values = turn(levels)
    data = encode(values, "q8").data
    second = data[64 + 4 * 1024 :]
    assert second.nbytes == 64 + 1024 and (second[:64].view(np.float32) == 1).all()
    assert second[64 + 5 * 64 + 4 * row + 2] == 9 and second[64 + 13 * 64 + 4 * row + 2].view(np.int8) == -5
    data = encode(values, "q4").data
    second = data[64 + 192 + 4 * 512 :]
    assert second.nbytes == 64 + 64 + 512 and (second[:64].view(np.float32) == 1).all()
    step, offsets = second[64 + row], second[80 + 2 * row : 80 + 2 * row + 2].view(np.int8).astype(int)
    nibbles = second[128 + 5 * 64 + 4 * row + 2]
    assert abs(((step & 15) + 1) * (nibbles & 15) - offsets[0] - 9) <= 8
    assert (((step >> 4) + 1) * (nibbles >> 4) - offsets[1]) == -5  # a half that has one number and zeros is exact
    np.testing.assert_array_equal(second[112:128], 0)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("format", ["q8", "q4"])
@pytest.mark.parametrize("fill", [0.0, 1e-42, 1e-38, -1e37, 1e37, 1.0], ids=str)
def test_constant_and_extreme_groups_stay_finite_and_close(format: str, fill: float) -> None:
    values = np.full((16, 64), fill, np.float32)
    values[0, 0] = -values[0, 0]
    got = decode(encode(values, format))
    assert np.isfinite(got).all()
    # turned, a row is one large number and small ones, of which half a step in q8, a whole one in q4, may be lost
    error = np.sqrt(np.square(got.astype(np.float64) - values).mean(axis=1)).max()
    assert error <= abs(fill) * (0.5 * 8 / 127 if format == "q8" else 1 / 8) + 1e-36


def test_bf16_rounds_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    bits = np.random.default_rng(3).integers(0, 2**32, 100000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    want = torch.tensor(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(formats.bf16_bits(values), want)


def test_a_matrix_knows_its_shape_over_parts() -> None:
    parts = [matrix(np.ones((n, 64), np.float32), f).parts[0] for n, f in ((3, "q8"), (5, "f32"))]
    assert formats.Matrix(tuple(parts)).shape == (8, 64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_halves_are_the_eight_bits_and_the_upper_is_as_near_as_four_bits_come(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    whole = encode(values, "q8")
    upper, lower = formats.halves(whole)
    assert upper.format == lower.format == "q4"
    levels, scales = unpack(whole)
    for part in (upper, lower):
        np.testing.assert_array_equal(unpack(part)[1], scales)
    np.testing.assert_array_equal(unpack(upper)[0] + unpack(lower)[0], levels)
    assert np.abs(unpack(lower)[0]).max() <= 8


@pytest.mark.parametrize("format", [name for name in formats.NUMBERED if name not in formats.PLAIN])
def test_sizes_are_told_at_once_however_long_rows_are_said_to_be(format: str) -> None:
    for columns in (1, 64, 65, 256, 300, 1000, 4096):
        sizes = [gguf.block_bytes(format, n) if format in gguf.TYPES else formats.block_bytes(format, n)
                 for n in formats.groups_of_blocks(columns)]  # fmt: skip
        assert stored_bytes(format, 17, columns) == 2 * sum(sizes)
    assert stored_bytes(format, 16, 2**62) > 2**60  # a list of its blocks would have 2**54 entries
