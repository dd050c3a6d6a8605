"""A model that carries a state gives the same text whatever is shared, forked, taken back or broken off."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.engine.engine import Engine
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request, Sequence
from soban.engine.states import StatePool
from soban.models import architecture
from soban.ops.native import Cancelled
from soban.packing.assemble import assemble
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint

from ..models.official import CONFIGS, changed, folder_of

CONTEXT = 256
FAMILIES = ["lfm2", "qwen3_5_text"]
SHARED = [int(i) for i in np.random.default_rng(1).integers(6, 262, 100)]
PROMPTS = [[*SHARED[:70], 7, 9], [*SHARED, 4], SHARED[:40], [5, 9, 2], [8] * 33, SHARED[50:]]
Text = list[tuple[int, float]]
KNOWN: dict[tuple[Any, ...], Text] = {}  # texts by what they were asked for


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = changed(CONFIGS[request.param], max_position_embeddings=CONTEXT)
    return folder_of(tmp_path_factory.mktemp(request.param), config)


@pytest.fixture(params=[pytest.param("reference", marks=pytest.mark.slow), "fastest"])
def model(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An architecture, its weights, and by how much a logarithm may differ: NumPy's sums depend on their company."""
    if request.param == "reference":
        monkeypatch.setenv("SOBAN_OPS", "reference")
    elif ops.native.library() is None:
        pytest.skip("the native library is not built")
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    return fit.architecture, assemble(fit.architecture, fit.checkpoint), 1e-4 if request.param == "reference" else 0.0


def engine(model: Any, slots: int = 12, chunk: int = 48, pages: int = 60) -> Engine:
    arch, weights, _ = model
    cache = ops.make_cache(pages, arch.config.geometries, "f32", slots)
    return Engine(ops.runner(arch.record(weights, CONTEXT), chunk, 8), cache, CONTEXT)


def request(prompt: list[int], seed: int = 0, new: int = 30, **options: Any) -> Request:
    options = {"prompt_lookup_num_tokens": 0, "do_sample": True, "top_k": 0, "temperature": 0.7} | options
    return Request(prompt, Sampling(max_new_tokens=new, seed=seed, **options), logprobs=1)


def finish(it: Engine, sequences: list[Sequence]) -> list[Text]:
    """The tokens of each with their logarithms; in the end every slot and page is free."""
    texts: dict[int, Text] = {id(s): [] for s in sequences}
    while it.busy:
        for event in it.step():
            if event.token is not None and event.logprobs is not None:
                texts[id(event.sequence)].append((event.token, event.logprobs.chosen))
    states = it.scheduler.states
    assert states is not None and states.pool.free == it.cache.slots and it.blocks.users == [0] * it.cache.pages
    assert len({*states.pool.empty, *states.pool.snapshots.values()}) == it.cache.slots
    return list(texts.values())


def alone(model: Any, prompt: list[int], seed: int = 0, new: int = 30, **options: Any) -> Text:
    """One token at a time, with nobody beside."""
    key = (model[0].family.name, model[2], *prompt, seed, new, *options.items())
    if key not in KNOWN:
        it = engine(model, slots=2, chunk=1)
        KNOWN[key] = finish(it, it.add(request(prompt, seed, new, **options)))[0]
    return KNOWN[key]


def assert_same(model: Any, got: Text, wanted: Text) -> None:
    assert [token for token, _ in got] == [token for token, _ in wanted]
    assert np.abs(np.array(got)[:, 1] - np.array(wanted)[:, 1]).max() <= model[2]


@pytest.mark.parametrize("chunk", [3, 48, 256])
def test_a_prompt_in_pieces_is_one_token_after_the_other(model: Any, chunk: int) -> None:
    for seed, prompt in enumerate(PROMPTS):
        it = engine(model, chunk=chunk)
        assert_same(model, finish(it, it.add(request(prompt, seed)))[0], alone(model, prompt, seed))


@pytest.mark.parametrize(("slots", "pages"), [(14, 60), (6, 60), (3, 60), (14, 12)])
def test_texts_that_run_together_are_what_they_are_alone(model: Any, slots: int, pages: int) -> None:
    it = engine(model, slots, pages=pages)
    sequences = [it.add(request(prompt, seed))[0] for seed, prompt in enumerate(PROMPTS)]
    for seed, text in enumerate(finish(it, sequences)):
        assert_same(model, text, alone(model, PROMPTS[seed], seed))


def test_a_known_beginning_is_taken_from_where_a_snapshot_of_it_is(model: Any) -> None:
    it = engine(model)
    finish(it, it.add(request([*SHARED, 3], 1)))
    for prompt, reused in (([*SHARED, 3], 96), ([*SHARED[:97], 3, 3, 3], 96), ([*SHARED[:80], 3, 3], 48 // 32 * 32)):
        (sequence,) = it.add(request(prompt, 2))
        assert_same(model, finish(it, [sequence])[0], alone(model, prompt, 2))
        assert sequence.reused == reused


def test_the_next_turn_of_a_conversation_goes_on_after_the_answer(model: Any) -> None:
    it = engine(model, slots=6)
    prompt = SHARED[:50]
    for turn in range(4):
        (sequence,) = it.add(request(prompt, turn, 45))
        text = finish(it, [sequence])[0]
        assert_same(model, text, alone(model, prompt, turn, 45))
        assert sequence.reused >= (len(prompt) - 5) // 32 * 32 - 32 or not turn
        prompt = [*prompt, *(token for token, _ in text), 9, 4, turn + 6, 2, 7]


def test_a_snapshot_that_is_gone_costs_time_and_changes_nothing(model: Any) -> None:
    it = engine(model, slots=3)
    for seed, prompt in enumerate((PROMPTS[0], PROMPTS[5], PROMPTS[1], PROMPTS[0], PROMPTS[4], PROMPTS[0])):
        assert_same(model, finish(it, it.add(request(prompt, seed)))[0], alone(model, prompt, seed))


@pytest.mark.parametrize("slots", [14, 6, 3])
def test_texts_that_fork_are_what_they_are_alone(model: Any, slots: int) -> None:
    it, prompt = engine(model, slots), PROMPTS[0]
    texts = finish(it, it.add(request(prompt, 5, num_return_sequences=5)))
    assert len({tuple(text) for text in texts}) > 3
    for index, text in enumerate(texts):
        single = engine(model, slots=14, chunk=1)
        *_, sequence = single.prepare(request(prompt, 5, num_return_sequences=index + 1))
        single.queue([sequence])
        assert_same(model, text, finish(single, [sequence])[0])


REPETITIVE = [5, 9, 2, 7, 5, 9, 2, 7, 5, 9, 2, 7, 5, 9, 2]


@pytest.mark.parametrize("number", [1, 3, 7, None])
def test_what_a_draft_got_wrong_is_taken_back(model: Any, number: int | None) -> None:
    drafted = accepted = 0
    for seed in range(4):
        it = engine(model, slots=3 + seed)
        options = {"temperature": 0.15 if seed % 2 else 0.03, "new": 90}  # texts that repeat, and not only
        (sequence,) = it.add(request(REPETITIVE, seed, prompt_lookup_num_tokens=number, **options))
        assert_same(model, finish(it, [sequence])[0], alone(model, REPETITIVE, seed, **options))
        drafted, accepted = drafted + sequence.drafted, accepted + sequence.accepted
    assert 0 < accepted < drafted or number is None


@pytest.mark.parametrize("drafts", [0, 3])
def test_a_step_that_breaks_off_has_changed_nothing(model: Any, drafts: int) -> None:
    it = engine(model, slots=8)
    run, count = it.runner.run, [0]

    def breaking(batch: ops.Batch, cache: ops.Cache | None) -> np.ndarray:
        count[0] += 1
        result = run(batch, cache)
        if count[0] % 3 == 2:
            raise Cancelled
        return result

    it.runner.run = breaking  # type: ignore[method-assign]
    sequences = [it.add(request(p, s, prompt_lookup_num_tokens=drafts))[0] for s, p in enumerate(PROMPTS[:3])]
    texts: dict[int, Text] = {id(s): [] for s in sequences}
    while it.busy:
        try:
            events = it.step()
        except Cancelled:
            continue
        for event in events:
            if event.token is not None and event.logprobs is not None:
                texts[id(event.sequence)].append((event.token, event.logprobs.chosen))
    for seed, text in enumerate(texts.values()):
        assert_same(model, text, alone(model, PROMPTS[seed], seed))


def test_a_context_that_slides_is_computed_anew(model: Any) -> None:
    def slid(chunk: int, slots: int) -> Text:
        it = engine(model, slots, chunk)
        it.context = 64
        one = request(SHARED[:50], 3, 100)
        one.on_full = "slide"
        return finish(it, it.add(one))[0]

    assert_same(model, slid(48, 8), slid(1, 2))


def test_cancelled_texts_leave_no_slot_taken(model: Any) -> None:
    it = engine(model, slots=8)
    sequences = [s for seed, p in enumerate(PROMPTS) for s in it.add(request(p, seed, num_return_sequences=2))]
    for n in range(12):
        it.step()
        it.cancel(sequences[n])
    it.clear()
    assert finish(it, []) == []
    assert_same(model, finish(it, it.add(request(PROMPTS[0], 0)))[0], alone(model, PROMPTS[0], 0))


def test_the_pool_gives_up_the_snapshot_longest_unused() -> None:
    pool = StatePool(3)
    for prefix in (10, 11, 12):
        assert pool.keep(prefix, pool.take())
    pool.find(10)
    assert pool.free == 3 and [pool.take(), pool.take()] == [1, 2] and list(pool.snapshots) == [10]
    assert not pool.keep(10, 1) and not pool.keep(None, 2) and pool.free == 3
    pool.drop(10)
    pool.drop(99)
    assert sorted(pool.empty) == [0, 1, 2] and not pool.snapshots
