"""Prompts in pieces beside answers: how large the pieces are, who comes first, and that no token depends on it."""

import random
from itertools import pairwise

import pytest

from soban.engine.engine import Engine
from soban.engine.pace import LEAST, LONGEST, STRETCH, Pace
from soban.engine.sampling import Sampling
from soban.engine.sequence import Event, Request, Sequence
from soban.engine.sharing import Caller, SharedEngine
from soban.ops.native import Cancelled

from .running import PROMPTS, alone, counted, engine, finish


def settled(fixed: float, each: float, answers: int = 0, steps: int = 30) -> float:
    """Seconds of a step after some, on a machine where one takes `fixed` and `each` for every token."""
    pace = Pace()
    for _ in range(4):
        pace.note(answers, False, fixed + each * answers)
    pace.note(3, True, fixed + each * 3)  # a first prompt, so short that it says little
    for _ in range(steps):
        tokens = min(256, pace.budget(answers))
        pace.note(tokens, True, fixed + each * tokens)
    return fixed + each * tokens


@pytest.mark.parametrize("fixed, each", [(0.05, 0.002), (0.1, 0.005), (0.15, 0.001), (0.0, 0.01)])
def test_a_step_with_a_prompt_settles_at_the_time_that_it_may_take(fixed: float, each: float) -> None:
    assert settled(fixed, each) == pytest.approx(LONGEST, rel=0.05)  # tokens are whole
    beside = fixed + 8 * each  # seconds of a step of eight answers
    most = min(LONGEST, max(0.05, STRETCH * beside))
    assert settled(fixed, each, answers=8) == pytest.approx(max(most, fixed + (8 + LEAST) * each), rel=0.05)


def test_a_slow_machine_still_reads_a_few_tokens_and_a_stray_measurement_changes_little() -> None:
    assert settled(1.0, 0.1) == pytest.approx(1.0 + LEAST * 0.1)
    pace = Pace()
    for _ in range(5):
        pace.note(100, True, 0.25)
    pace.note(100, True, 60.0)
    assert pace.budget(0) >= 100 * 0.7


def test_no_token_and_no_likelihood_depends_on_the_pieces(weights: tuple, backend: str) -> None:
    settings = [Sampling(max_new_tokens=12, do_sample=i % 2 == 1, seed=i) for i in range(5)]
    requests = [Request(prompt, s, logprobs=3) for prompt, s in zip(PROMPTS, settings, strict=True)]

    def run(it: Engine) -> list[list[tuple[int | None, object]]]:
        told: dict[Sequence, list[tuple[int | None, object]]] = {s: [] for r in requests for s in it.add(r)}
        while it.busy:
            for event in it.step():  # NumPy's products, which the reference is made of, round by their size
                told[event.sequence].append((event.token, event.logprobs if backend == "native" else None))
        return list(told.values())

    wanted = run(engine(weights, chunk=64))
    dice = random.Random(5)
    for _ in range(4):
        it = engine(weights, chunk=64)
        it.pace.budget = lambda answers: answers + dice.randint(1, 20)  # type: ignore[method-assign]
        sizes = counted(it)
        assert run(it) == wanted
        assert len(set(sizes)) > 5


def first_token_after(it: Engine, sequence: Sequence) -> int:
    """Steps until a sequence has its first token."""
    for step in range(1, 100):
        if any(event.sequence is sequence for event in it.step()):
            return step
    raise AssertionError("it never comes")


def test_a_short_prompt_does_not_wait_for_the_end_of_a_long_one(weights: tuple) -> None:
    it = engine(weights)
    it.pace.budget = lambda answers: answers + 8  # type: ignore[method-assign]
    (long,) = it.add(Request(list(range(60)), Sampling(max_new_tokens=2)))
    it.step()
    (short,) = it.add(Request([7] * 11, Sampling(max_new_tokens=2)))
    assert first_token_after(it, short) == 2 and not long.produced
    (later,) = it.add(Request([9] * 11, Sampling(max_new_tokens=2)))
    assert first_token_after(it, later) <= 3 and not long.produced


def test_a_long_prompt_comes_to_its_end_however_many_short_ones_come(weights: tuple) -> None:
    it = engine(weights, pages=200)
    it.pace.budget = lambda answers: answers + 8  # type: ignore[method-assign]
    (long,) = it.add(Request(list(range(60)), Sampling(max_new_tokens=2)))
    for step in range(60):
        it.add(Request([step + 5] * 9, Sampling(max_new_tokens=1)))
        it.step()
        if long.produced:
            break
    assert step <= 60 / 2  # a quarter of eight tokens for each step


def test_prompts_of_one_length_begin_in_the_order_of_arrival(weights: tuple) -> None:
    it = engine(weights, pages=400, outputs=40)
    it.pace.budget = lambda answers: answers + 8  # type: ignore[method-assign]
    sequences = [it.add(Request([n + 5] * 20, Sampling(max_new_tokens=30)))[0] for n in range(32)]
    firsts: dict[Sequence, int] = {}
    events: list[Event] = []
    for step in range(400):
        events = it.step() if it.busy else []
        for event in events:
            firsts.setdefault(event.sequence, step)
    assert len(firsts) == 32 and all(firsts[a] <= firsts[b] for a, b in pairwise(sequences))


def test_answers_that_run_have_a_token_in_every_step_of_anothers_prompt(weights: tuple) -> None:
    it = engine(weights)
    it.pace.budget = lambda answers: answers + 4  # type: ignore[method-assign]
    running = [it.add(Request([n + 5], Sampling(max_new_tokens=40)))[0] for n in range(3)]
    while not all(s.produced for s in running):
        it.step()
    (long,) = it.add(Request(list(range(60)), Sampling(max_new_tokens=2)))
    steps = 0
    while not long.produced:
        assert {event.sequence for event in it.step()} >= set(running)
        steps += 1
    assert steps == 15


def test_whoever_is_alone_reads_whole_pieces_until_others_come_often(weights: tuple) -> None:
    it = engine(weights)
    it.pace.budget = lambda answers: answers + 4  # type: ignore[method-assign]
    sizes = counted(it)
    finish(it, it.add(Request(list(range(40)), Sampling(max_new_tokens=1))))
    assert sizes == [16, 16, 8]
    both = [it.add(Request([n + 60], Sampling(max_new_tokens=2)))[0] for n in range(2)]
    finish(it, both)
    del sizes[:]
    finish(it, it.add(Request(list(range(20, 60)), Sampling(max_new_tokens=1))))
    assert sizes == [4] * 10


def test_a_long_step_of_a_lone_prompt_is_given_up_when_somebody_comes(weights: tuple) -> None:
    wanted = [alone(weights, prompt, Sampling(max_new_tokens=6)) for prompt in PROMPTS[1:3]]
    it = engine(weights)
    shared, run, cut = SharedEngine(it), it.runner.run, []
    it.pace.note(1, True, 1.0)  # a machine that reads a token in a second
    long, other = (it.prepare(Request(prompt, Sampling(max_new_tokens=6)))[0] for prompt in PROMPTS[1:3])
    one, two = Caller(), Caller()

    def running(batch: object, cache: object) -> object:
        if not cut:
            cut.append(it.long)
            shared.hurry()  # as the thread does that brings the other
        return run(batch, cache)  # type: ignore[arg-type]

    it.runner.run = running  # type: ignore[method-assign, assignment]
    shared.begin(one, [long])
    if it.runner.cancel.view("int8")[1] == 0:
        shared.step([one])
    assert cut == [True] and long.cached == 0 and not one.ready
    shared.begin(two, [other])
    texts: dict[Sequence, list[int]] = {long: [], other: []}
    while it.busy:
        shared.step([])
        for caller in (one, two):
            while caller.events:
                event = caller.events.popleft()
                texts[event.sequence].append(event.token)  # type: ignore[arg-type]
    assert list(texts.values()) == wanted
    assert other.produced == 6 and not isinstance(one.error, Cancelled)
