"""Adapters: the native sums against the reference's and a formula, and the same bits alone and among others."""

import itertools

import numpy as np
import pytest

from soban import ops
from soban.ops import formats, native
from soban.ops.batch import Batch
from soban.ops.formats import Matrix
from soban.ops.native.program import NativeProgram
from soban.ops.recorder import Program, Recorded
from tests.native.running import Floats, Record, assert_close, assert_same_bits, normal, run_native, run_reference

EPS = np.finfo(np.float32).eps
PLACE = "layers.0.qkv"
COLUMNS = 130
ROWS = ((0, 33), (33, 16), (49, 30))  # first row and number of them, of three stacked matrices


def adapter(seed: int, rank: int, format: str = "f32", place: str = PLACE, columns: int = COLUMNS) -> ops.Adapter:
    """One piece of random numbers for each of the stacked matrices."""

    def numbers(seed: int, *shape: int) -> np.ndarray:
        values = normal(seed, *shape)
        return values if format == "f32" else formats.bf16_bits(values)

    pieces = tuple(
        ops.Piece(first, numbers(seed + first, rank, columns), numbers(seed + first + 1, rows, rank), 0.3 + seed)
        for first, rows in ROWS
    )
    return ops.Adapter({place: pieces})


def whole(format: str) -> Matrix:
    parts = tuple(formats.encode(normal(rows, rows, COLUMNS), format) for _, rows in ROWS)
    return Matrix(parts, bias=normal(3, 79), place=PLACE)


def batch_of(lengths: tuple[int, ...], adapters: tuple[ops.Adapter, ...] = (), chosen: tuple[int, ...] = ()) -> Batch:
    """Sequences whose tokens are numbered through, all asked for."""
    ends = np.cumsum([0, *lengths])
    tokens = [range(a, b) for a, b in itertools.pairwise(ends)]
    return ops.make_batch(
        tokens, [0] * len(lengths), [[0, 1, 2, 3]] * len(lengths), range(ends[-1]), 0, adapters, chosen
    )


def product(w: Matrix) -> Record:
    return lambda v, p: ops.linear(v, w, p.batch())  # type: ignore[arg-type]


@pytest.mark.parametrize("format", formats.FORMATS)
@pytest.mark.parametrize("numbers", ["f32", "bf16"])
def test_adapted_sequences_in_one_step_are_the_reference_within_rounding(
    isas: list[str], format: str, numbers: str
) -> None:
    w = whole(format)
    plain = Matrix(w.parts, w.bias)
    for rank, lengths in itertools.product((1, 5, 16, 33), ((1, 2, 1, 3, 1), (60, 7, 3, 9, 100))):
        adapters = adapter(1, rank, numbers), adapter(2, rank + 3, numbers)
        batch = batch_of(lengths, adapters, (1, -1, 0, 0, 1))
        x = normal(rank, sum(lengths), COLUMNS)
        wanted = run_reference(x, product(w), batch)
        base = run_reference(x, product(plain), batch)
        assert (wanted[lengths[0] : sum(lengths[:2])] == base[lengths[0] : sum(lengths[:2])]).all()
        for isa in isas:
            got = run_native(x, product(w), isa, 2, batch) - run_native(x, product(plain), isa, 2, batch)
            # sums of 130 and of `rank` products of normal numbers, times up to 2.3, and the rounding of two differences
            bound = EPS * (8 * COLUMNS * 2.3 * (rank + 3) ** 0.5 + 4 * np.abs(wanted).max())
            assert_close(got, wanted - base, bound, isa)


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_an_adapter_adds_the_product_of_its_two_matrices(backend: str, isa: str) -> None:
    w, added = whole("f32"), adapter(3, 8)
    batch, x = batch_of((4,), (added,), (0,)), normal(1, 4, COLUMNS)
    got = run_reference(x, product(w), batch) if backend == "reference" else run_native(x, product(w), isa, 1, batch)
    merged = formats.decode(w.parts[0]).astype(np.float64)
    merged = np.concatenate([formats.decode(part).astype(np.float64) for part in w.parts])
    for piece in added.pieces[PLACE]:
        merged[piece.first : piece.first + len(piece.b)] += piece.scale * (piece.b.astype(np.float64) @ piece.a)
    wanted = x.astype(np.float64) @ merged.T + w.bias
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=EPS * COLUMNS * 8 * np.abs(merged).max())


def test_a_piece_may_begin_and_end_anywhere_and_lie_on_another(isa: str) -> None:
    w, x = whole("q8"), normal(1, 3, COLUMNS)
    pieces = [
        ops.Piece(f, normal(f, 4, COLUMNS), normal(n, n, 4), 0.5) for f, n in ((0, 79), (5, 1), (30, 20), (78, 1))
    ]
    for some in (pieces[:1], pieces[1:], pieces):
        batch = batch_of((3,), (ops.Adapter({PLACE: tuple(some)}),), (0,))
        bound = EPS * 400 * np.abs(wanted := run_reference(x, product(w), batch)).max()
        assert_close(run_native(x, product(w), isa, 2, batch), wanted, bound)


@pytest.mark.parametrize("format", ["f32", "q8", "q4"])
def test_a_sequence_has_the_bits_that_it_has_alone_whatever_others_choose(isa: str, format: str) -> None:
    w, adapters = whole(format), (adapter(1, 16), adapter(2, 5), adapter(4, 64, "bf16"))
    lengths, chosen = (1, 70, 3, 2, 9, 1), (0, 2, -1, 0, 0, 1)
    x, ends = normal(9, sum(lengths), COLUMNS), np.cumsum([0, *lengths])
    rows = [x[a:b] for a, b in itertools.pairwise(ends)]

    def alone(s: int) -> Floats:
        if chosen[s] < 0:
            return run_native(rows[s], product(w), isa, 1, batch_of((lengths[s],)))
        return run_native(rows[s], product(w), isa, 1, batch_of((lengths[s],), (adapters[chosen[s]],), (0,)))

    wanted = np.concatenate([alone(s) for s in range(len(lengths))])
    for threads in (1, 2, 3):
        assert_same_bits(run_native(x, product(w), isa, threads, batch_of(lengths, adapters, chosen)), wanted)
    single = [run_native(row[None], product(w), isa, 1, batch_of((1,), (adapters[2],), (0,))) for row in rows[1]]
    assert_same_bits(wanted[1:71], np.concatenate(single))


def test_a_program_takes_other_adapters_with_each_batch(isa: str) -> None:
    w, x = whole("q8"), normal(1, 2, COLUMNS)
    program = Program()
    program.result = product(w)(ops.embed(program.batch().tokens, formats.matrix(x), 1.0), program)
    runner = NativeProgram(program, 2, 2, native.Pool(1, isa))
    one, other = (adapter(1, 4),), (adapter(2, 4), adapter(3, 4))
    batches = [batch_of((2,)), batch_of((2,), one, (0,)), batch_of((2,), other, (1,)), batch_of((2,), other, (-1,))]
    first = [runner.run(batch, None).copy() for batch in batches]
    for i in (3, 1, 0, 2):
        assert_same_bits(runner.run(batches[i], None), first[i])
    assert_same_bits(first[3], first[0])
    assert not np.array_equal(first[1], first[2])


def test_an_adapter_of_another_place_changes_nothing(isa: str) -> None:
    w, x = whole("q8"), normal(1, 2, COLUMNS)
    batch = batch_of((2,), (adapter(1, 4, place="layers.1.qkv"),), (0,))
    assert_same_bits(run_native(x, product(w), isa, 1, batch), run_native(x, product(w), isa, 1, batch_of((2,))))


def test_one_that_does_not_fit_its_matrix_is_refused(isa: str) -> None:
    for piece in (
        ops.Piece(0, normal(0, 4, 129), normal(1, 9, 4), 1.0),
        ops.Piece(78, normal(0, 4, 130), normal(1, 2, 4), 1.0),
    ):
        with pytest.raises(AssertionError):
            batch = batch_of((1,), (ops.Adapter({PLACE: (piece,)}),), (0,))
            run_native(normal(0, 1, COLUMNS), product(whole("q8")), isa, 1, batch)


def test_what_an_adapter_may_change_is_not_recorded_without_its_batch() -> None:
    def forgotten(v: Recorded, p: Program) -> Recorded:
        return ops.linear(v, whole("f32"))

    def of_outputs(v: Recorded, p: Program) -> Recorded:
        return ops.linear(ops.take_rows(v, p.batch().outputs), whole("f32"), p.batch())

    for record in (forgotten, of_outputs):
        with pytest.raises(TypeError, match=r"adapters may change layers\.0\.qkv"):
            run_reference(normal(0, 1, COLUMNS), record)
