"""How tensors are mixed: by formulas on whole arrays, whatever pieces they come in."""

import math

import numpy as np
import pytest

from soban.convert.merging import mixing, thinning
from soban.convert.merging.tensors import Ingredients, Rows, gram_of, mixed

DICE = np.random.default_rng(1)


def rows_of(kept: list[np.ndarray]) -> Rows:
    """Pieces that are in memory, as often as they are asked for."""
    return lambda: iter(kept)


def pieces(values: np.ndarray, *cuts: int) -> list[np.ndarray]:
    return np.split(values, cuts)


def made(method: str, tensors: list[np.ndarray], base: np.ndarray | None = None, **options: object) -> np.ndarray:
    """What a method makes of tensors that come in pieces of different lengths."""
    of = {"weight": 1.0, "density": 1.0} | {k: v for k, v in options.items() if k in ("density", "epsilon", "gamma")}
    merge = {"normalize": False, "lambda": 1.0, "rescale": False, "t": 0.5, "share": 1.0} | options
    like, seed = options.get("like", "paper"), options.get("seed", 0)
    rows = tuple(rows_of(pieces(one, *cuts)) for one, cuts in zip(tensors, ((2,), (5, 6), ()), strict=False))
    one = Ingredients(
        "x", tensors[0].shape, method, rows, tuple(dict(of) for _ in tensors), merge,
        None if base is None else rows_of(pieces(base, 1, 3)), None, like, seed,  # type: ignore[arg-type]
    )  # fmt: skip
    return np.concatenate(list(mixed(one)))


def test_a_great_circle_keeps_the_length_of_task_vectors_and_a_line_does_not() -> None:
    """Lemma 1 of WARP (Rame et al. 2024). Of whole weights, which point the same way, the two are nearly one."""
    start = DICE.standard_normal((8, 32)).astype(np.float32)
    steps = [DICE.standard_normal(start.shape).astype(np.float32) for _ in range(2)]
    length = 0.16
    one, two = (start + np.float32(length / np.linalg.norm(step)) * step for step in steps)
    circle, line = made("warp", [one, two], start), (one + two) / 2
    assert np.linalg.norm(circle - start) == pytest.approx(length, rel=1e-3)
    assert np.linalg.norm(line - start) == pytest.approx(length / math.sqrt(2), rel=0.1)
    whole = made("slerp", [one, two])
    assert np.abs(whole - line).max() < 1e-4 < np.abs(circle - line).max()


def test_warp_of_three_is_one_slerp_after_the_other() -> None:
    start, *models = (DICE.standard_normal((7, 5)).astype(np.float32) for _ in range(4))
    joined = models[0].astype(np.float64) - start
    for m, model in enumerate(models[1:], 2):
        other = model.astype(np.float64) - start
        angle = math.acos((joined * other).sum() / np.linalg.norm(joined) / np.linalg.norm(other))
        first, second = math.sin((1 - 1 / m) * angle), math.sin(angle / m)
        joined = (first * joined + second * other) / math.sin(angle)
    for share in (1.0, 0.3, 0.0):
        assert np.abs(made("warp", models, start, share=share) - (start + share * joined)).max() < 1e-5


def test_vectors_on_a_line_and_vectors_of_nothing_are_mixed_on_a_line() -> None:
    a = DICE.standard_normal((6, 4)).astype(np.float32)
    for other in (a, 2 * a, -a, np.zeros_like(a)):
        found = made("slerp", [a, other], t=0.25)
        assert np.isfinite(found).all() and np.abs(found - (0.75 * a + 0.25 * other)).max() < 1e-5


def test_products_are_the_same_however_the_tensor_is_cut() -> None:
    tensors = [DICE.standard_normal((9, 3)).astype(np.float32) for _ in range(3)]
    found = gram_of([rows_of(pieces(one, cut)) for one, cut in zip(tensors, (1, 4, 8), strict=True)])
    flat = np.array(tensors, np.float64).reshape(3, -1)
    assert np.allclose(found, flat @ flat.T, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 999, 70_000])
def test_the_kth_largest_magnitude_is_exact(count: int) -> None:
    values = (DICE.standard_normal(count) * 10.0 ** DICE.integers(-9, 9, count)).astype(np.float32)
    values[::3] = np.float32(0.5)  # many of one size
    ordered = np.sort(np.abs(values))[::-1]
    for k in {1, count, max(1, count // 3), max(1, count // 2)}:
        assert thinning.kth_largest(lambda: pieces(values, count // 4), k) == ordered[k - 1]


def test_dare_keeps_a_share_and_the_mean() -> None:
    """Yu et al. 2023: what stays is 1/density as large, so that its expectation is the difference itself."""
    base, model = (DICE.standard_normal((50, 40)).astype(np.float32) for _ in range(2))
    delta = model - base
    runs = [made("dare_linear", [model], base, density=0.3, rescale=True, seed=seed) - base for seed in range(200)]
    shares = [np.mean(np.abs(run) > 1e-6) for run in runs]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.005)
    error = np.abs(np.mean(runs, axis=0) - delta).mean() / np.abs(delta).mean()
    assert error < 2 * math.sqrt(0.7 / 0.3 / 200)
    kept = np.abs(runs[0]) > 1e-6
    assert np.allclose(runs[0][kept], delta[kept] / 0.3, atol=1e-5)
    again = made("dare_linear", [model], base, density=0.3, rescale=True, seed=0) - base
    assert np.array_equal(again, runs[0]) and not np.array_equal(runs[0], runs[1])


def test_mergekits_dare_keeps_the_sum_of_magnitudes_instead() -> None:
    base, model = (DICE.standard_normal((50, 40)).astype(np.float32) for _ in range(2))
    found = made("dare_linear", [model], base, density=0.3, rescale=True, like="mergekit") - base
    assert np.abs(found).sum() == pytest.approx(np.abs(model - base).sum(), rel=1e-4)


def test_della_keeps_the_larger_of_a_row_more_often_and_the_mean() -> None:
    """Deep et al. 2024: chances by the rank within a row, and what stays is divided by its chance."""
    base, model = (DICE.standard_normal((30, 20)).astype(np.float32) for _ in range(2))
    delta = model - base
    options = {"density": 0.5, "epsilon": 0.3, "rescale": True}
    runs = [made("della_linear", [model], base, **options, seed=seed) - base for seed in range(400)]
    ranks = np.abs(delta).argsort(1).argsort(1)
    stays = np.mean([np.abs(run) > 1e-7 for run in runs], axis=0)
    for rank in (0, 9, 19):
        assert stays[ranks == rank].mean() == pytest.approx(0.2 + 0.6 * rank / 19, abs=0.03)
    assert np.abs(np.mean(runs, axis=0) - delta).mean() / np.abs(delta).mean() < 0.12


def test_breadcrumbs_without_outliers_to_drop_keeps_the_largest() -> None:
    """gamma so small that it names no number of the tensor."""
    base, model = (DICE.standard_normal((5, 4)).astype(np.float32) for _ in range(2))
    delta = model - base
    found = made("breadcrumbs", [model], base, density=0.5, gamma=0.01) - base
    assert np.allclose(found, np.where(np.abs(delta) >= np.median(np.abs(delta)), delta, 0), atol=1e-6)


def test_a_sign_is_elected_by_mass_and_the_others_take_no_part() -> None:
    """The figure of TIES: influence of the redundant and of the opposed is left out (Yadav et al. 2023)."""
    deltas = [np.array([[1, -1, 0, 2]], np.float32), np.array([[-3, -1, 4, 2]], np.float32)]
    total, weight = thinning.elected(deltas, [1.0, 1.0])
    assert np.array_equal(total / weight, [[-3, -1, 4, 2]])


def test_model_stock_goes_to_the_mean_where_models_agree_and_stays_where_they_do_not() -> None:
    start = DICE.standard_normal((4, 50)).astype(np.float32)
    step = DICE.standard_normal((4, 50)).astype(np.float32)
    same = made("model_stock", [start + step, start + step * np.float32(1.0)], start)
    assert np.abs(same - (start + step)).max() < 1e-5
    ways = np.zeros((2, 4, 50), np.float32)
    ways[0, :, :25], ways[1, :, 25:] = 1, 1
    apart = made("model_stock", [start + ways[0], start + ways[1]], start)
    assert np.abs(apart - start).max() < 1e-6


def test_shares_that_are_normalised_add_up_to_one() -> None:
    assert np.allclose(mixing.linear([2, 6]), [0.25, 0.75]) and np.allclose(mixing.linear([2], normalize=False), [2])
