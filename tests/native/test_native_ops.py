"""The native ops against the NumPy reference: odd shapes, extreme values, every instruction set."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from soban import ops
from soban.ops import formats, native, schema
from soban.ops.formats import Matrix
from soban.ops.native.program import NativeProgram
from soban.ops.recorder import Program, Recorded
from tests.native.running import (
    Floats,
    Record,
    any_rows,
    assert_close,
    assert_same_bits,
    normal,
    pool,
    recorded,
    run_native,
    run_reference,
    tokens_batch,
    unaligned,
)

EPS = np.finfo(np.float32).eps
ROWS = (1, 15, 16, 17, 33)
COLUMNS = (1, 63, 64, 65, 130, 288, 2304)
TOKENS = (1, 2, 3, 5, 9, 17, 64)


def linear_bound(x: Floats, w: Matrix) -> Floats:
    """What rounding can do to sums of K products: eps K sum |x w|, and the same of both ways of quantising."""
    part = w.parts[0]
    if part.format in formats.PLAIN:
        weights = np.abs(formats.decode(part).astype(np.float64))
        values = np.abs(x.astype(np.float64))
    else:
        levels, scales = formats.unpack(part)
        steps = np.repeat(scales.astype(np.float64), formats.BLOCK, axis=1)[:, : levels.shape[1]]
        weights = steps * np.abs(levels.astype(np.float64))
        values = np.abs(formats.turn(x).astype(np.float64))
        blocks = np.pad(values, ((0, 0), (0, -values.shape[1] % formats.BLOCK))).reshape(len(x), -1, formats.BLOCK)
        values += np.repeat(blocks.max(axis=-1), formats.BLOCK, axis=1)[:, : values.shape[1]] / 127
    return EPS * x.shape[1] * (values @ weights.T) + np.finfo(np.float32).tiny


@pytest.mark.parametrize("format", formats.FORMATS)
def test_linear_is_the_reference_within_rounding(isas: list[str], format: str) -> None:
    for seed, columns in enumerate(COLUMNS):
        for rows in ROWS:
            w = formats.matrix(normal(seed, rows, columns), format, bias=normal(seed + 50, rows))
            for tokens in TOKENS if columns < 2304 else (1, 3, 17):
                x = normal(seed + 99, tokens, columns)
                wanted, bound = ops.linear(x, w), linear_bound(x, w) + EPS * np.abs(w.bias)
                for isa in isas:
                    assert_close(run_native(x, lambda v, _, w=w: ops.linear(v, w), isa, threads=2), wanted, bound, isa)


@pytest.mark.parametrize("format", formats.FORMATS)
def test_linear_over_parts_of_several_formats_is_its_parts_side_by_side(isa: str, format: str) -> None:
    parts = [formats.encode(normal(rows, rows, 130), f) for rows, f in ((33, format), (16, "q8"), (5, "bf16"))]
    whole, x = Matrix(tuple(parts)), normal(7, 6, 130)
    got = run_native(x, lambda v, _: ops.linear(v, whole), isa)
    wanted = [run_native(x, lambda v, _, p=p: ops.linear(v, Matrix((p,))), isa) for p in parts]
    assert_same_bits(got, np.concatenate(wanted, axis=1))


@pytest.mark.parametrize("format", ["f32", "f16", "bf16"])
def test_weights_may_start_at_any_address(isa: str, format: str) -> None:
    part, x = formats.encode(normal(0, 33, 65), format), normal(1, 5, 65)
    aligned = run_native(x, lambda v, _: ops.linear(v, Matrix((part,))), isa)
    moved = formats.Rows(format, 33, 65, unaligned(part.data, part.data.itemsize))
    assert_same_bits(run_native(x, lambda v, _: ops.linear(v, Matrix((moved,))), isa), aligned)


EXTREMES: dict[str, Callable[[int, int], Floats]] = {
    "all the largest": lambda r, c: np.full((r, c), 127, np.float32),
    "all the smallest": lambda r, c: np.full((r, c), -127, np.float32),
    "signs in turn": lambda r, c: 127 * (-1.0) ** np.arange(r * c, dtype=np.float32).reshape(r, c),
    "zeros": lambda r, c: np.zeros((r, c), np.float32),
    "one outlier": lambda r, c: np.where(np.arange(r * c).reshape(r, c) == 7, 1e30, normal(3, r, c)).astype(np.float32),
    "subnormal": lambda r, c: (normal(4, r, c) * 1e-39).astype(np.float32),
}


@pytest.mark.parametrize("format", ["f32", "q8", "q4"])
@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("weights", ["all the largest", "all the smallest", "signs in turn", "zeros", "subnormal"])
def test_extreme_values_do_not_saturate(isas: list[str], format: str, values: str, weights: str) -> None:
    x, w = EXTREMES[values](6, 192), formats.matrix(EXTREMES[weights](17, 192), format)
    wanted, bound = ops.linear(x, w), linear_bound(x, w)
    for isa in isas:
        assert_close(run_native(x, lambda v, _: ops.linear(v, w), isa), wanted, bound, isa)


def test_any_byte_of_a_packed_file_gives_the_same_products(isa: str) -> None:
    for format in ("q8", "q4"):
        part = any_rows(0, format, 32, 400, np.random.default_rng(0).random(100, np.float32))
        w, x = Matrix((part,)), normal(1, 5, 400)
        assert_close(run_native(x, lambda v, _, w=w: ops.linear(v, w), isa), ops.linear(x, w), linear_bound(x, w))


def test_a_nan_activation_reaches_every_output(isa: str) -> None:
    x = normal(0, 2, 130)
    x[1, 70] = np.nan
    for format in formats.FORMATS:
        w = formats.matrix(normal(1, 20, 130), format)
        got = run_native(x, lambda v, _, w=w: ops.linear(v, w), isa)
        assert np.isfinite(got[0]).all() and np.isnan(got[1]).all(), format


@pytest.mark.parametrize("format", formats.FORMATS)
def test_embed_gathers_rows_of_every_format(isa: str, format: str) -> None:
    parts = tuple(formats.encode(normal(n, rows, 130), format) for n, rows in enumerate((33, 7)))
    batch = ops.make_batch([[0, 39, 32, 33, 5]], [0], [[0]], range(5))
    program = Program()
    program.result = ops.embed(program.batch().tokens, Matrix(parts), 48.0)
    got = NativeProgram(program, 5, 5, pool(1, isa)).run(batch, None)
    wanted = ops.embed(batch.tokens, Matrix(parts), 48.0)
    assert_close(got, wanted, 3 * EPS * 48 * (np.abs(normal(0, 33, 130)).max() * 2))


def test_embed_looks_types_up_and_takes_those_that_nobody_names_for_0(isa: str) -> None:
    table, program = formats.matrix(normal(0, 2, 70)), Program()
    program.result = ops.embed(program.batch().types, table, 1.0)
    runs = NativeProgram(program, 5, 5, pool(1, isa))
    texts, pages = [[3, 8, 0], [5, 5]], [[0, 1], [2]]
    typed = ops.make_batch(texts, [0, 0], pages, range(5), types=[0, 1, 1, 0, 1])
    assert_same_bits(runs.run(typed, None), normal(0, 2, 70)[[0, 1, 1, 0, 1]])
    assert_same_bits(runs.run(ops.make_batch(texts, [0, 0], pages, range(5)), None), normal(0, 2, 70)[[0] * 5])


def test_embed_looks_positions_up_as_it_does_tokens(isa: str) -> None:
    table, tokens = formats.matrix(normal(0, 40, 70)), formats.matrix(normal(1, 9, 70))
    batch = ops.make_batch([[3, 8, 0], [5, 5]], [30, 2], [[0, 1], [2]], range(5))
    program = Program()
    slots = program.batch()
    program.result = ops.add(ops.embed(slots.positions, table, 1.0), ops.embed(slots.tokens, tokens, 1.0))
    got = NativeProgram(program, 5, 5, pool(1, isa)).run(batch, None)
    assert_same_bits(got, normal(0, 40, 70)[[30, 31, 32, 2, 3]] + normal(1, 9, 70)[[3, 8, 0, 5, 5]])


def angles(program: Program, size: int, scale: float, *growth: float) -> Recorded:
    frequencies = (10000.0 ** (-np.arange(size // 2) / (size // 2))).astype(np.float32)
    batch = program.batch()
    return ops.rotary(batch.positions, batch.rotation, frequencies[None], scale, *growth)


LINE = np.linspace(-2, 2, 300).astype(np.float32)
# name: the op on 300 columns, and the largest error in units of eps x the largest magnitude involved
ROW_OPS: dict[str, tuple[Record, float]] = {
    "rms_norm": (lambda v, p: ops.rms_norm(v, LINE, 1e-6, 1.0), 8),
    "layer_norm": (lambda v, p: ops.layer_norm(v, LINE, LINE + 1, 1e-5), 16),
    "layer_norm without a bias": (lambda v, p: ops.layer_norm(v[:, 3:99], LINE[:96], None, 1e-5), 16),
    "head_norm": (lambda v, p: ops.head_norm(v, LINE[:60], 1e-6, 1.0), 8),
    "rotary": (lambda v, p: angles(p, 46, 1.5), 1),
    "rotary that grows": (lambda v, p: angles(p, 46, 1.5, 0.3, 4.0), 1),
    "rope": (lambda v, p: ops.rope(v[:, :288], angles(p, 48, 1.0)), 2),
    "rope, neighbours": (lambda v, p: ops.rope(v[:, :276], angles(p, 46, 1.0), True), 2),
    "rope of a part": (lambda v, p: ops.rope(v, angles(p, 22, 1.0), False, 60), 2),
    "rope of a part, neighbours": (lambda v, p: ops.rope(v, angles(p, 22, 1.0), True, 60), 2),
    "silu": (lambda v, p: ops.glu(v, "silu"), 8),
    "gelu": (lambda v, p: ops.glu(v[:, :298], "gelu_tanh"), 8),
    "gelu times another value": (lambda v, p: ops.glu(v[:, :130], "gelu_tanh", v[:, 133:263]), 8),
    **{f"glu of {name}": (lambda v, p, name=name: ops.glu(v, name), 8) for name in schema.ACTIVATIONS},
    **{f"activation {name}": (lambda v, p, name=name: ops.activation(v, name), 8) for name in schema.ACTIVATIONS},
    "scale": (lambda v, p: ops.scale(v, 0.3), 0),
    "scale by a vector": (lambda v, p: ops.scale(v, 1.7, LINE), 0),
    "add": (lambda v, p: ops.add(v[:, :130], v[:, 130:260]), 0),
    "take_rows": (lambda v, p: ops.take_rows(v, p.batch().outputs), 0),
    "softcap": (lambda v, p: ops.softcap(v, 30.0), 4),
}


OTHERS = {"linear", "attention", "refine", "convolution", "delta_rule"}  # which have tests of their own


def test_every_operation_is_compared_with_its_reference() -> None:
    compared = {step.op for record, _ in ROW_OPS.values() for step in recorded(normal(0, 1, 300), record).steps}
    assert compared | OTHERS == set(schema.OPERATIONS)


@pytest.mark.parametrize("name", ROW_OPS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_row_ops_are_the_reference_within_rounding(isa: str, name: str, size: float) -> None:
    record, units = ROW_OPS[name]
    for tokens in (1, 3, 200):
        x = (normal(5, tokens, 300) * size).astype(np.float32)
        wanted = run_reference(x, record)
        bound = units * EPS * np.maximum(np.abs(wanted).max(), np.abs(x).max())
        if name in ("silu", "gelu") or name.startswith("glu of"):
            bound = bound * max(1.0, float(np.abs(x).max()))  # a product of two of them
        assert_close(run_native(x, record, isa, threads=2), wanted, bound)


def test_tanh_is_right_to_a_few_units_everywhere(isa: str) -> None:
    sizes = np.concatenate([[0.0], np.geomspace(1e-30, 1e30, 4000), np.linspace(0, 12, 3000)]).astype(np.float32)
    x = np.concatenate([sizes, -sizes]).reshape(2, -1)
    wanted = np.tanh(x.astype(np.float64))
    assert_close(run_native(x, lambda v, _: ops.softcap(v, 1.0), isa), wanted, 3 * EPS * np.abs(wanted))


def test_exp_is_right_to_a_few_units(isa: str) -> None:
    gate = np.linspace(-86, 86, 5000, dtype=np.float32)
    x = np.concatenate([gate, np.ones_like(gate)])[None]
    wanted = gate / (1 + np.exp(-gate.astype(np.float64)))
    assert_close(run_native(x, lambda v, _: ops.glu(v, "silu"), isa)[0], wanted, 4 * EPS * np.abs(wanted))


def test_gelu_is_right_to_two_units_of_1_everywhere(isa: str) -> None:
    x = np.concatenate([np.linspace(-14, 14, 20001), np.geomspace(1e-30, 1e30, 999)]).astype(np.float32)[None]
    exact = x * np.vectorize(lambda value: 0.5 * math.erfc(-value * math.sqrt(0.5)))(x.astype(np.float64))
    got = run_native(x, lambda v, _: ops.activation(v, "gelu"), isa)
    assert_close(got, exact, 2 * EPS * np.maximum(1, np.abs(exact)))  # EPS: 1.2e-7
    near = (x > -5.9) & (x != 0)  # what is left of a small number is right as well
    assert_close(got[near], exact[near], 4e-5 * np.abs(exact[near]))


@pytest.mark.parametrize("name", schema.ACTIVATIONS)
def test_activations_of_extreme_numbers_are_numbers_and_of_none_none(isa: str, name: str) -> None:
    x = np.array([[0.0, 1e30, -1e30, np.inf, 1e-40, np.nan]], np.float32)
    got = run_native(x, lambda v, _: ops.activation(v, name), isa)[0]
    others = {"sigmoid": [0.5, 1, 0, 1, 0.5], "identity": [0, 1e30, -1e30, np.inf, 1e-40]}
    np.testing.assert_allclose(got[:5], others.get(name, [0, 1e30, 0, np.inf, 0]), rtol=1e-6, atol=1.0001e-40)
    assert np.isnan(got[5])


def test_softcap_of_extreme_logits_is_the_cap(isa: str) -> None:
    x = np.array([[0.0, 1e30, -1e30, np.inf, -np.inf, 1e-40]], np.float32)
    got = run_native(x, lambda v, _: ops.softcap(v, 30.0), isa)
    np.testing.assert_allclose(got, [[0, 30, -30, 30, -30, 1e-40]], rtol=1e-6, atol=30 * 1e-45)
    assert np.isnan(run_native(np.array([[np.nan]], np.float32), lambda v, _: ops.softcap(v, 30.0), isa))


def test_activations_are_quantised_as_the_reference_does(isa: str) -> None:
    """Against weights that pick one column each, the product shows the integer itself."""
    x = np.concatenate([normal(1, 4, 128), EXTREMES["one outlier"](1, 128), EXTREMES["subnormal"](1, 128)])
    w = formats.matrix(formats.turn(np.eye(128, dtype=np.float32)) * 127, "q8")  # turned, as it is stored
    q, scale = formats.quantise(formats.turn(x), formats.BLOCK)
    wanted = (q * scale[..., None].astype(np.float64)).reshape(len(x), -1)[:, :128] * 127
    assert_close(run_native(x, lambda v, _: ops.linear(v, w), isa), wanted, 2 * EPS * np.abs(wanted))


def test_a_cancelled_run_stops_and_says_so(isa: str) -> None:
    runner = NativeProgram(recorded(normal(0, 4, 8), lambda v, _: ops.add(v, v)), 4, 4, pool(2, isa))
    runner.cancel[0] = 1
    with pytest.raises(native.Cancelled):
        runner.run(tokens_batch(4), None)
    runner.cancel[0] = 0
    assert_same_bits(runner.run(tokens_batch(4), None), normal(0, 4, 8) * 2)


def test_the_time_of_each_step_is_added_up_where_it_is_asked_for(isa: str) -> None:
    wide = formats.matrix(normal(0, 600, 512), "q8")
    program = recorded(normal(0, 40, 512), lambda v, _: ops.linear(ops.add(v, v), wide))
    runner = NativeProgram(program, 40, 40, pool(2, isa))
    alone = runner.run(tokens_batch(40), None).copy()
    runner.spent = np.zeros(len(program.steps), np.int64)
    before = time.perf_counter_ns()
    for _ in range(3):
        assert_same_bits(runner.run(tokens_batch(40), None), alone)
    whole = time.perf_counter_ns() - before
    by_op = dict(zip([step.op for step in program.steps], runner.spent.tolist(), strict=True))
    assert 0 < sum(by_op.values()) <= whole and by_op["linear"] > by_op["add"] > 0
    runner.spent = None
    assert_same_bits(runner.run(tokens_batch(40), None), alone)


def test_no_outputs_asked_for_is_an_empty_result(isa: str) -> None:
    def head(v: Recorded, p: Program) -> Recorded:
        return ops.softcap(ops.linear(ops.take_rows(v, p.batch().outputs), formats.matrix(normal(0, 5, 8), "q8")), 3.0)

    batch = ops.make_batch([[0, 1]], [0], [[0]], [])
    assert run_native(normal(1, 2, 8), head, isa, batch=batch).shape == (0, 5)


@pytest.mark.parametrize("rows", [5, 33, 3000, 30007])
@pytest.mark.parametrize("format", ["q4", "q8"])
def test_refine_is_the_reference_within_rounding(isas: list[str], format: str, rows: int) -> None:
    upper, lower = formats.halves(formats.encode(normal(rows, rows, 130), "q8"))
    rest = lower if format == "q4" else formats.encode(formats.decode(lower), format)
    w, x = Matrix((upper,), residual=rest), normal(1, 3, 130)
    bound = linear_bound(x, Matrix((upper,))) + linear_bound(x, Matrix((rest,)))
    wanted = ops.scores(x, w)
    for isa in isas:
        got = run_native(x, lambda v, _: ops.scores(v, w), isa, threads=2)
        assert_close(got, wanted, bound, isa)
        if rows == 30007:
            coarse = run_native(x, lambda v, _: ops.linear(v, Matrix((upper,))), isa)
            changed = (got != coarse).reshape(3, -1).any(axis=0)
            assert changed.any() and not changed.all(), isa


def test_refine_takes_the_first_of_equal_panels_and_none_that_is_far_below(isa: str) -> None:
    rest = formats.matrix(np.ones((2000, 64), np.float32), "q4")
    for top, wanted in ((0.0, range(64 * 16)), (10.5, range(992, 1008))):
        upper = np.zeros((2000, 64), np.float32)
        upper[1000] = top / 64
        w = Matrix((formats.encode(upper, "f32"),), residual=rest.parts[0])
        got = run_native(np.ones((1, 64), np.float32), lambda v, _, w=w: ops.scores(v, w), isa)
        base = np.where(np.arange(2000) == 1000, np.float32(top), np.float32(0))
        assert np.flatnonzero(np.abs(got[0] - base) > 1).tolist() == list(wanted)


def test_refine_takes_scores_that_are_no_numbers(isa: str) -> None:
    upper, lower = formats.halves(formats.encode(normal(0, 3000, 64), "q8"))
    x = normal(1, 2, 64)
    x[1, 3] = np.nan
    got = run_native(x, lambda v, _: ops.scores(v, Matrix((upper,), residual=lower)), isa)
    assert np.isfinite(got[0]).all() and np.isnan(got[1]).all()
