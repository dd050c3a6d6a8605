"""The native quantiser: the bytes of formats.encode, and NaN found at its place."""

import numpy as np
import numpy.typing as npt
import pytest

from soban.ops import formats, native
from tests.native.running import Floats, normal, pool, unaligned

TARGETS = ("bf16", "q8", "q4", *formats.HALVES)
SHAPES = [(1, 1), (15, 63), (16, 64), (17, 65), (33, 130), (100, 2304)]


def stored(values: Floats, format: str) -> tuple[npt.NDArray, Floats]:
    """The values in a plain format, and as float32 again."""
    data = formats.encode(values, format)
    return unaligned(data.data, data.data.itemsize), formats.decode(data)


def encode(isa: str, source: npt.NDArray, source_format: str, format: str, threads: int = 2) -> tuple[int, npt.NDArray]:
    rows, columns = source.shape
    out, used = np.full(formats.stored_bytes(format, rows, columns), 0xAA, np.uint8), pool(threads, isa)
    targets = (*formats.NUMBERED, *formats.HALVES)
    numbers = formats.NUMBERED.index(source_format), rows, columns, targets.index(format)
    return used.library.soban_encode(used.handle, source.ctypes.data, *numbers, out.ctypes.data), out


def awkward(rows: int, columns: int) -> Floats:
    """Rows of very different sizes, some constant, some with an outlier, some of both zeros."""
    x = normal(rows, rows, columns) * np.exp(3 * normal(1, rows, 1))
    x[::5] = x[::5, :1]
    x[1::7, columns // 2] *= 1000
    x[2::9] = 0
    x[2::9, ::3] = -0.0
    return (x * 0.01).astype(np.float32)


@pytest.mark.parametrize("source_format", formats.PLAIN)
@pytest.mark.parametrize("format", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bytes_are_those_of_the_reference(
    isas: list[str], source_format: str, format: str, shape: tuple[int, int]
) -> None:
    source, values = stored(awkward(*shape), source_format)
    wanted = formats.encode(values, format).data.reshape(-1).view(np.uint8)
    for isa in isas:
        bad, got = encode(isa, source, source_format, format)
        assert bad == -1
        assert np.array_equal(got, wanted), f"{isa}: {np.count_nonzero(got != wanted)} of {len(got)} bytes differ"


@pytest.mark.parametrize("size", [1e-44, 1e-40, 2e-38, 1e30, 3.3e38])
@pytest.mark.parametrize("format", TARGETS)
def test_the_bytes_are_those_of_the_reference_at_the_ends_of_the_range(isa: str, size: float, format: str) -> None:
    values = (np.random.default_rng(2).uniform(-1, 1, (32, 128)) * size).astype(np.float32)
    bad, got = encode(isa, values, "f32", format)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = formats.encode(values, format).data.reshape(-1).view(np.uint8)
    assert bad == -1 and np.array_equal(got, wanted)


def test_large_matrices_are_shared_between_threads_without_a_trace(isa: str) -> None:
    values = normal(0, 1000, 640)
    one, three = encode(isa, values, "f32", "q4", 1)[1], encode(isa, values, "f32", "q4", 3)[1]
    assert np.array_equal(one, three)
    assert np.array_equal(one, formats.encode(values, "q4").data)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_row_is_named(isa: str, bad: float) -> None:
    for source_format in formats.PLAIN:
        for rows in ([0], [37], [999, 500], [16, 15]):
            values = normal(0, 1000, 70)
            values[rows, 69] = bad
            source, _ = stored(values, source_format)
            assert encode(isa, source, source_format, "q8", 3)[0] == min(rows)


def test_not_finite_values_are_found_at_their_place(isa: str) -> None:
    used = pool(3, isa)
    for format in formats.PLAIN:
        values = normal(1, 300_001)
        values[[5000, 299_000]] = 3e38 if format != "f16" else 65504  # large, yet finite
        for places in ([], [0], [300_000], [77_777, 200_001]):
            with_bad = values.copy()
            with_bad[places] = np.nan
            source, _ = stored(with_bad[None], format)
            got = used.library.soban_find_not_finite(
                used.handle, source.ctypes.data, formats.NUMBERED.index(format), source.size
            )
            assert got == (min(places) if places else -1)


def test_stored_bytes_are_the_references_or_minus_one_on_overflow() -> None:
    loaded = native.library()
    assert loaded is not None
    function = loaded.soban_stored_bytes
    function.restype = native.c_int64
    function.argtypes = (native.c_int32, native.c_int64, native.c_int64)
    for number, format in enumerate((*formats.NUMBERED, *formats.HALVES)):
        for shape in SHAPES:
            assert function(number, *shape) == formats.stored_bytes(format, *shape)
        assert function(number, 2**40, 2**40) == -1
        assert function(number, -1, 5) == -1
