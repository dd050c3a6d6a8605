"""Single products outside of a program: those of the reference, by several threads, without a copy of the weights."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from soban.ops import formats, products, reference
from soban.ops.formats import Matrix, Rows

FORMATS = ("f32", "bf16", "q8", "q4")


def matrix(format: str, *rows: int, columns: int = 200) -> Matrix:
    dice = np.random.default_rng(0)
    parts = tuple(formats.encode(dice.normal(size=(n, columns)).astype(np.float32), format) for n in rows)
    return Matrix(parts, dice.normal(size=sum(rows)).astype(np.float32))


@pytest.mark.parametrize("format", FORMATS)
def test_a_product_is_that_of_the_reference(format: str) -> None:
    w = matrix(format, 48, 37)
    x = np.random.default_rng(1).normal(size=(19, 200)).astype(np.float32)
    wanted = reference.linear(x, w)
    with ThreadPoolExecutor(2) as pool:
        for ours in pool.map(lambda _: products.linear(x, w), range(4)):
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_those_that_the_format_means(format: str) -> None:
    w = matrix(format, 48, 37)
    numbers = np.array([0, 84, 48, 47, 3, 3])
    wanted = np.concatenate([formats.decode(part) for part in w.parts])[numbers]
    np.testing.assert_allclose(products.rows(w, numbers), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_panels_are_rows_in_the_same_memory(format: str) -> None:
    part = matrix(format, 70).parts[0]
    some = products.panels(part, 32, 64)
    assert isinstance(some, Rows) and np.shares_memory(some.data, part.data)
    np.testing.assert_array_equal(formats.decode(some), formats.decode(part)[32:64])
    last = products.panels(part, 64, 96)
    np.testing.assert_array_equal(formats.decode(last), formats.decode(part)[64:])


def test_numpy_alone_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = matrix("q4", 48, 37), np.random.default_rng(1).normal(size=(5, 200)).astype(np.float32)
    ours, some = products.linear(x, w), products.rows(w, np.arange(20))
    monkeypatch.setenv("SOBAN_OPS", "reference")
    np.testing.assert_allclose(products.linear(x, w), ours, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(products.rows(w, np.arange(20)), some, rtol=1e-6, atol=1e-7)
