"""Prompt lookup changes how many steps a text takes, and nothing else."""

import time
from typing import Any

import numpy as np
import pytest

from soban.engine.engine import Engine
from soban.engine.lookup import CHANCES, COSTS, LONGEST, WEIGHT, Lookup, StepCosts, best_length
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request, Sequence
from soban.ops.native import Cancelled

from .running import CONTEXT, alone, counted, engine, finish

REPETITIVE = [5, 9, 2, 7, 5, 9, 2, 7, 5, 9, 2, 7, 5, 9, 2]
NUMBERS = [None, 3, 50]
SETTINGS = [
    {"max_new_tokens": 40},
    {"max_new_tokens": 40, "repetition_penalty": 1.3},
    {"max_new_tokens": 40, "do_sample": True, "temperature": 0.4, "top_k": 0, "seed": 3},
    {"max_new_tokens": 40, "do_sample": True, "top_k": 4, "seed": 4},
    {"max_new_tokens": 40, "do_sample": True, "temperature": 0.6, "top_p": 0.8, "min_p": 0.02, "seed": 5},
    {"max_new_tokens": 110},
    {"max_new_tokens": 110, "do_sample": True, "temperature": 0.3, "seed": 6},
    {},
]


def run(
    it: Engine, prompt: list[int], sampling: Sampling, ends: tuple[int, ...] = (), on_full: Any = "end"
) -> tuple[list[int], Sequence]:
    (sequence,) = it.add(Request(prompt, sampling, frozenset(ends), on_full=on_full, keep=1))
    return finish(it, [sequence])[0], sequence


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_the_tokens_are_those_without_lookup(weights: tuple, options: dict) -> None:
    on_full = "slide" if options.get("max_new_tokens", 0) > CONTEXT else "end"
    without = Sampling(**options, prompt_lookup_num_tokens=0)
    wanted, plain = run(engine(weights), REPETITIVE, without, on_full=on_full)
    accepted = 0
    for number in NUMBERS:
        it = engine(weights)
        got, sequence = run(it, REPETITIVE, without.replace(prompt_lookup_num_tokens=number), on_full=on_full)
        assert got == wanted and sequence.finish_reason == plain.finish_reason and sequence.dropped == plain.dropped
        accepted += sequence.accepted
    assert accepted > 0, "nothing was put to the test"


def test_an_end_token_inside_a_draft_ends_the_text(weights: tuple) -> None:
    free = alone(weights, REPETITIVE, Sampling(max_new_tokens=40, prompt_lookup_num_tokens=0))
    for end in set(free):
        got, sequence = run(engine(weights), REPETITIVE, Sampling(prompt_lookup_num_tokens=7), (end,))
        assert got == free[: free.index(end)] and sequence.finish_reason == "end"


@pytest.mark.parametrize("length", range(1, 12))
def test_a_text_is_never_longer_than_it_was_asked_to_be(weights: tuple, length: int) -> None:
    it = engine(weights)
    sizes = counted(it)
    got, _ = run(it, REPETITIVE, Sampling(max_new_tokens=length, prompt_lookup_num_tokens=7))
    assert got == alone(weights, REPETITIVE, Sampling(max_new_tokens=length, prompt_lookup_num_tokens=0))
    assert sum(sizes) <= len(REPETITIVE) + 8 * length and all(size <= 16 for size in sizes)


def test_the_figures_are_what_the_steps_show(weights: tuple) -> None:
    it = engine(weights)
    sizes = counted(it)
    got, sequence = run(it, REPETITIVE, Sampling(max_new_tokens=40, prompt_lookup_num_tokens=3))
    decoding = sizes[1:]  # the first one was the prompt's
    assert sequence.drafted == sum(size - 1 for size in decoding) > 0
    assert sequence.accepted == len(got) - len(sizes) > 0  # every step gives one token of its own


def test_only_confirmed_tokens_are_found_again(weights: tuple) -> None:
    it = engine(weights)
    sampling = Sampling(max_new_tokens=45, do_sample=True, temperature=0.5, seed=3, prompt_lookup_num_tokens=7)
    first, sequence = run(it, REPETITIVE, sampling)
    assert sequence.drafted > sequence.accepted > 0, "some have to be refused"
    prompt = [*REPETITIVE, *first[:40]]
    again, second = run(it, prompt, Sampling(max_new_tokens=5))
    assert second.reused == 32 and again == alone(weights, prompt, Sampling(max_new_tokens=5))


def test_a_sequence_that_shares_the_step_is_not_drafted_for(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=20, prompt_lookup_num_tokens=3)
    wanted = alone(weights, REPETITIVE, sampling), alone(weights, [3, 4], sampling.replace(max_new_tokens=8))
    it = engine(weights)
    sizes = counted(it)
    (long,) = it.add(Request(REPETITIVE, sampling))
    (short,) = it.add(Request([3, 4], sampling.replace(max_new_tokens=8)))
    texts: dict[Sequence, list[int]] = {long: [], short: []}
    while it.busy:
        together = len(it.scheduler.running) == 2
        for event in it.step():
            texts[event.sequence].append(event.token or 0)
        assert not together or sizes[-1] <= 2 or len(sizes) == 1
    assert (texts[long], texts[short]) == wanted
    assert long.drafted > 0, "alone at the end, it is"


def test_several_answers_are_the_same_with_and_without(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=20, do_sample=True, temperature=0.4, seed=4, num_return_sequences=3)
    first, second = engine(weights), engine(weights)
    wanted = finish(first, first.add(Request(REPETITIVE, sampling.replace(prompt_lookup_num_tokens=0))))
    assert finish(second, second.add(Request(REPETITIVE, sampling.replace(prompt_lookup_num_tokens=7)))) == wanted


def test_too_few_pages_do_not_change_the_tokens(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=30, prompt_lookup_num_tokens=7)
    prompts = [REPETITIVE, [4] * 20, [8, 3] * 9]
    wanted = [alone(weights, prompt, sampling.replace(prompt_lookup_num_tokens=0)) for prompt in prompts]
    it = engine(weights, pages=2)
    assert finish(it, [it.add(Request(prompt, sampling))[0] for prompt in prompts]) == wanted


def test_a_cancelled_step_with_a_draft_loses_nothing(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=30, prompt_lookup_num_tokens=5)
    wanted = alone(weights, REPETITIVE, sampling)
    it = engine(weights)
    (sequence,) = it.add(Request(REPETITIVE, sampling))
    got: list[int] = []
    while it.busy:
        before = list(sequence.tokens), sequence.cached
        it.runner.cancel[0] = 1
        with pytest.raises(Cancelled):
            it.step()
        assert (sequence.tokens, sequence.cached) == before
        it.runner.cancel[0] = 0
        got += [event.token for event in it.step() if event.token is not None]
    assert got == wanted and sequence.accepted > 0


def test_the_context_ends_where_it_does_without(weights: tuple) -> None:
    got, sequence = run(engine(weights), REPETITIVE, Sampling(prompt_lookup_num_tokens=7))
    assert sequence.finish_reason == "context" and len(got) == CONTEXT + 1 - len(REPETITIVE)


def occurrences(tokens: list[int], length: int) -> list[int]:
    """Every place before the end that has the last `length` tokens before it."""
    return [p for p in range(length, len(tokens)) if tokens[p - length : p] == tokens[len(tokens) - length :]]


def test_the_longest_earlier_occurrence_is_found() -> None:
    dice = np.random.default_rng(1)
    found = 0
    for alphabet in (3, 6, 40):
        tokens: list[int] = []
        lookup = Lookup(tokens)
        for _ in range(300):
            tokens.append(int(dice.integers(alphabet)))
            place, length = lookup.find()
            longest = max((n for n in range(2, min(len(tokens), LONGEST + 1)) if occurrences(tokens, n)), default=0)
            if longest < 2:
                assert length < 2
                continue
            assert place in occurrences(tokens, length) and length <= longest
            if len(occurrences(tokens, min(3, longest))) <= 16:  # more are not compared
                assert length == longest
                found += 1
    assert found > 100


def test_a_draft_that_reaches_the_end_repeats_itself() -> None:
    lookup = Lookup([1, 2, 3, 1, 2, 3])
    place, length = lookup.find()
    assert (place, length) == (3, 3) and lookup.draft(place, 7) == [1, 2, 3, 1, 2, 3, 1]


def test_copying_is_taken_up_again_after_a_changed_word() -> None:
    source = list(range(100, 130))
    tokens = [*source, *range(10)]
    lookup = Lookup(tokens)
    for token in source[:10]:
        tokens.append(token)
        lookup.find()
    tokens += [77]  # instead of source[10]
    assert lookup.find() == (0, 0)
    tokens.append(source[11])
    place, length = lookup.find()
    assert length == 1 and lookup.draft(place, 3) == source[12:15]


def test_a_token_costs_microseconds_also_in_a_long_text() -> None:
    dice = np.random.default_rng(2)
    tokens = [int(t) for t in dice.integers(0, 50, 8000)]  # three tokens in a row occur again by chance
    lookup = Lookup(tokens)
    lookup.find()
    start = time.process_time()
    for token in dice.integers(0, 50, 2000):
        tokens.append(int(token))
        lookup.find()
    assert (time.process_time() - start) / 2000 < 200e-6  # about 10 where nothing else runs


def test_the_length_of_a_draft_is_the_one_that_pays_most() -> None:
    dice = np.random.default_rng(3)
    for _ in range(200):
        chances = [0.0, *np.sort(dice.random(LONGEST))]
        costs = StepCosts()
        costs.ratios = {n: 1 + float(dice.random()) * (n - 1) * 0.3 for n in COSTS}
        costs.ratios[1] = 1.0
        length, most = int(dice.integers(1, LONGEST + 1)), int(dice.integers(1, 16))

        def rate(count: int, chances: list = chances, costs: StepCosts = costs, length: int = length) -> float:
            likely = np.cumprod([chances[min(length + i, LONGEST)] for i in range(count)])
            return float((1 + likely.sum()) / costs.ratios[count + 1])

        rates = {count: rate(count) for count in range(most + 1) if count + 1 in COSTS}
        best = max(rates, key=lambda count: rates[count])
        got = best_length(chances, length, most, costs)
        assert rates[got] == pytest.approx(rates[best]) or (got == 0 and rates[best] <= 1.02)


def test_what_fails_is_left_alone_for_a_while_and_tried_again() -> None:
    lookup, costs = Lookup([]), StepCosts()
    tried = []
    for _ in range(400):
        number = best_length(lookup.chances, 3, 7, costs)
        tried.append(number)
        if number:
            lookup.note(3, number, 0)
        else:
            lookup.rest(3)
    assert tried[0] > 0 and 0 in tried
    assert 0 < sum(number > 0 for number in tried[100:]) < 150


def test_what_succeeds_is_drafted_longer() -> None:
    lookup, costs = Lookup([]), StepCosts()
    lengths = []
    for _ in range(60):
        lengths.append(best_length(lookup.chances, 3, 15, costs))
        lookup.note(3, lengths[-1], lengths[-1])
    assert lengths[-1] == 15 > lengths[0]
    assert all(now >= prior for now, prior in zip(lookup.chances, CHANCES, strict=True))


def test_the_costs_of_a_step_are_learned_from_its_time_and_one_outlier_does_little() -> None:
    costs = StepCosts()
    for _ in range(100):
        costs.note(1, 0.010)
        costs.note(8, 0.025)
    assert costs.ratios[8] == pytest.approx(2.5, rel=0.01)
    costs.note(8, 10.0)
    assert costs.ratios[8] < 2.5 * (1 + 1.01 * WEIGHT)
    for _ in range(500):
        costs.rest()
    assert costs.ratios[8] == pytest.approx(COSTS[8], rel=0.05)
