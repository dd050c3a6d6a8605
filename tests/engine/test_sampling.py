"""Sampling against transformers' logits processors, and its own promises."""

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.engine.sampler import Sampler, candidates
from soban.engine.sampling import Sampling

SETTINGS = [
    {"temperature": 0.7, "top_k": 0},
    {"temperature": 1.3, "top_k": 7},
    {"top_k": 0, "top_p": 0.9},
    {"top_k": 0, "top_p": 0.05},
    {"temperature": 2.0, "top_k": 0, "top_p": 0.999},
    {"top_k": 0, "min_p": 0.1},
    {"temperature": 0.8, "top_k": 50, "top_p": 0.8, "min_p": 0.02},
    {"top_k": 0, "top_p": 0.0},
    {"top_k": 20, "top_p": 0},
    {"top_k": 100000, "top_p": 1.0, "min_p": 1.0},
]


def official(scores: np.ndarray, settings: Sampling) -> np.ndarray:
    """The probabilities of all tokens after transformers' warpers, in the order of its generate()."""
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    row = torch.tensor(scores[None].astype(np.float64))
    if settings.temperature != 1:
        row = process.TemperatureLogitsWarper(settings.temperature)(None, row)
    if settings.top_k:
        row = process.TopKLogitsWarper(settings.top_k)(None, row)
    if settings.top_p < 1:
        row = process.TopPLogitsWarper(settings.top_p)(None, row)
    if settings.min_p:
        row = process.MinPLogitsWarper(settings.min_p)(None, row)
    return row.softmax(-1)[0].numpy()


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("size", [5, 300, 5000])
def test_the_distribution_is_that_of_transformers(options: dict, size: int) -> None:
    settings = Sampling(do_sample=True, **options)
    for seed in range(5):
        scores = np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)
        ids, probabilities = candidates(scores, settings)
        want = official(scores, settings)
        assert set(ids) == set(np.flatnonzero(want))
        # Divided by the temperature in float32: an eps of the score in the exponent, twice.
        bound = 4 * np.finfo(np.float32).eps * np.abs(scores).max() / settings.temperature
        np.testing.assert_allclose(probabilities, want[ids], rtol=bound)


def test_equal_scores_stay_together_at_the_edge_of_top_k() -> None:
    ids, _ = candidates(np.array([1, 3, 2, 2, 2, 0], np.float32), Sampling(do_sample=True, top_k=2))
    assert sorted(ids) == [1, 2, 3, 4]


def test_what_changes_the_scores_does_it_as_transformers_processors_do_in_their_order() -> None:
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    dice = np.random.default_rng(5)
    for trial in range(150):
        prompt = dice.integers(0, 12, dice.integers(1, 9)).tolist()
        new = dice.integers(0, 12, dice.integers(0, 12)).tolist()
        scores = dice.normal(0, 3, 12).astype(np.float32)
        bad = tuple(tuple(dice.integers(0, 12, dice.integers(1, 4)).tolist()) for _ in range(3))
        never, first = (tuple(dice.integers(0, 12, 2).tolist()) for _ in range(2))
        size, ends, least, length = trial % 4, [3, 7], trial % 7, trial % 11
        sampling = Sampling(
            repetition_penalty=1.3, no_repeat_ngram_size=size, bad_words_ids=bad, suppress_tokens=never,
            begin_suppress_tokens=first, min_new_tokens=least or None, min_length=length,
        )  # fmt: skip
        eos = torch.tensor(ends)
        wanted = [process.RepetitionPenaltyLogitsProcessor(1.3)]
        wanted += [process.NoRepeatNGramLogitsProcessor(size)] if size else []
        wanted += [process.NoBadWordsLogitsProcessor([list(word) for word in bad], eos)]
        # generate() turns min_new_tokens into a min_length, which it then stands for
        wanted += [process.MinLengthLogitsProcessor(least + len(prompt) if least else length, eos)]
        wanted += [process.SuppressTokensLogitsProcessor(never)]
        wanted += [process.SuppressTokensAtBeginLogitsProcessor(first, len(prompt))]
        theirs = torch.tensor(scores[None])
        for one in wanted:
            theirs = one(torch.tensor([[*prompt, *new]]), theirs)
        sampler = Sampler(sampling, 0, frozenset(ends))
        sampler.note(prompt)
        for token in new:
            sampler.note([token])
        np.testing.assert_array_equal(sampler.process(scores), theirs[0].numpy(), str((trial, prompt, new, sampling)))


def test_where_every_token_is_excluded_that_is_said_and_not_taken_for_damaged_weights() -> None:
    with pytest.raises(UserError, match="no token is left"):
        Sampler(Sampling(suppress_tokens=(0, 1, 2)), 0).choose(np.array([0, 2, 1], np.float32))
    assert Sampler(Sampling(suppress_tokens=(1, 99)), 0).choose(np.array([0, 2, 1], np.float32)) == 2


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    scores = np.random.default_rng(1).normal(0, 2, 200).astype(np.float32)
    seen = [5, 9, 9, 120]
    sampler = Sampler(Sampling(repetition_penalty=1.3), 0)
    sampler.note(seen)
    want = process.RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([seen]), torch.tensor(scores[None]))[0].numpy()
    np.testing.assert_array_equal(sampler.process(scores), want)


def test_penalties_and_biases_are_those_of_openais_formula() -> None:
    """mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence; c counts what was sampled."""
    dice = np.random.default_rng(11)
    for _ in range(50):
        prompt, new = dice.integers(0, 20, 6).tolist(), dice.integers(0, 8, dice.integers(0, 15)).tolist()
        scores = dice.normal(0, 3, 20).astype(np.float32)
        frequency, presence = dice.uniform(-2, 2, 2).tolist()
        bias = dict(zip(dice.integers(0, 20, 3).tolist(), dice.uniform(-100, 100, 3).tolist(), strict=True))
        sampling = Sampling(
            frequency_penalty=frequency,
            presence_penalty=presence,
            logit_bias=tuple(bias.items()),
            repetition_penalty=1.2,
        )
        sampler = Sampler(sampling, 0)
        sampler.note(prompt)
        for token in new:
            sampler.note([token])
        wanted = []
        for j, score in enumerate(scores.astype(np.float64)):
            seen = j in prompt + new
            mu = (score * 1.2 if score < 0 else score / 1.2) if seen else score
            wanted.append(mu - new.count(j) * frequency - float(new.count(j) > 0) * presence + bias.get(j, 0.0))
        # each of four operations rounds to float32
        np.testing.assert_allclose(sampler.process(scores), wanted, rtol=0, atol=4 * np.finfo(np.float32).eps * 140)


def test_a_bias_of_a_hundred_chooses_or_bans_a_token_and_one_beyond_the_vocabulary_does_nothing() -> None:
    scores = np.array([0, 2, 1], np.float32)
    for biases, best in ((((0, 100),), 0), (((1, -100.0), (99, 50), (1 << 40, 5)), 2), (((2, 0),), 1)):
        assert Sampler(Sampling(logit_bias=biases), 0).choose(scores) == best


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
    sampler = Sampler(Sampling(do_sample=True, seed=3), 0)
    drawn = np.bincount([sampler.choose(scores) for _ in range(20000)], minlength=4) / 20000
    assert np.abs(drawn - [0.5, 0.3, 0.15, 0.05]).max() < 4 * np.sqrt(0.25 / 20000)  # four standard errors


def test_the_smallest_temperature_takes_the_likeliest() -> None:
    scores = np.array([1, 2, 30, 4, 5], np.float32)
    for temperature in (1e-3, 1e-30, 5e-324):
        assert Sampler(Sampling(do_sample=True, temperature=temperature), 0).choose(scores) == 2


def test_a_temperature_of_zero_is_greedy_whatever_else_is_asked_for() -> None:
    scores = np.random.default_rng(3).normal(0, 2, 50).astype(np.float32)
    for sampling in (Sampling(temperature=0), Sampling(temperature=0.0, do_sample=True, top_p=0.9, seed=1)):
        assert not sampling.do_sample and Sampler(sampling, 0).choose(scores) == scores.argmax()


@pytest.mark.parametrize(
    "usual", [{}, {"do_sample": True}, {"temperature": 0}, {"do_sample": True, "temperature": 0.6}], ids=str
)
def test_whoever_shapes_the_draw_wants_one_and_is_told_where_there_is_none(usual: dict) -> None:
    own = Sampling(**usual)
    for shape in ({"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}):
        drawn = own.asked_for(**shape)
        assert drawn.do_sample and not drawn.idle(shape)
        assert drawn.temperature == shape.get("temperature", own.temperature or 1.0)
        for greedy in (own.asked_for(**shape, do_sample=False), own.asked_for(do_sample=False, **shape)):
            assert not greedy.do_sample and greedy.idle(shape) == list(shape)
        zero = {**shape, "temperature": 0}
        assert not own.asked_for(**zero).do_sample and not own.asked_for(**zero).idle(zero)
    drawn = own.asked_for(do_sample=True)  # a file's 0 is no temperature to draw at
    assert drawn.do_sample and drawn.temperature == (own.temperature or 1.0)


def test_a_length_that_is_asked_for_goes_before_the_other_kind_that_is_usual() -> None:
    own = Sampling(max_new_tokens=5, min_new_tokens=2, usual=frozenset(["max_new_tokens", "min_new_tokens"]))
    assert own.wanted == 1 and own.asked_for(max_new_tokens=7).wanted == 7
    longer = own.asked_for(max_length=20, min_length=9)
    assert (
        longer.limit(4) == 16
        and longer.min_new_tokens is None
        and own.asked_for(max_length=20, max_new_tokens=3).limit(4) == 3
    )


def test_the_same_seed_draws_the_same_tokens_and_each_sequence_its_own() -> None:
    scores = np.zeros(1000, np.float32)

    def draw(seed: int, index: int) -> list[int]:
        sampler = Sampler(Sampling(do_sample=True, top_k=0, seed=seed), index)
        return [sampler.choose(scores) for _ in range(20)]

    assert draw(7, 0) == draw(7, 0)
    assert draw(7, 0) != draw(7, 1)
    assert draw(7, 0) != draw(8, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_p": -0.1},
        {"top_p": 1.01}, {"top_p": float("nan")}, {"top_k": -1}, {"min_p": -0.1}, {"repetition_penalty": 0.0},
        {"num_return_sequences": 0}, {"max_new_tokens": 2.5}, {"seed": "1"}, {"do_sample": "no"}, {"stop": 5},
        {"seed": 2**64}, {"seed": -1}, {"max_new_tokens": 0},
        {"max_new_tokens": 2**31}, {"presence_penalty": 2.1}, {"frequency_penalty": -2.1}, {"presence_penalty": "1"},
        {"logit_bias": ((1, 101),)}, {"logit_bias": ((-1, 1),)}, {"logit_bias": ((1, float("nan")),)},
        {"logit_bias": ((1,),)}, {"logit_bias": (("1", 2),)}, {"logit_bias": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(options: dict) -> None:
    (name,) = options
    with pytest.raises(UserError) as caught:
        Sampling(**options)
    assert name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 120


@pytest.mark.parametrize("name", ["max_new_tokens", "seed", "temperature", "repetition_penalty", "top_p", "min_p"])
def test_numbers_that_nobody_can_write_out_are_refused_like_others(name: str) -> None:
    """Python itself raises ValueError where it is to write more than 4,300 digits, and OverflowError as a float."""
    for value in (10**400, 10**5000, -(10**5000)):
        with pytest.raises(UserError, match="out of range") as caught:
            Sampling(**{name: value})
        assert name in str(caught.value) and len(str(caught.value)) < 120


def test_logits_that_are_not_numbers_are_an_error_not_a_token() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError):
            Sampler(Sampling(), 0).choose(np.array([0, bad, 1], np.float32))


def test_numbers_that_no_token_has_are_banned_to_no_effect() -> None:
    beyond = (-1, 3, 1 << 40, 10**400, -(10**400))
    for option in ("suppress_tokens", "begin_suppress_tokens"):
        assert Sampler(Sampling(**{option: (*beyond, 1)}), 0).choose(np.array([0, 2, 1], np.float32)) == 2
