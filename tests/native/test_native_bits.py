"""A row's bits depend on nothing but the row: not on tokens beside it, threads, or chunks."""

import functools

import numpy as np
import pytest

import soban
from soban import ops
from soban.ops import formats, native, recorder
from soban.ops.formats import Matrix
from soban.ops.recorder import Program, Recorded
from tests.native.running import any_rows, assert_same_bits, normal, run_native, tokens_batch

# What the bundled model goes on with, greedily.
STORY = "어느 날 민지는 강가에 갔습니다. 그때 민지는 누군가 우는 소리를 들었습니다.\n가 보니 친구 류"


@pytest.mark.parametrize("format", formats.FORMATS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 130), (100, 288), (530, 2304)])
def test_linear_gives_each_token_the_bits_it_has_alone(isa: str, format: str, rows: int, columns: int) -> None:
    w, x = formats.matrix(normal(0, rows, columns), format), normal(1, 66, columns)
    alone = np.concatenate([run_native(row[None], lambda v, _: ops.linear(v, w), isa) for row in x])
    for tokens in (2, 3, 4, 5, 6, 7, 8, 9, 11, 17, 64, 66):
        for threads in (1, 2, 3):
            got = run_native(x[:tokens], lambda v, _: ops.linear(v, w), isa, threads)
            assert_same_bits(got, alone[:tokens])


@pytest.mark.parametrize("format", ["q8", "q4"])
def test_tokens_taken_in_several_blocks_have_the_bits_of_one_alone(isa: str, format: str) -> None:
    w, x = formats.matrix(normal(0, 40, 6000), format), normal(1, 200, 6000)  # 96 tokens fill the L2 cache's share
    got = run_native(x, lambda v, _: ops.linear(v, w), isa, 2)
    for t in (0, 31, 95, 96, 127, 191, 192, 199):
        assert_same_bits(got[t : t + 1], run_native(x[t : t + 1], lambda v, _: ops.linear(v, w), isa))


@pytest.mark.parametrize("format", ["q8", "q4"])
def test_the_matrix_unit_gives_the_bits_of_the_vector_unit(format: str) -> None:
    if "amx" not in native.isas():
        pytest.skip("needs a CPU with AMX")
    w, x = formats.matrix(normal(2, 130, 700), format), normal(3, 70, 700)
    units = [run_native(x, lambda v, _: ops.linear(v, w), isa) for isa in ("amx", "avx512vnni")]
    assert_same_bits(*units)


def test_refined_scores_have_the_bits_of_a_token_alone(isa: str) -> None:
    upper, lower = formats.halves(formats.encode(normal(4, 20000, 130), "q8"))
    w, x = Matrix((upper,), residual=lower), normal(5, 17, 130)
    alone = np.concatenate([run_native(row[None], lambda v, _: ops.scores(v, w), isa) for row in x])
    for tokens, threads in ((2, 1), (9, 2), (17, 3)):
        assert_same_bits(run_native(x[:tokens], lambda v, _: ops.scores(v, w), isa, threads), alone[:tokens])


@functools.cache
def weight(rows: int, columns: int, format: str) -> Matrix:
    return formats.matrix(normal(rows + columns, rows, columns) * np.float32(0.05), format)


def block(v: Recorded, p: Program) -> Recorded:
    """A transformer block that is wide enough for every phase to be shared out."""
    frequencies = (10000.0 ** (-np.arange(32) / 32)).astype(np.float32)
    angles = ops.rotary(p.batch().positions, p.batch().rotation, frequencies[None], 1.0)
    qkv = ops.linear(ops.rms_norm(v, np.ones(256, np.float32), 1e-6, 0.0), weight(512, 256, "q8"))
    q, k = ops.rope(qkv[:, :256], angles), ops.rope(qkv[:, 256:384], angles)
    mixed = ops.attention(q, k, qkv[:, 384:512], p.batch(), recorder.LayerSlot(0), 0.125, 30.0, None)
    x = ops.add(v, ops.linear(mixed, weight(256, 256, "bf16")))
    up = ops.linear(ops.rms_norm(x, np.ones(256, np.float32), 1e-6, 1.0), weight(2048, 256, "q4"))
    x = ops.add(x, ops.linear(ops.glu(up, "gelu_tanh"), weight(256, 1024, "q4")))
    logits = ops.linear(ops.take_rows(x, p.batch().outputs), weight(3000, 256, "q8"))
    return ops.softcap(logits, 30.0)


def test_a_block_gives_the_same_bits_with_any_threads_and_chunks(isa: str) -> None:
    x = normal(5, 90, 256)

    def run(chunks: list[int], threads: int) -> np.ndarray:
        cache, results, start = ops.make_cache(4, [ops.LayerGeometry(2, 64)], "bf16"), [], 0
        for size in chunks:
            batch = ops.make_batch([range(size)], [start], [[2, 0, 3]], range(size))
            results.append(run_native(x[start : start + size], block, isa, threads, batch, cache))
            start += size
        return np.concatenate(results)

    whole = run([90], 1)
    for threads in (1, 2, 3):
        for chunks in ([90], [1] * 5 + [85], [64, 26], [30, 3, 1, 40, 16]):
            assert_same_bits(run(chunks, threads), whole)


def test_repeating_a_run_many_times_gives_the_same_bits(isa: str) -> None:
    x, batch = normal(6, 3, 256), tokens_batch(3)
    first = run_native(x, block, isa, 1, batch, ops.make_cache(1, [ops.LayerGeometry(2, 64)], "bf16"))
    for _ in range(20):
        assert_same_bits(
            run_native(x, block, isa, 3, batch, ops.make_cache(1, [ops.LayerGeometry(2, 64)], "bf16")), first
        )


@pytest.mark.parametrize("format", ["q8", "q4"])
def test_every_instruction_set_gives_the_integers_that_whole_numbers_have(isa: str, format: str) -> None:
    """Scales are powers of two and sums stay below 2**24, so every float is exact: 64-bit integers are the judge."""
    rows, columns = 35, 5 * formats.GROUP
    part = any_rows(4, format, rows, columns, np.float32([0.25, 0.5, 1, 2]))
    levels, scales = formats.unpack(part)
    weights = 4 * np.repeat(scales, formats.BLOCK, axis=1)[:, :columns] * levels
    x = np.random.default_rng(4).integers(-127, 128, (19, columns)).astype(np.float32)
    x[:, :: formats.GROUP] = 127  # the largest of each block, so that its scale is 1
    wanted = (x.astype(np.int64) @ weights.astype(np.int64).T).astype(np.float64) / 4
    x = formats.turn(x, inverse=True)  # whole numbers of 1/256: turning them back is exact
    for tokens in (1, 2, 3, 4, 6, 19):
        got = run_native(x[:tokens], lambda v, _: ops.linear(v, Matrix((part,))), isa, 2)
        assert np.array_equal(got.astype(np.float64), wanted[:tokens])


def test_every_instruction_set_tells_the_same_story(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_ISA", isa)
    assert soban.load().generate("어느 날 민지는", max_new_tokens=18, do_sample=False) == STORY
