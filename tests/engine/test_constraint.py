"""Sequences under a constraint: only what is allowed comes, chosen, drawn or drafted; and they end as it says."""

import time
from collections.abc import Sequence as Many

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.engine.constraint import masked, permits
from soban.engine.sampler import Sampler
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request

from .running import counted, engine, finish

PROMPT = [5, 9, 2, 5, 9, 2, 5, 9]
SIZE = 100  # tokens that the small model has, and a few beyond


class Rounds:
    """Allows 10 to 19, then 20 to 29, then 30 to 39, and so on in turn; complete after `length`, where it ends."""

    def __init__(self, length: int, *, open_end: bool = False) -> None:
        self.length, self.open_end, self.taken, self.shortened = length, open_end, 0, False

    @property
    def complete(self) -> bool:
        return self.taken >= self.length

    @property
    def ended(self) -> bool:
        return self.complete and not self.open_end

    def begin(self, room: int | None) -> None:
        if room is not None and room < min(self.length, 4):
            raise UserError("no room")

    def allowed(self) -> np.ndarray:
        first = 10 + 10 * (self.taken % 3)
        bits = np.zeros(SIZE, np.uint8)
        bits[first : first + 10] = 1
        if self.length >= 30 and self.taken % 3 < 2:
            bits[first : first + 10] = 0
            bits[first + 7] = 1
        return np.packbits(bits, bitorder="little")

    def forced(self) -> list[int]:
        return [] if self.length < 30 or self.taken % 3 or self.complete else [17, 27]

    def settled(self, token: int, room: int | None) -> int | None:
        if room is not None and room < 3:
            self.shortened = True
            return None if room == 1 else int(np.flatnonzero(np.unpackbits(self.allowed(), bitorder="little"))[0])
        return token

    def take(self, token: int) -> None:
        assert permits(self.allowed(), token)
        self.taken += 1

    def valid(self, tokens: Many[int]) -> int:
        fits = [
            10 * ((self.taken + n) % 3) <= token - 10 < 10 * ((self.taken + n) % 3) + 10
            for n, token in enumerate(tokens)
        ]
        return fits.index(False) if False in fits else len(fits)


def test_a_mask_leaves_what_it_has_and_the_ends() -> None:
    dice = np.random.default_rng(4)
    for size, share in ((97, 0.02), (97, 0.5), (97, 0.98), (5000, 0.001), (5000, 0.999), (8, 0.5)):
        for width in (
            size,
            size - 5,
            size + 11,
        ):  # a model may have more scores than the vocabulary has tokens, or fewer
            bits = dice.random(size) < share
            scores = dice.normal(size=width).astype(np.float32)
            mask = np.packbits(bits, bitorder="little")
            few, left = masked(scores, mask, [3, size + 500])
            got = left
            if few is not None:
                assert (np.diff(few) > 0).all() and len(few) == len(left)
                got = np.full(width, -np.inf, np.float32)
                got[few] = left
            for token in range(width):
                allowed = (token < size and bits[token]) or token == 3
                assert got[token] == (scores[token] if allowed else -np.inf)
                assert permits(mask, token) == (token < size and bits[token])


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "temperature": 1.5, "seed": 3}, {"top_p": 0.5, "seed": 1}], ids=str
)
def test_only_what_is_allowed_comes_and_the_text_ends_where_it_has_to(weights: tuple, options: dict) -> None:
    sampling = Sampling(**{"do_sample": "top_p" in options, "top_k": 0} | options)
    it = engine(weights)
    (sequence,) = it.add(Request(PROMPT, sampling, constraint=lambda: Rounds(7)))
    (tokens,) = finish(it, [sequence])
    assert [token // 10 for token in tokens] == [1, 2, 3, 1, 2, 3, 1] and sequence.finish_reason == "end"


def test_it_comes_to_its_end_in_the_room_that_there_is_and_says_so(weights: tuple) -> None:
    for limit, length in ((5, 4), (20, 19)):
        it = engine(weights)
        (sequence,) = it.add(Request(PROMPT, Sampling(max_new_tokens=limit), constraint=lambda: Rounds(40)))
        (tokens,) = finish(it, [sequence])
        assert len(tokens) == length and sequence.finish_reason == "length"
    with pytest.raises(UserError, match="no room"):
        engine(weights).add(Request(PROMPT, Sampling(max_new_tokens=2), constraint=lambda: Rounds(40)))


def test_the_context_is_room_as_well_unless_it_slides(weights: tuple) -> None:
    it = engine(weights)
    (sequence,) = it.add(Request([5] * 50, Sampling(), constraint=lambda: Rounds(80)))
    (tokens,) = finish(it, [sequence])
    assert len(tokens) == 64 + 1 - 50 - 1 and sequence.finish_reason == "length"
    (sequence,) = it.add(Request([5] * 50, Sampling(), constraint=lambda: Rounds(80), on_full="slide"))
    (tokens,) = finish(it, [sequence])
    assert len(tokens) == 80 and sequence.finish_reason == "end"


def test_drafted_tokens_change_nothing(weights: tuple) -> None:
    prompt = [10, 20, 30, 11, 21, 31, 12, 22, 32, 50, 10, 20, 30, 11, 21, 31, 12, 22, 32] * 2
    texts = []
    for drafted in (0, 5):
        it = engine(weights)
        sampling = Sampling(prompt_lookup_num_tokens=drafted, logit_bias=tuple((t, 50.0) for t in (10, 20, 30, 11)))
        (sequence,) = it.add(Request(prompt, sampling, constraint=lambda: Rounds(20)))
        texts += finish(it, [sequence])
    assert texts[0] == texts[1] and sequence.accepted


def test_drafted_tokens_that_are_not_allowed_are_not_computed(weights: tuple) -> None:
    """The prompt goes on with 50 wherever 10 stood before; that may not come."""
    it = engine(weights)
    sizes = counted(it)
    sampling = Sampling(prompt_lookup_num_tokens=5, logit_bias=((10, 90.0),))
    it.add(Request([7, 8, 10, 50, 51, 52] * 2 + [7, 8], sampling, constraint=lambda: Rounds(2)))
    while it.busy:
        it.step()
    assert sizes == [14, 1]


def test_what_is_forced_takes_a_step_with_what_is_chosen(weights: tuple) -> None:
    texts, steps = [], []
    for drafts in (0, None):
        it = engine(weights)
        sizes = counted(it)
        sampling = Sampling(prompt_lookup_num_tokens=drafts, do_sample=True, seed=2, top_k=0)
        texts += finish(it, it.add(Request(PROMPT, sampling, constraint=lambda: Rounds(31))))
        steps.append(len(sizes))
    assert texts[0] == texts[1] and len(texts[0]) == 31
    assert steps[0] == 31 and steps[1] <= 13


def test_each_sequence_of_a_request_has_its_own_and_neighbours_have_none(weights: tuple) -> None:
    sampling = Sampling(do_sample=True, seed=5, num_return_sequences=3, max_new_tokens=9)
    it = engine(weights)
    sequences = it.add(Request(PROMPT, sampling, constraint=lambda: Rounds(6)))
    (other,) = it.add(Request(PROMPT, Sampling(max_new_tokens=9)))
    texts = finish(it, [*sequences, other])
    assert [[token // 10 for token in text] for text in texts[:3]] == [[1, 2, 3, 1, 2, 3]] * 3
    it = engine(weights)
    assert texts[3] == finish(it, it.add(Request(PROMPT, Sampling(max_new_tokens=9))))[0]


def test_a_draw_among_few_takes_the_time_of_few() -> None:
    """Not that of sorting all that are not allowed, which are equal to each other."""
    scores = np.random.default_rng(1).normal(size=300_000).astype(np.float32)
    rounds = Rounds(3)
    sampler = Sampler(Sampling(do_sample=True, top_k=50, seed=1), 0)
    start = time.thread_time()
    for _ in range(20):
        assert 10 <= sampler.choose(scores, rounds) < 20
    assert time.thread_time() - start < 20 * 0.01


def test_what_is_banned_comes_where_nothing_else_is_allowed() -> None:
    scores = np.linspace(0, 1, SIZE).astype(np.float32)
    sampler = Sampler(Sampling(suppress_tokens=tuple(range(10, 20))), 0)
    assert sampler.choose(scores, Rounds(3)) == 19
    assert Sampler(Sampling(suppress_tokens=(19,)), 0).choose(scores, Rounds(3)) == 18


def test_an_end_comes_only_where_the_text_is_complete() -> None:
    scores = np.zeros(SIZE, np.float32)
    scores[4] = 9
    rounds = Rounds(1, open_end=True)
    sampler = Sampler(Sampling(), 0)
    assert sampler.choose(scores, rounds, frozenset([4])) == 10
    rounds.take(10)
    assert sampler.choose(scores, rounds, frozenset([4])) == 4


def test_a_vocabulary_without_any_allowed_token_is_an_error(weights: tuple) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        Sampler(Sampling(), 0).choose(np.zeros(9, np.float32), Rounds(3))
