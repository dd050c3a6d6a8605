"""The engine on a small random Gemma 2: together or alone, whole or in pieces, the tokens are the same."""

import json

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.engine.sampler import Sampler
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request
from soban.ops.adapters import Adapter
from soban.ops.native import Cancelled

from ..conftest import GOLDEN
from .running import CONTEXT, PROMPTS, alone, counted, engine, finish


def test_greedy_with_a_penalty_gives_the_tokens_of_transformers(weights: tuple) -> None:
    golden = json.loads((GOLDEN / "gemma2" / "golden.json").read_text(encoding="utf-8"))
    got = alone(weights, golden["ids"][:6], Sampling(max_new_tokens=24, repetition_penalty=1.05))
    assert got == golden["greedy_penalty_1.05"]


def test_requests_run_together_give_what_each_gives_alone(weights: tuple) -> None:
    settings = [Sampling(max_new_tokens=20, do_sample=i % 2 == 1, seed=i) for i in range(5)]
    wanted = [alone(weights, prompt, s) for prompt, s in zip(PROMPTS, settings, strict=True)]
    it = engine(weights)
    sequences = [it.add(Request(prompt, s))[0] for prompt, s in zip(PROMPTS, settings, strict=True)]
    assert finish(it, sequences) == wanted


def test_too_few_pages_delay_but_do_not_change_the_tokens(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=20)
    wanted = [alone(weights, prompt, sampling) for prompt in PROMPTS]
    it = engine(weights, pages=3)
    assert finish(it, [it.add(Request(prompt, sampling))[0] for prompt in PROMPTS]) == wanted


def test_several_answers_share_the_prompt_and_differ_by_their_draws(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=16, do_sample=True, seed=4, num_return_sequences=4)
    it = engine(weights)
    ran = counted(it)
    answers = finish(it, it.add(Request(PROMPTS[1], sampling)))
    assert len({tuple(answer) for answer in answers}) == 4
    assert sum(ran) == len(PROMPTS[1]) + 4 * 15  # the prompt once, and all but the last token of each answer
    assert alone(weights, PROMPTS[1], sampling.replace(num_return_sequences=1)) == answers[0]


def test_more_answers_than_a_step_can_give_take_turns(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=5, do_sample=True, seed=4, num_return_sequences=11)
    few, many = engine(weights, outputs=3), engine(weights, outputs=16)
    wanted = finish(many, many.add(Request(PROMPTS[0], sampling)))
    sequences = few.add(Request(PROMPTS[0], sampling))
    texts: dict[int, list[int]] = {s.index: [] for s in sequences}
    while few.busy:
        for event in few.step():
            if event.token is not None:
                texts[event.sequence.index].append(event.token)
        begun = [s.produced for s in sequences if s.produced]
        assert not begun or max(begun) - min(begun) <= 2
    assert list(texts.values()) == wanted


def test_a_known_beginning_is_not_computed_again(weights: tuple) -> None:
    it = engine(weights)
    first = it.add(Request(PROMPTS[1], Sampling(max_new_tokens=4)))
    said = finish(it, first)[0]
    ran = counted(it)
    (second,) = it.add(Request([*PROMPTS[1], *said, 8], Sampling(max_new_tokens=4)))
    got = finish(it, [second])[0]
    assert second.reused == 32 and sum(ran) == 45 - 32 + 3
    assert got == alone(weights, [*PROMPTS[1], *said, 8], Sampling(max_new_tokens=4))


def test_what_another_adapter_has_computed_is_not_reused(weights: tuple) -> None:
    it, one, other = engine(weights), Adapter({}), Adapter({})
    for adapter, reused in ((None, 0), (one, 0), (other, 0), (one, 32), (None, 32)):
        (sequence,) = it.add(Request(PROMPTS[1], Sampling(max_new_tokens=2), adapter=adapter))
        finish(it, [sequence])
        assert sequence.reused == reused


def test_what_a_text_of_another_salt_has_computed_is_not_reused(weights: tuple) -> None:
    it = engine(weights)
    for salt, reused in (("", 0), ("mina", 0), ("jun", 0), ("mina", 32), ("", 32)):
        (sequence,) = it.add(Request(PROMPTS[1], Sampling(max_new_tokens=2), salt=salt))
        finish(it, [sequence])
        assert sequence.reused == reused


def test_an_end_token_ends_and_is_not_given(weights: tuple) -> None:
    free = alone(weights, PROMPTS[0], Sampling(max_new_tokens=10))
    it = engine(weights)
    (sequence,) = it.add(Request(PROMPTS[0], Sampling(max_new_tokens=10), frozenset([free[4]])))
    assert finish(it, [sequence])[0] == free[: free.index(free[4])]
    assert sequence.finish_reason == "end"


def test_a_full_context_ends_the_text_or_slides(weights: tuple) -> None:
    it = engine(weights)
    (sequence,) = it.add(Request(PROMPTS[0], Sampling()))
    assert len(finish(it, [sequence])[0]) == CONTEXT + 1 - 3  # the last token needs no place
    assert sequence.finish_reason == "context"
    it = engine(weights)
    (sequence,) = it.add(Request(PROMPTS[0], Sampling(max_new_tokens=200), on_full="slide", keep=1))
    assert len(finish(it, [sequence])[0]) == 200
    assert sequence.dropped > 0 and sequence.tokens[0] == PROMPTS[0][0] and len(sequence.tokens) <= CONTEXT


def test_a_prompt_longer_than_the_context_is_refused_with_counts_or_slides(weights: tuple) -> None:
    with pytest.raises(UserError, match=r"100 tokens.*64"):
        engine(weights).add(Request([1] * 100, Sampling()))
    with pytest.raises(UserError, match=r"3 tokens and up to 70.*64"):
        engine(weights).add(Request(PROMPTS[0], Sampling(max_new_tokens=70)))
    it = engine(weights)
    (sequence,) = it.add(Request(list(range(90)), Sampling(max_new_tokens=5), on_full="slide", keep=2))
    assert sequence.tokens == [0, 1, *range(60, 90)] and sequence.dropped == 58
    assert len(finish(it, [sequence])[0]) == 5


def test_an_empty_prompt_is_refused(weights: tuple) -> None:
    with pytest.raises(UserError):
        engine(weights).add(Request([], Sampling()))


def test_a_cancelled_step_loses_nothing(weights: tuple) -> None:
    wanted = alone(weights, PROMPTS[1], Sampling(max_new_tokens=6))
    it = engine(weights)
    (sequence,) = it.add(Request(PROMPTS[1], Sampling(max_new_tokens=6)))
    it.runner.cancel[0] = 1
    with pytest.raises(Cancelled):
        it.step()
    it.runner.cancel[0] = 0
    assert finish(it, [sequence])[0] == wanted


def test_a_sequence_whose_logits_are_no_numbers_ends_alone(weights: tuple) -> None:
    wanted = alone(weights, PROMPTS[0], Sampling(max_new_tokens=8))
    it = engine(weights)
    (good,) = it.add(Request(PROMPTS[0], Sampling(max_new_tokens=8)))
    (bad,) = it.add(Request(PROMPTS[3], Sampling(max_new_tokens=8)))
    bad.sampler.choose = lambda logits: Sampler(Sampling(), 0).choose(logits * np.nan)  # type: ignore[method-assign]
    events = []
    while it.busy:
        events += it.step()
    assert [e.token for e in events if e.sequence is good] == wanted
    (end,) = [e for e in events if e.sequence is bad]
    assert end.finish_reason == "error" and isinstance(end.error, UserError)


def test_siblings_are_cancelled_one_by_one_also_before_they_begin(weights: tuple) -> None:
    sampling = Sampling(max_new_tokens=6, do_sample=True, seed=4, num_return_sequences=3)
    it = engine(weights)
    wanted = finish(it, it.add(Request(PROMPTS[1], sampling)))
    for gone in ([0], [1], [0, 1]):
        it = engine(weights)
        sequences = it.add(Request(PROMPTS[1], sampling))
        for index in gone:
            it.cancel(sequences[index])
        got = finish(it, sequences)
        assert got == [[] if i in gone else tokens for i, tokens in enumerate(wanted)]
        assert [sequences[i].finish_reason for i in gone] == ["cancelled"] * len(gone)


def test_a_cancelled_sequence_gives_its_pages_back(weights: tuple) -> None:
    it = engine(weights)
    first, second = it.add(Request(PROMPTS[1], Sampling(num_return_sequences=2, do_sample=True, seed=1)))
    for _ in range(6):
        it.step()
    it.cancel(first)
    it.cancel(second)
    assert not it.busy and it.blocks.users == [0] * it.cache.pages
