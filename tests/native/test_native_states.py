"""What is carried from step to step, natively: against the reference, and the same bits however tokens are cut."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.ops.batch import Batch, State, make_batch
from soban.ops.cache import Cache, LayerGeometry
from soban.ops.recorder import LayerSlot, Program, Recorded
from tests.native.running import Floats, assert_close, assert_same_bits, normal, run_native, run_reference

EPS = np.finfo(np.float32).eps
COLUMNS = 70  # of a convolution
KEY_HEADS, KEY, HEADS, VALUE = 2, 20, 4, 70  # of a memory
KEYS, VALUES = 2 * KEY_HEADS * KEY, HEADS * VALUE
START = 5  # where their state begins
SLOTS = 7


def convolution(taps: int) -> Any:
    def record(v: Recorded, p: Program) -> Recorded:
        weight, bias = normal(11, taps * COLUMNS), normal(12, COLUMNS) if taps == 4 else None
        return ops.convolution(v[:, :COLUMNS], weight, bias, p.batch(), LayerSlot(1), START)

    return record


def memory(v: Recorded, p: Program, tiled: bool = False) -> Recorded:
    norm = np.full(KEY, KEY**-0.5, np.float32)
    keys, values = ops.head_norm(v[:, :KEYS], norm, 1e-6), v[:, KEYS : KEYS + VALUES]
    gates = v[:, KEYS + VALUES : KEYS + VALUES + 2 * HEADS]
    decay, bias = -np.exp(normal(13, HEADS)), normal(14, HEADS)
    return ops.delta_rule(keys, values, gates, p.batch(), LayerSlot(1), decay, bias, KEY_HEADS, START, KEY**-0.5, tiled)


WIDTH = KEYS + VALUES + 2 * HEADS
RECORDS: dict[str, Any] = {
    "1 token": convolution(1), "3 tokens": convolution(3), "4 tokens": convolution(4), "memory": memory,
    "tiled memory": lambda v, p: memory(v, p, True),
}  # fmt: skip
STATE = START + max(3 * COLUMNS, HEADS * KEY * VALUE)


def cache_of(seed: int = 0) -> Cache:
    """Slots that hold something, so that nothing is right by chance."""
    cache = ops.make_cache(2, [LayerGeometry(1, 16), LayerGeometry(0, 0, state=STATE)], "f32", SLOTS)
    cache[1].states[:] = normal(seed + 30, SLOTS, STATE)
    return cache


def batch_of(counts: list[int], offsets: list[int], states: list[State]) -> Batch:
    ends = np.cumsum([0, *counts])
    tokens = [range(int(a), int(b)) for a, b in pairwise(ends)]
    return make_batch(tokens, offsets, [[0]] * len(counts), range(int(ends[-1])), states=states)


@pytest.mark.parametrize("name", RECORDS)
def test_they_are_the_reference_within_rounding(isas: list[str], name: str) -> None:
    counts, offsets = [1, 9, 2, 40], [0, 3, 0, 17]
    states = [State(6, 0), State(1, 1, 2, 8), State(3, 3, 4, 1), State(5, 6, 6, 0)]
    x, batch = normal(1, 52, WIDTH), batch_of(counts, offsets, states)
    expected = cache_of()
    wanted = run_reference(x, RECORDS[name], batch, expected)
    for isa in isas:
        cache = cache_of()
        got = run_native(x, RECORDS[name], isa, 3, batch, cache)
        bound = 200 * EPS * np.abs(wanted).max()
        assert_close(got, wanted, bound, isa)
        assert_close(cache[1].states, expected[1].states, 200 * EPS * np.abs(expected[1].states).max(), isa)


@pytest.mark.parametrize("name", RECORDS)
def test_chunks_companions_and_threads_change_no_bit(isa: str, name: str) -> None:
    x, others = normal(2, 60, WIDTH), normal(3, 30, WIDTH)

    def run(chunks: list[int], threads: int, companions: int) -> tuple[Floats, Floats]:
        cache, results, start, slot = cache_of(), [], 0, 0
        for size in chunks:
            rows = np.concatenate([others[:companions], x[start : start + size]])
            states = [State(4, 4)] * (companions > 0) + [State(slot, 1 - slot)]
            counts = [companions, size] if companions else [size]
            batch = batch_of(counts, [3, start][-len(counts) :], states)
            results.append(run_native(rows, RECORDS[name], isa, threads, batch, cache)[companions:])
            start, slot = start + size, 1 - slot
        return np.concatenate(results), cache[1].states[slot].copy()

    wanted, state = run([1] * 60, 1, 0)
    for chunks in ([60], [2, 1, 57], [30, 30], [1] * 3 + [57]):
        for threads, companions in ((1, 0), (3, 0), (2, 11), (3, 30)):
            got, left = run(chunks, threads, companions)
            assert_same_bits(got, wanted)
            if len(chunks) % 2 == 0:  # the slot that has the end of both
                assert_same_bits(left, state)


@pytest.mark.parametrize("name", RECORDS)
def test_the_saved_state_is_that_of_a_shorter_step(isa: str, name: str) -> None:
    x = normal(4, 20, WIDTH)
    for until in (1, 2, 3, 13, 20):
        whole, part = cache_of(), cache_of()
        run_native(x, RECORDS[name], isa, 2, batch_of([20], [5], [State(0, 1, 2, until)]), whole)
        run_native(x[:until], RECORDS[name], isa, 2, batch_of([until], [5], [State(0, 2)]), part)
        assert_same_bits(whole[1].states[2], part[1].states[2])
        assert_same_bits(whole[1].states[0], cache_of()[1].states[0])  # what it began with is left alone
        assert_same_bits(whole[1].states[3:], cache_of()[1].states[3:])


@pytest.mark.parametrize("name", RECORDS)
def test_a_text_that_begins_finds_nothing_in_its_slot(isa: str, name: str) -> None:
    x, clean = normal(5, 9, WIDTH), cache_of()
    clean[1].states[:] = 0
    begins, goes_on = (batch_of([9], [position], [State(0, 0)]) for position in (0, 7))
    wanted = run_native(x, RECORDS[name], isa, 1, goes_on, clean)
    assert_same_bits(run_native(x, RECORDS[name], isa, 1, begins, cache_of(9)), wanted)


def test_a_batch_that_names_no_slots_has_those_of_its_numbers(isa: str) -> None:
    x = normal(6, 12, WIDTH)
    named, unnamed = cache_of(), cache_of()
    first = run_native(x, memory, isa, 1, batch_of([5, 7], [2, 3], [State(0, 0), State(1, 1)]), named)
    assert_same_bits(run_native(x, memory, isa, 1, batch_of([5, 7], [2, 3], []), unnamed), first)
    assert_same_bits(named[1].states, unnamed[1].states)
