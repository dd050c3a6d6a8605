"""Weight formats: what is stored, how far it is from the original, and that extremes survive."""

import numpy as np
import pytest

from soban.ops import formats
from soban.ops.formats import GROUP, PANEL, decode, encode, matrix, stored_bytes, unpack

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


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_q8_is_within_half_a_step_and_never_minus_128(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    part = encode(values, "q8")
    q, scale, _ = unpack(part)
    assert q.min() >= -127
    # Half a step; the scale, rounded to bf16 (2**-9), may clip the largest by 127 * 2**-9 of a step.
    steps = np.repeat(scale, GROUP, axis=1)[:, : shape[1]]
    assert (np.abs(decode(part) - values) <= (0.5 + 127 * 2**-9) * steps + 1e-7).all()


def test_q4_is_nearer_than_plain_rounding_between_the_extremes() -> None:
    values = np.random.default_rng(2).standard_normal((64, 512)).astype(np.float32)
    groups = values.reshape(64, -1, GROUP)
    low, step = groups.min(-1, keepdims=True), np.ptp(groups, axis=-1, keepdims=True) / 15
    plain = (np.rint((groups - low) / step) * step + low).reshape(values.shape)
    error = np.square(decode(encode(values, "q4")) - values).mean()
    assert error < np.square(plain - values).mean()


def test_the_layout_is_the_one_that_is_told() -> None:
    values = np.zeros((PANEL, 2 * GROUP), np.float32)
    values[3, GROUP + 4 * 5 + 2] = 127.0  # row 3, group 1, k = 4 * 5 + 2
    values[:, :GROUP] = 1.0
    data = encode(values, "q8").data
    second = data[1056:]
    assert second[2 * 3 : 2 * 3 + 2].view(np.uint16)[0] == formats.bf16_bits(np.float32([1.0]))[0]
    assert second[32 + 5 * 64 + 4 * 3 + 2].view(np.int8) == 127 and second[32:].sum() == 127
    four = encode(values, "q4").data[576:]
    assert four[64 + 5 * 64 + 4 * 3 + 2] & 15 == 15 and four[64:].sum() == 15
    values[3, GROUP + 32 + 4 * 5 + 2] = 127.0
    four = encode(values, "q4").data[576:]
    assert four[64 + 5 * 64 + 4 * 3 + 2] == 0xFF


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("format", ["q8", "q4"])
@pytest.mark.parametrize("fill", [0.0, 1e-42, 1e-38, -1e37, 1e37, 1.0], ids=str)
def test_constant_and_extreme_groups_stay_finite_and_close(format: str, fill: float) -> None:
    values = np.full((16, 64), fill, np.float32)
    values[0, 0] = -values[0, 0]
    got = decode(encode(values, format))
    assert np.isfinite(got).all()
    step = 2 * abs(fill) / (15 if format == "q4" else 254)
    assert np.abs(got - values).max() <= 1.1 * step + 1e-36


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
    steps = np.repeat(unpack(whole)[1], GROUP, axis=1)[:, : shape[1]]
    # the minima are rounded to bf16: 2**-8 of up to 8 steps
    assert (np.abs(decode(upper) + decode(lower) - decode(whole)) <= 2**-5 * steps).all()
    assert (np.abs(decode(upper) - decode(whole)) <= (7.5 + 120.5 * 2**-8) * steps).all()
