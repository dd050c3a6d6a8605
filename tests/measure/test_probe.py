"""Single steps of a model and what they cost: pages, counts and sums, judged by hand."""

from pathlib import Path

import numpy as np
import pytest

import soban
from soban.measure.bench import rates, timed_prefill
from soban.measure.probe import Probe
from soban.measure.work import Work, work_of
from tests.cli import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return soban.load(tiny.folder(tmp_path_factory.mktemp("models") / "tiny", context=256))


def test_filling_copies_one_page_to_all_conversations(model: soban.Model) -> None:
    probe = Probe(model, 192)
    assert probe.fill(70, sequences=2) == [range(0, 3), range(3, 6)]
    for layer in probe.cache.layers:
        assert np.any(layer.keys[0])
        for page in range(6):
            assert np.array_equal(layer.keys[page], layer.keys[0])
            assert np.array_equal(layer.values[page], layer.values[0])


def test_a_prompt_longer_than_a_step_is_read_in_pieces(model: soban.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    run = model.runner.run

    def note(batch, cache):  # type: ignore[no-untyped-def]
        seen.append((len(batch.tokens), int(batch.positions[0]), list(batch.outputs)))
        return run(batch, cache)

    monkeypatch.setattr(model.runner, "run", note)
    monkeypatch.setattr(model.runner, "max_tokens", 100)
    Probe(model, 256).prefill(230)
    assert seen == [(100, 0, []), (100, 100, []), (30, 200, [29])]


def test_decoding_takes_the_steps_it_is_told_or_three_when_the_time_is_over(model: soban.Model) -> None:
    probe = Probe(model, 256)
    assert len(probe.decode(40, 8)) == 8
    assert len(probe.decode(40, 8, sequences=3)) == 8
    assert len(probe.decode(40, 8, seconds=0.0)) == 3


def test_a_prompt_that_would_take_too_long_is_shortened(model: soban.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(model, 256)
    monkeypatch.setattr(probe, "prefill", lambda tokens: tokens * 0.2)  # five tokens a second
    tokens, taken = timed_prefill(probe, 240)
    assert tokens == 125 and taken == [25.0]  # 25 seconds' worth, once
    monkeypatch.setattr(probe, "prefill", lambda tokens: tokens * 0.03)
    assert timed_prefill(probe, 240) == (240, [pytest.approx(7.2)] * 3)


def test_weights_bytes_and_multiply_adds_are_counted(model: soban.Model) -> None:
    work = work_of(model.loaded, 100)
    body = 4 * tiny.DIM * tiny.DIM + 3 * tiny.DIM * tiny.HIDDEN
    head = model.config.vocab_size * tiny.DIM
    assert work == Work(body, 4 * body, head, 4 * head, 100)  # one layer, everything float32
    assert (work.body_bits, work.head_bits) == (32, 32)
    assert work.bytes_per_token(10) == 4 * (body + head) + 10 * 100
    assert work.multiply_adds(7) == 7 * body + head


def test_quantised_weights_have_the_bits_of_their_blocks(tmp_path: Path) -> None:
    bundled = soban.load(dtype="q8")
    work = work_of(bundled.loaded, 0)
    assert work.body_bits == work.head_bits == 8 * 4160 / 4096  # 256 bytes and a float32 scale for 256 weights


def test_rates_are_the_median_and_the_quartiles() -> None:
    assert rates([4.0, 1.0, 2.0, 3.0, 100.0]) == {"median": 3.0, "low": 2.0, "high": 4.0, "times": 5}
    assert rates([2.0]) == {"median": 2.0, "low": 2.0, "high": 2.0, "times": 1}
