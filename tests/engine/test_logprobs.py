"""Log-probabilities of the tokens that a text is made of, against torch's log_softmax."""

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.engine.logprobs import logprobs_of
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request

from .running import engine

PROMPT = [5, 9, 2, 5, 9, 2, 5, 9]


def softmax(row: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    return torch.tensor(row, dtype=torch.float64).log_softmax(-1).numpy()


@pytest.mark.parametrize("count", [0, 1, 5, 300, 1000])
def test_log_probabilities_are_torchs_and_the_chosen_one_is_the_same_float_in_the_list(count: int) -> None:
    for seed in range(5):
        row = np.random.default_rng(seed).normal(0, 8, 300).astype(np.float32)
        row[7] = row[9]  # equal ones come by their ids
        wanted = softmax(row)
        for token in (int(row.argmax()), 3):
            told = logprobs_of(row, token, count)
            assert list(told.ids) == np.argsort(-row, kind="stable")[:count].tolist()
            # a float32 difference from the greatest, below 64, in each exponent
            bound = 64 * float(np.finfo(np.float32).eps)
            assert told.chosen == pytest.approx(wanted[token], abs=bound)
            np.testing.assert_allclose(told.values, wanted[list(told.ids)], atol=bound)
            if token in told.ids:
                assert told.values[told.ids.index(token)] == told.chosen


def test_scores_of_minus_infinity_have_no_probability() -> None:
    told = logprobs_of(np.array([0, -np.inf, 0], np.float32), 0, 3)
    assert told.chosen == pytest.approx(np.log(0.5)) and told.ids == (0, 2, 1) and told.values[2] == -np.inf


def events(weights: tuple, **options: object) -> list:
    it = engine(weights)
    request = Request(PROMPT, Sampling(max_new_tokens=12, **options), frozenset({4}), logprobs=3)  # type: ignore[arg-type]
    it.add(request)
    found = []
    while it.busy:
        found += it.step()
    return found


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.5, "suppress_tokens": (3,)}], ids=str)
def test_every_event_tells_of_the_models_own_distribution_with_drafts_or_without(weights: tuple, options: dict) -> None:
    drafted, single = (events(weights, prompt_lookup_num_tokens=n, **options) for n in (6, 0))
    assert len(drafted) == len(single) > 3
    tokens = list(PROMPT)
    for one, other in zip(drafted, single, strict=True):
        it = engine(weights)
        it.add(Request(tokens, Sampling(max_new_tokens=1), logprobs=3))
        fresh: list = []
        while not fresh:
            fresh = it.step()
        for event in (one, other):  # NumPy's sums differ in their last digits from batch to batch
            assert event.logprobs.ids == fresh[0].logprobs.ids
            assert event.logprobs.values == pytest.approx(fresh[0].logprobs.values, abs=1e-5)
            assert options or event.logprobs.chosen == event.logprobs.values[0]
        tokens.append(4 if other.token is None else other.token)


def test_who_does_not_ask_is_told_nothing(weights: tuple) -> None:
    it = engine(weights)
    it.add(Request(PROMPT, Sampling(max_new_tokens=3)))
    assert all(event.logprobs is None for _ in range(3) for event in it.step())


def test_a_number_of_alternatives_that_cannot_be_is_refused(weights: tuple) -> None:
    for count in (-1, 5000):
        with pytest.raises(UserError, match="logprobs"):
            engine(weights).add(Request(PROMPT, Sampling(), logprobs=count))
