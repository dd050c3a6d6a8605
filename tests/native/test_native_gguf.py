"""GGUF's blocks natively: repacking to the byte, products and rows against NumPy on every instruction set."""

import numpy as np
import pytest

from soban import ops
from soban.base.errors import UserError
from soban.ops import formats, gguf, native
from soban.ops.formats import HALF, Matrix
from soban.ops.native.program import NativeProgram
from soban.ops.recorder import Program
from tests.blocks import HALF_PLACES, random_blocks, random_rows
from tests.native.running import Floats, assert_close, assert_same_bits, normal, pool, run_native

EPS = np.finfo(np.float32).eps


def columns_of(format: str) -> tuple[int, ...]:
    values = gguf.TYPES[format].values
    return (32, 96, 288) if values == 32 else (256, 768)


def bound(x: Floats, w: Matrix) -> Floats:
    """What rounding can do to sums of the products, and of what minima take away again: eps K sum |x| (|w| + |min|)."""
    part = w.parts[0]
    levels, scales, minima = gguf.unpack(part.format, part.rows, part.columns, part.data)
    share = levels.shape[1] // scales.shape[1]
    weights = np.abs(levels * np.repeat(scales, share, axis=1).astype(np.float64))
    if minima is not None:
        weights += np.abs(np.repeat(minima, share, axis=1))
    values = np.zeros((len(x), levels.shape[1]))
    values[:, : x.shape[1]] = np.abs(x)
    largest = values.reshape(len(x), -1, HALF).max(axis=2)
    values += np.repeat(largest, HALF, axis=1) / 127
    sums: Floats = EPS * x.shape[1] * (values @ weights.T) + np.finfo(np.float32).tiny
    return sums if w.bias is None else sums + EPS * np.abs(w.bias)


@pytest.mark.parametrize("format", gguf.TYPES)
def test_repacking_gives_the_references_bytes(format: str) -> None:
    for rows, columns in ((1, 512), (16, 256), (37, 768), (33, 256 if gguf.TYPES[format].nested else 352)):
        blocks = random_blocks(rows, format, rows, columns)
        assert np.array_equal(ops.repack(blocks, format, columns, "t"), gguf.pack(format, blocks, columns))


@pytest.mark.parametrize("format", gguf.TYPES)
def test_the_first_row_with_a_scale_that_is_no_number_is_told(format: str) -> None:
    blocks = random_blocks(3, format, 50, 512)
    at = HALF_PLACES.get(format, (0,))[-1]
    for row, value in ((41, np.inf), (23, np.nan)):
        blocks[row, at : at + 2] = np.array([value], np.float16).view(np.uint8)
        with pytest.raises(UserError, match=f"tensor t holds a NaN or an infinity near row {row}"):
            ops.repack(blocks, format, 512, "t")


@pytest.mark.parametrize("format", gguf.TYPES)
def test_products_are_the_reference_within_rounding(isas: list[str], format: str) -> None:
    for columns in columns_of(format):
        for rows in (1, 33):
            w = Matrix((random_rows(columns, format, rows, columns),), normal(5, rows))
            for tokens in (1, 2, 3, 8, 9, 33):
                x = normal(tokens, tokens, columns)
                wanted = ops.linear(x, w)
                for isa in isas:
                    got = run_native(x, lambda v, _, w=w: ops.linear(v, w), isa, threads=2)
                    assert_close(got, wanted, bound(x, w), isa)


@pytest.mark.parametrize("format", gguf.TYPES)
def test_each_token_has_the_bits_it_has_alone(isa: str, format: str) -> None:
    columns = columns_of(format)[-1]
    w, x = Matrix((random_rows(1, format, 100, columns),)), normal(1, 66, columns)
    alone = np.concatenate([run_native(row[None], lambda v, _: ops.linear(v, w), isa) for row in x])
    for tokens in (2, 5, 7, 9, 17, 66):
        for threads in (1, 3):
            got = run_native(x[:tokens], lambda v, _: ops.linear(v, w), isa, threads)
            assert_same_bits(got, alone[:tokens])


@pytest.mark.parametrize("format", gguf.TYPES)
def test_every_vector_unit_gives_the_same_bits(format: str) -> None:
    fused = [isa for isa in native.isas() if isa != "scalar"]  # plain code does not fuse multiply and add
    columns = columns_of(format)[-1]
    w, x = Matrix((random_rows(2, format, 50, columns),)), normal(3, 70, columns)
    first, *others = (run_native(x, lambda v, _: ops.linear(v, w), isa) for isa in fused)
    for other in others:
        assert_same_bits(other, first)


@pytest.mark.parametrize("format", gguf.TYPES)
def test_the_largest_numbers_do_not_saturate(isas: list[str], format: str) -> None:
    columns = columns_of(format)[-1]
    for fill in (0, 255, 127, 128):
        blocks = random_blocks(4, format, 17, columns)
        kind = gguf.TYPES[format]
        whole = blocks.reshape(-1, kind.bytes)
        halves = {at + i for at in HALF_PLACES.get(format, (0,)) for i in (0, 1)}
        whole[:, [i for i in range(kind.bytes) if i not in halves]] = fill
        w = Matrix((formats.Rows(format, 17, columns, gguf.pack(format, blocks, columns)),))
        for sign in (1, -1):
            x = np.full((9, columns), 127 * sign, np.float32)
            for isa in isas:
                got = run_native(x, lambda v, _, w=w: ops.linear(v, w), isa)
                assert_close(got, ops.linear(x, w), bound(x, w), isa)


@pytest.mark.parametrize("format", gguf.TYPES)
def test_rows_of_a_vocabulary_are_bit_for_bit_those_of_the_blocks(isa: str, format: str) -> None:
    columns = columns_of(format)[-1]
    parts = tuple(random_rows(n, format, rows, columns) for n, rows in enumerate((33, 7)))
    batch = ops.make_batch([[0, 39, 32, 33, 5]], [0], [[0]], range(5))
    program = Program()
    program.result = ops.embed(program.batch().tokens, Matrix(parts), 1.0)
    got = NativeProgram(program, 5, 5, pool(1, isa)).run(batch, None)
    assert_same_bits(got, np.concatenate([formats.decode(part) for part in parts])[[0, 39, 32, 33, 5]])


def test_blocks_and_plain_rows_stand_side_by_side(isa: str) -> None:
    parts = [random_rows(1, "q4_k", 33, 256), random_rows(2, "q6_k", 16, 256), random_rows(3, "q8_0", 5, 256)]
    parts.append(formats.encode(normal(4, 7, 256), "bf16"))
    whole, x = Matrix(tuple(parts)), normal(7, 6, 256)
    got = run_native(x, lambda v, _: ops.linear(v, whole), isa)
    wanted = [run_native(x, lambda v, _, p=p: ops.linear(v, Matrix((p,))), isa) for p in parts]
    assert_same_bits(got, np.concatenate(wanted, axis=1))


def test_a_nan_activation_reaches_every_output(isa: str) -> None:
    x = normal(0, 2, 256)
    x[1, 70] = np.nan
    for format in gguf.TYPES:
        w = Matrix((random_rows(1, format, 20, 256),))
        got = run_native(x, lambda v, _, w=w: ops.linear(v, w), isa)
        assert np.isfinite(got[0]).all() and np.isnan(got[1]).all(), format
