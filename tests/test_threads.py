"""One model in many threads: whatever else is asked of it meanwhile, each call gives what it gives alone."""

import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

import soban
from soban.engine.sequence import AHEAD
from soban.ops.native import Cancelled
from soban.talk.generation import Generation

from .tiny import make_model, write_ascii_weights

THREADS = 8
WORDS = ["one", "two ", "하나", " 둘", "three\n", "<end_of_turn>", "Once upon a time", "?", "가나다라"]
Task = Callable[[soban.Model, random.Random], Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """Its context is short, and its cache has room for one and a half of them."""
    folder = make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=160)
    write_ascii_weights(folder)
    model = soban.load(folder)
    model.engine.blocks.empty = model.engine.blocks.empty[-8:]
    return model


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual, so that what can go wrong does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def words(dice: random.Random, most: int = 6) -> str:
    return "".join(dice.choices(WORDS, k=dice.randint(1, most)))


def options(dice: random.Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {"max_new_tokens": dice.choice([1, 5, 24]), "seed": dice.randrange(99)}
    chosen |= dice.choice([{"temperature": 0}, {"temperature": 1.5}, {"top_p": 0.5}, {"min_p": 0.1, "top_k": 0}])
    chosen |= dice.choice([{}, {"stop": "q"}, {"stop": ["th", "e"]}, {"repetition_penalty": 1.3}])
    return chosen | dice.choice([{}, {}, {"prompt_lookup_num_tokens": 3}, {"max_new_tokens": 60, "on_full": "slide"}])


def turns(dice: random.Random) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * 2
    return [{"role": role, "content": words(dice, 3)} for role in roles[: dice.choice([1, 3])]]


def written(model: soban.Model, dice: random.Random) -> Any:
    return model.generate(words(dice), raw=dice.random() < 0.5, **options(dice))


def several(model: soban.Model, dice: random.Random) -> Any:
    return model.generate(words(dice), num_return_sequences=dice.randint(2, 5), **options(dice) | {"do_sample": True})


def begun(model: soban.Model, dice: random.Random) -> Any:
    """A stream that is given up in the middle, sometimes by dropping it."""
    stream = model.stream_chat(turns(dice), **options(dice))
    pieces = [piece for _, piece in zip(range(dice.randint(1, 4)), stream, strict=False)]
    if dice.random() < 0.5:
        stream.close()  # type: ignore[attr-defined]
    return pieces


def talked(model: soban.Model, dice: random.Random) -> Any:
    on_full = dice.choice(["slide", "summarise"])
    talk = soban.Dialogue(model, **options(dice) | {"on_full": on_full, "max_new_tokens": 12})
    for _ in range(3):
        talk.say(words(dice, 3)).read()
    return talk.messages, talk.dropped, talk.summary


def scored(model: soban.Model, dice: random.Random) -> Any:
    return model.logits(words(dice)).tobytes()


def tokenized(model: soban.Model, dice: random.Random) -> Any:
    ids = model.tokenize(words(dice, 40))
    return ids, model.detokenize(ids)


def refused(model: soban.Model, dice: random.Random) -> Any:
    with pytest.raises(soban.UserError) as caught:
        model.generate("x" * 200 + words(dice))
    return str(caught.value)


TASKS: list[Task] = [written, written, several, begun, talked, scored, tokenized, refused]


def done(model: soban.Model, seed: int) -> Any:
    return TASKS[seed % len(TASKS)](model, random.Random(seed))


def check(model: soban.Model, seeds: list[int], calls: int) -> None:
    """That many calls of tasks with these seeds, in several threads, against what each gives alone."""
    alone = {seed: done(model, seed) for seed in seeds}
    order = random.Random(1).choices(seeds, k=calls)
    with ThreadPoolExecutor(THREADS) as pool:
        for seed, got in zip(order, pool.map(lambda seed: done(model, seed), order), strict=True):
            assert got == alone[seed], (TASKS[seed % len(TASKS)].__name__, seed)
    assert_idle(model)


def assert_idle(model: soban.Model) -> None:
    gc.collect()
    model.shared._tidy()
    assert not model.engine.busy and not any(model.engine.blocks.users) and not model.shared._callers


def test_calls_in_eight_threads_answer_as_each_alone(model: soban.Model) -> None:
    check(model, list(range(40)), 160)


@pytest.mark.slow
def test_ten_thousand_calls_in_eight_threads_answer_as_each_alone(model: soban.Model) -> None:
    check(model, list(range(1000)), 10_000)


LONG: dict[str, Any] = {"max_new_tokens": 120, "temperature": 1.2, "raw": True}


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Begins the work in a thread; call what comes back for its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)

    def wait() -> Any:
        pool.shutdown(wait=False)
        return future.result(timeout=60)

    return wait


def test_a_text_is_cancelled_from_another_thread_and_the_others_go_on(model: soban.Model) -> None:
    alone = [model.generate("a", seed=seed, **LONG) for seed in range(3)]
    for _ in range(5):
        others = [in_thread(lambda seed=seed: model.generate("a", seed=seed, **LONG)) for seed in range(3)]
        generation, started = model.start("a", seed=7, **LONG), threading.Event()

        def read(generation: Generation = generation, started: threading.Event = started) -> str:
            pieces = []
            with pytest.raises(Cancelled):
                for _, piece in generation:
                    pieces.append(piece)
                    started.set()
            return "".join(pieces)

        reading = in_thread(read)
        started.wait(60)
        generation.cancel()
        assert len(reading()) < 120 and generation.figures.finished == "cancelled"
        assert [wait() for wait in others] == alone
    assert_idle(model)


def test_a_prompt_is_cancelled_in_the_middle_of_its_first_step_and_no_other_is_run_for_it(
    model: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engine.scheduler, "max_tokens", 16)  # eight steps for a prompt
    options = {**LONG, "prompt_lookup_num_tokens": 0}
    alone = model.generate("a", seed=1, **options)
    stream = model.stream("a", seed=1, **options)
    pieces = [next(stream), next(stream)]
    generation, usual = model.start("c" * 128, raw=True, max_new_tokens=5), model.engine.runner.run
    mine: list[bool] = []
    cut: list[int] = []

    def run(batch: Any, cache: Any) -> Any:
        mine.append(batch.token_count > 1)
        if mine[-1]:
            in_thread(generation.cancel)()
        try:
            return usual(batch, cache)
        except Cancelled:
            cut.append(batch.token_count)
            raise

    monkeypatch.setattr(model.engine.runner, "run", run)
    with pytest.raises(Cancelled):
        list(generation)
    assert (
        mine.count(True) == 1
        and cut == [16]
        and generation.sequences[0].cached == 0
        and generation.figures.finished == "cancelled"
    )
    assert "".join([*pieces, *stream]) == alone
    assert_idle(model)


def test_a_reply_is_cancelled_before_it_begins_and_the_runner_s_flag_ends_all(model: soban.Model) -> None:
    talk = soban.Dialogue(model, temperature=0)
    reply = talk.say("hi")
    reply.cancel()
    assert reply.read() == "" and reply.figures.finished == "cancelled" and reply.finished
    streams = [model.stream("a", **LONG), model.stream("b", **LONG)]
    for stream in streams:
        next(stream), next(stream)
    model.runner.cancel[0] = 1
    for stream in streams:
        with pytest.raises(Cancelled):
            list(stream)
    model.runner.cancel[0] = 0
    assert_idle(model)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (soban.UserError("memory ran out"), soban.UserError),
        (MemoryError(), MemoryError),
        (ZeroDivisionError(), (ZeroDivisionError, RuntimeError)),
    ],
    ids=["runner", "memory", "bug"],
)
def test_an_error_in_a_step_reaches_everyone_who_had_a_part_in_it_and_the_next_call_works(
    model: soban.Model, monkeypatch: pytest.MonkeyPatch, error: Exception, seen: Any
) -> None:
    alone = model.generate("a", seed=1, **LONG)
    usual, failing = model.engine.runner.run, threading.Event()

    def run(batch: Any, cache: Any) -> Any:
        if failing.is_set():
            raise error
        return usual(batch, cache)

    monkeypatch.setattr(model.engine.runner, "run", run)
    streams = [model.stream("a", seed=seed, **LONG) for seed in range(3)]
    for stream in streams:
        next(stream), next(stream)
    failing.set()
    for wait in [in_thread(lambda stream=stream: list(stream)) for stream in streams]:
        with pytest.raises(seen):
            wait()
    failing.clear()
    assert model.generate("a", seed=1, **LONG) == alone
    assert_idle(model)


def test_a_stream_that_nobody_reads_rests_and_gives_way_and_goes_on_the_same(model: soban.Model) -> None:
    options = {**LONG, "max_new_tokens": 150}
    alone = "".join(model.stream("a", seed=5, **options))
    stream = model.stream("a", seed=5, **options)
    got = [next(stream), next(stream)]
    caller = next(iter(model.shared._callers.values()))
    for seed in range(3):  # each of these needs half of the pages and more
        assert model.generate("b", seed=seed, **options) == model.generate("b", seed=seed, **options)
    assert AHEAD // 2 < len(caller.events) <= AHEAD
    assert "".join([*got, *stream]) == alone
    assert_idle(model)


def test_more_streams_than_a_step_has_rows_for_are_left_unread_and_others_are_served(
    model: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engine.scheduler, "max_outputs", 5)
    unread = [model.stream("a", seed=seed, **LONG) for seed in range(20)]
    for stream in unread:
        next(stream)
    assert len(model.generate("b", seed=1, **LONG)) > 40
    assert ["".join(stream) for stream in unread] == [
        str(model.generate("a", seed=seed, **LONG))[1:] for seed in range(20)
    ]


def test_whoever_comes_second_is_not_kept_waiting_until_the_first_has_ended(model: soban.Model) -> None:
    order: list[int] = []

    def read(number: int) -> None:
        for _ in model.stream("a", seed=number, **LONG):
            order.append(number)

    waits = [in_thread(lambda number=number: read(number)) for number in range(2)]
    for wait in waits:
        wait()
    shorter = order[: max(i for i, number in enumerate(order) if number != order[-1]) + 1]
    runs = 1 + sum(a != b for a, b in pairwise(shorter))
    assert runs > len(shorter) / 32, order  # 2 where the first is written to its end before


def test_a_stream_is_read_in_turn_by_threads_that_did_not_begin_it(model: soban.Model) -> None:
    alone = "".join(model.stream("a", seed=3, **LONG))
    stream = model.stream("a", seed=3, **LONG)
    got: list[str] = []
    while piece := in_thread(lambda: next(stream, ""))():
        got.append(piece)
    assert "".join(got) == alone


def test_garbage_that_is_collected_in_the_middle_of_a_step_waits_for_nobody(
    model: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = model.generate("a", seed=1, **LONG)
    held: list[Any] = [model.stream("b", seed=seed, **LONG) for seed in range(8)]
    for stream in held:
        next(stream)
    usual = model.engine.scheduler._work

    def work() -> Any:
        if held:
            held.pop()
        return usual()

    monkeypatch.setattr(model.engine.scheduler, "_work", work)
    del stream
    assert in_thread(lambda: model.generate("a", seed=1, **LONG))() == alone
    assert not held
    assert_idle(model)


def script(model: soban.Model, code: str) -> subprocess.CompletedProcess[str]:
    head = (
        "import _thread, os, random, sys, threading, time, soban\n"
        f"model = soban.load({str(model.loaded.path)!r})\n"
        "LONG = dict(max_new_tokens=120, temperature=1.2, raw=True)\n"
        "alone = [model.generate('a', seed=seed, **LONG) for seed in range(3)]\n"
    )
    return subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=100)


def test_ctrl_c_in_the_main_thread_ends_its_own_text_and_no_other(model: soban.Model) -> None:
    code = """
wrong, rounds = [], 40
def others(seed):
    try:
        while not done.is_set():
            if model.generate('a', seed=seed, **LONG) != alone[seed]: wrong.append(seed)
    except BaseException as error:
        wrong.append(error)
def press():
    for _ in range(rounds):
        ready.acquire(); time.sleep(random.random() * 0.02); _thread.interrupt_main()
done, ready = threading.Event(), threading.Semaphore(0)
threads = [threading.Thread(target=others, args=[seed], daemon=True) for seed in (1, 2) * int(sys.argv[1])]
threads.append(threading.Thread(target=press, daemon=True))
for thread in threads: thread.start()
pressed = 0
while pressed < rounds:
    try:
        ready.release()
        while True: model.generate('a', seed=0, **LONG)
    except KeyboardInterrupt:
        pressed += 1
done.set()
for thread in threads: thread.join(60)
assert not wrong and not any(thread.is_alive() for thread in threads), wrong
assert model.generate('a', seed=0, **LONG) == alone[0]
model.shared._tidy()
assert not model.engine.busy and not any(model.engine.blocks.users)
"""
    for others in ("0", "1"):
        got = script(model, f"sys.argv.append('{others}')\n{code}")
        assert got.returncode == 0, got.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_other_threads_write_writes_the_same(model: soban.Model) -> None:
    code = """
done = threading.Event()
def others():
    while not done.is_set(): model.generate('a', seed=1, **LONG)
thread = threading.Thread(target=others); thread.start()
for _ in range(10):
    time.sleep(random.random() * 0.01)
    child = os.fork()
    if not child:
        os._exit(0 if model.generate('a', seed=0, **LONG) == alone[0] else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set(); thread.join()
"""
    got = script(model, code)
    assert got.returncode == 0, got.stderr
