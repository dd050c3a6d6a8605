"""Native attention against the reference: caches, windows, grouped heads, several sequences."""

import itertools

import numpy as np
import pytest

from soban import ops
from soban.ops import native, recorder
from soban.ops.batch import Batch
from soban.ops.cache import CACHE_FORMATS, Cache, LayerGeometry
from soban.ops.formats import bf16_bits
from soban.ops.recorder import Program, Recorded
from tests.native.running import Floats, Record, assert_close, assert_same_bits, normal, run_native, run_reference

EPS = np.finfo(np.float32).eps
HEADS, GROUPS = 4, 2


SLOPES = np.array([0.25, 0.0625, 0.015625, 1.0], np.float32)  # ALiBi's, of each head


def record(
    size: int,
    window: int | None = None,
    softcap: float | None = None,
    heads: int = HEADS,
    slopes: Floats | None = None,
    causal: bool = True,
) -> Record:
    def attention(v: Recorded, p: Program) -> Recorded:
        q, k = heads * size, GROUPS * size
        return ops.attention(
            v[:, :q], v[:, q : q + k], v[:, q + k : q + 2 * k], p.batch(), recorder.LayerSlot(1), 3 * size**-0.5,
            softcap, window, slopes, causal,
        )  # fmt: skip

    return attention


def width(size: int, heads: int = HEADS) -> int:
    return (heads + 2 * GROUPS) * size


def caches(size: int, format: str, pages: int = 64) -> tuple[Cache, Cache]:
    """Two equal caches whose unwritten places hold NaN: whoever reads them is found out."""
    both = [ops.make_cache(pages, [LayerGeometry(GROUPS, size)] * 2, format) for _ in "ab"]
    for cache in both:
        fill(cache, np.nan)
    return both[0], both[1]


def fill(cache: Cache, value: float) -> None:
    """Every number becomes `value`; every byte of int8 255, if it is not finite: four of them are a scale of NaN."""
    for layer in cache.layers:
        stored = {"f32": value, "bf16": bf16_bits(np.float32([value]))[0], "int8": 0 if np.isfinite(value) else 255}
        layer.keys[:], layer.values[:] = stored[layer.format], stored[layer.format]


def batch_of(lengths: list[int], offsets: list[int], pages: list[list[int]]) -> Batch:
    """Sequences whose tokens are numbered through, all asked for."""
    ends = np.cumsum([0, *lengths])
    tokens = [range(a, b) for a, b in itertools.pairwise(ends)]
    return ops.make_batch(tokens, offsets, pages, range(int(ends[-1])))


def bound(length: int, size: int, wanted: Floats, format: str = "f32") -> float:
    """Scores err by eps D |q||k| scale (about 3 sqrt(D) x 4 here), weights by as much, sums by eps L.

    Weights that are rounded to bfloat16, int8 values' scales with them, err by 2**-8 of themselves at the most, and a
    query on the edge of its rounding by 2**-7: that is one of the products in a score.
    """
    rounded = 0.0 if format == "f32" else 2**-8
    edge = 0.0 if format != "bf16" else 2**-7 * 12 * size**-0.5
    return (EPS * (40 * size**0.5 + length**0.5 + 16) + rounded + edge) * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("format", CACHE_FORMATS)
@pytest.mark.parametrize("size", [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (20, 48, 96)), 80, 256])
@pytest.mark.parametrize("window", [None, 1, 5, 290])
@pytest.mark.parametrize("softcap", [None, 4.0, "slopes"])
def test_attention_is_the_reference_within_rounding(
    isas: list[str], format: str, size: int, window: int | None, softcap: float | str | None
) -> None:
    cap, slopes = (None, SLOPES) if isinstance(softcap, str) else (softcap, None)
    for tokens in (1, 3, 33, 300):
        batch = batch_of([tokens], [0], [list(range(10, 20))])
        pages = batch.tables[0]
        x, attention = normal(size, tokens, width(size)), record(size, window, cap, HEADS, slopes)
        theirs = caches(size, format, 24)[0]
        wanted = run_reference(x, attention, batch, theirs)
        stored = theirs[1].load(pages, tokens)
        for isa in isas:  # in one test, for the reference takes most of its time
            ours = caches(size, format, 24)[0]
            assert_close(
                run_native(x, attention, isa, 2, batch, ours), wanted, bound(tokens, size, wanted, format), isa
            )
            for ours_part, their_part in zip(ours[1].load(pages, tokens), stored, strict=True):
                assert np.array_equal(ours_part, their_part), isa


@pytest.mark.parametrize("format", CACHE_FORMATS)
@pytest.mark.parametrize("size", [20, 64, 96])
@pytest.mark.parametrize("window", [None, 1, 40, 290])
def test_attention_to_both_sides_is_the_reference_within_rounding(
    isas: list[str], format: str, size: int, window: int | None
) -> None:
    """Several texts, more than a span long, and a few tokens that follow others."""
    attention = record(size, window, None if window else 4.0, causal=False)
    pages = [list(range(10, 21)), [30], [31, 32]]
    for lengths, offsets in (([330, 1, 33], [0, 0, 0]), ([3, 1, 5], [300, 0, 40])):
        batch = batch_of(lengths, offsets, pages)
        x, both = normal(size, sum(lengths), width(size)), caches(size, format, 40)
        for cache in both:
            fill(cache, 0)
        wanted = run_reference(x, attention, batch, both[0])
        for isa in isas:
            fill(both[1], 0)
            got = run_native(x, attention, isa, 2, batch, both[1])
            assert_close(got, wanted, bound(330, size, wanted, format), isa)


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_a_text_read_to_both_sides_has_the_same_bits_alone_and_beside_others(isa: str, format: str) -> None:
    attention, x = record(64, causal=False), normal(5, 340, width(64))
    alone = run_native(x[:300], attention, isa, 1, batch_of([300], [0], [list(range(10))]), caches(64, format)[0])
    pages = [[40, 41], list(range(3, 13))]
    beside = run_native(
        np.concatenate([x[300:], x[:300]]), attention, isa, 3, batch_of([40, 300], [0, 0], pages), caches(64, format)[0]
    )
    assert_same_bits(beside[40:], alone)


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_what_lies_beyond_a_sequence_does_not_touch_it(isa: str, format: str) -> None:
    """Pages are given on as they are: what the last owner left behind, infinities too, is not looked at."""
    size, x = 48, normal(8, 300, width(48))
    for offset, tokens in ((0, 300), (0, 5), (290, 10), (299, 1)):
        results = []
        for left_behind in (0, np.inf, np.nan):
            cache = caches(size, format)[0]
            fill(cache, left_behind)
            pages = [list(range(5, 15))]
            run_native(x[:offset], record(size, 290), isa, 1, batch_of([offset], [0], pages), cache) if offset else None
            chunk = batch_of([tokens], [offset], pages)
            results.append(run_native(x[offset : offset + tokens], record(size, 290), isa, 1, chunk, cache))
        assert np.isfinite(results[0]).all()
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])


def test_int8_keeps_a_number_to_half_a_step_of_its_group_of_64() -> None:
    keys, values = normal(1, 40, 3, 80) * 5, normal(2, 40, 3, 80)
    keys[:, :, 70] *= 100  # a loud column spoils its own group alone
    cache, table = ops.make_cache(4, [LayerGeometry(3, 80)], "int8")[0], np.array([2, 0], np.int32)
    cache.store(table, np.arange(40), keys, values)
    for stored, new in zip(cache.load(table, 40), (keys, values), strict=True):
        new = new.swapaxes(0, 1)
        for group in (slice(0, 64), slice(64, 80)):
            step = np.abs(new[..., group]).max(axis=-1, keepdims=True) / 127
            assert (np.abs(stored[..., group] - new[..., group]) <= 0.501 * step).all()


def test_an_int8_cache_takes_about_half_the_memory_of_bf16() -> None:
    bf16, int8 = (ops.make_cache(8, [LayerGeometry(4, 256)] * 2, format) for format in ("bf16", "int8"))
    assert int8.nbytes <= 0.54 * bf16.nbytes


def test_int8_scores_err_by_what_rounding_keys_and_queries_explains() -> None:
    """Against float64 attention: the two roundings are independent, so scores err by some hundredths."""
    size, length = 64, 300
    x = normal(12, length, width(size))
    exact = run_reference(x, record(size), None, ops.make_cache(10, [LayerGeometry(GROUPS, size)] * 2, "f32"))
    rounded = run_reference(x, record(size), None, ops.make_cache(10, [LayerGeometry(GROUPS, size)] * 2, "int8"))
    # a step is at most max / 127, about 4 / 127 here, and its error 0.29 of it: 0.9 %. Scores have a spread of
    # 3 and so err by 3 x 0.9 % x sqrt(2) = 0.04, which moves a weighted mean of values of spread 1 by as much at most
    assert np.sqrt(np.mean((rounded - exact) ** 2)) < 0.04


@pytest.mark.parametrize("format", CACHE_FORMATS)
@pytest.mark.parametrize(("heads", "size"), [(2, 80), (6, 32), (16, 32), (4, 256)])
def test_chunks_single_steps_and_batch_mates_give_the_bits_of_one_pass(
    isa: str, format: str, heads: int, size: int
) -> None:
    length = 600
    for window in (None, 270):
        attention, x = record(size, window, 4.0, heads), normal(9, length, width(size, heads))
        pages = list(range(40, 59))
        whole = run_native(x, attention, isa, 1, batch_of([length], [0], [pages]), caches(size, format)[0])
        cache, shuffled = caches(size, format)[0], list(np.random.default_rng(1).permutation(20)[:19])
        start = 0
        for step in (100, 1, 1, 155, 2, 17, 250, 1, 64, 1, 1, 7):
            chunk = batch_of([step], [start], [shuffled])
            got = run_native(x[start : start + step], attention, isa, 3, chunk, cache)
            assert_same_bits(got, whole[start : start + step])
            start += step
        assert start == length
        # the last tokens again, among other sequences
        for step in (1, 3, 40):
            other = normal(11, 5, width(size, heads))
            mixed = batch_of([2, step, 3], [0, length - step, 30], [[60], shuffled, [61, 62]])
            cache[1].keys[61:63], cache[1].values[61:63] = 1, 1
            rows = np.concatenate([other[:2], x[length - step :], other[2:]])
            assert_same_bits(run_native(rows, attention, isa, 2, mixed, cache)[2 : 2 + step], whole[length - step :])


@pytest.mark.parametrize("format", ["bf16", "int8"])
@pytest.mark.parametrize(("heads", "size"), [(4, 64), (8, 256), (2, 96)])
def test_the_matrix_unit_gives_the_bits_of_the_vector_unit_also_before_an_infinite_value(
    format: str, heads: int, size: int
) -> None:
    if "amx" not in native.isas():
        pytest.skip("needs a CPU with AMX")
    x, batch = normal(10, 330, width(size, heads)), batch_of([330], [0], [list(range(11))])
    x[299, -size // 2] = np.inf  # a value: those who do not see it have a weight of 0, and 0 times it is no number
    for window, softcap in ((None, 2.0), (70, None)):
        attention = record(size, window, softcap, heads)
        units = [run_native(x, attention, isa, 2, batch, caches(size, format)[0]) for isa in ("amx", "avx512vnni")]
        assert_same_bits(*units)
        assert np.isfinite(units[0][:299]).all() and not np.isfinite(units[0][299]).all()


def test_a_window_of_all_positions_is_no_window(isa: str) -> None:
    x, batch = normal(2, 300, width(16)), batch_of([300], [0], [list(range(10))])
    free = run_native(x, record(16), isa, 1, batch, caches(16, "f32")[0])
    assert_same_bits(run_native(x, record(16, window=300), isa, 1, batch, caches(16, "f32")[0]), free)


def test_very_unequal_scores_stay_finite(isa: str) -> None:
    x, batch = normal(3, 280, width(16)) * 100, batch_of([280], [0], [list(range(9))])
    ours, theirs = caches(16, "f32")
    wanted = run_reference(x, record(16), batch, theirs)
    got = run_native(x, record(16), isa, 2, batch, ours)
    assert np.isfinite(got).all()
    # a score of about 10**5 is known to eps x 10**5: where the two highest are far apart, that does not matter
    close = np.abs(got - wanted).max(axis=1) < 1e-3 * np.abs(wanted).max()
    assert close.mean() > 0.95


def test_a_second_layer_is_left_alone(isa: str) -> None:
    ours, _ = caches(16, "f32")
    run_native(normal(4, 40, width(16)), record(16), isa, 1, batch_of([40], [0], [[3, 4]]), ours)
    assert np.isnan(ours[0].keys).all() and not np.isnan(ours[1].keys[3]).any()
    assert np.isnan(ours[1].keys[[0, 1, 2, 5]]).all()


def test_layers_have_their_own_geometries_and_one_that_shares_reads_the_others_keys_and_values(isa: str) -> None:
    geometries = [LayerGeometry(2, 20), LayerGeometry(1, 48), LayerGeometry(2, 20, shared_with=0)]

    def three(v: Recorded, p: Program) -> Recorded:
        batch, layers = p.batch(), [recorder.LayerSlot(i) for i in range(3)]
        first = ops.attention(v[:, :80], v[:, 80:120], v[:, 120:160], batch, layers[0], 0.5)
        second = ops.attention(v[:, :96], v[:, 96:144], v[:, 112:160], batch, layers[1], 0.5, 3.0, 5)
        third = ops.attention(v[:, 40:120], None, None, batch, layers[2], 0.4)
        return ops.add(ops.add(first, second[:, :80]), third)

    for format in CACHE_FORMATS:
        x, batch = normal(5, 70, 160), batch_of([40, 30], [0, 0], [[3, 4], [1]])
        ours, theirs = (ops.make_cache(6, geometries, format) for _ in "ab")
        wanted = run_reference(x, three, batch, theirs)
        assert_close(run_native(x, three, isa, 2, batch, ours), wanted, 3 * bound(40, 48, wanted, format))
        chunks = [batch_of([n], [start], [[2, 0]]) for n, start in ((1, 0), (30, 1), (9, 31))]
        got = [run_native(x[c.positions], three, isa, 1, c, ours) for c in chunks]
        assert_same_bits(np.concatenate(got), run_native(x[:40], three, isa, 2, batch_of([40], [0], [[3, 4]]), ours))
