"""The limits are measured by work that really is done: every byte read once, every product counted."""

import os
import sys

import numpy as np
import pytest

from soban.measure.limits import VARIANTS, Limits, better, measure_limits, ordinary_pages
from soban.ops import native

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs the native library")


@pytest.fixture(scope="module", params=[1, 3])
def pool(request: pytest.FixtureRequest) -> native.Pool:
    return native.Pool(request.param, native.chosen_isa())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_word_is_read_once(pool: native.Pool, variant: tuple[int, int, int]) -> None:
    words = np.random.default_rng(4).integers(0, 1 << 63, (17 << 20) // 8 + 64, np.uint64)  # two pieces and a bit
    assert native.read(pool, words.view(np.uint8), *variant) == np.bitwise_xor.reduce(words)


def test_plain_code_has_no_products(pool: native.Pool) -> None:
    assert native.multiply(pool, "scalar", 3)[0] == -1


@pytest.mark.parametrize("products", native.ISAS[1:])
def test_the_products_count_themselves(pool: native.Pool, products: str) -> None:
    found, rate = native.multiply(pool, products, 3)
    if found == -1:
        pytest.skip(f"no {products} here")
    # multiply-adds of an instruction, of twelve (AMX: four, ARM: sixteen) in a loop
    sizes = {"amx": 4 * 16 * 16 * 64, "avx512vnni": 12 * 64, "neon": 16 * 16, "neon_i8mm": 16 * 32}
    loop = sizes.get(products, 12 * 32)
    rounds = 1024 if products == "amx" else 8192
    assert found == 3 * 16 * rounds * loop
    assert rate > 0


def test_a_peak_is_not_what_other_programs_leave_over() -> None:
    """Four threads on each core take turns; each counts its own time, so that a thread's peak stays about the same."""
    if sys.platform != "linux":
        pytest.skip("needs a clock of each thread's own")
    isa, cores = native.isas()[1], len(os.sched_getaffinity(0))
    alone = max(native.multiply(native.Pool(1, isa), isa, 100)[1] for _ in range(3))
    crowd = native.multiply(native.Pool(4 * cores, isa), isa, 400 * cores)[1] / (4 * cores)
    assert crowd > 0.4 * alone


def test_what_the_kernels_can_use_has_a_peak() -> None:
    with_products = native.isas()[1:]
    limits = measure_limits(buffer_bytes=32 << 20)
    assert limits.bandwidth >= limits.usual > 0 and (limits.streams, limits.cache, limits.ahead) in VARIANTS
    assert all((limits.multiply_adds(isa) or 0) > 0 for isa in with_products)
    assert limits.multiply_adds("scalar") is None


def test_the_memory_is_there_before_it_is_read() -> None:
    assert ordinary_pages(8 << 20)[::4096].all()


def test_two_measurements_together_have_the_best_of_each() -> None:
    one, other = (
        Limits(2, 3.0, 2.0, 4, 1, 512, {"a": 5.0, "b": 1.0}),
        Limits(2, 9.0, 4.0, 8, 2, 1024, {"a": 4.0, "b": 7.0}),
    )
    assert better(one, other) == better(other, one) == Limits(2, 9.0, 3.0, 8, 2, 1024, {"a": 5.0, "b": 7.0})


def test_an_unknown_instruction_set_has_no_peak() -> None:
    assert Limits(1, 1.0, 1.0, 1, 0, 0, {"avx2": 2.0}).multiply_adds("neon") is None
