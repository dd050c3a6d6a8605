"""A forecast: a probe that leaves no trace, sums that hold, and clear words where something does not fit."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from soban.base import system  # noqa: E402
from soban.base.errors import UserError  # noqa: E402
from soban.learn.data import shards  # noqa: E402
from soban.learn.data.packing import IGNORED, Batch  # noqa: E402
from soban.learn.data.shards import Shards  # noqa: E402
from soban.learn.training import (  # noqa: E402
    forecast,
    presets,
    probe,
    scratch,
    sizes,
)
from soban.learn.training.arguments import TrainArguments  # noqa: E402
from soban.learn.training.forecast import Speed  # noqa: E402
from soban.learn.training.record import read_losses  # noqa: E402
from soban.learn.training.resolve import continued, resolved  # noqa: E402
from soban.learn.training.settings import Settings  # noqa: E402
from tests.learn.training import small  # noqa: E402


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


def settings(data: Path, **changes: object) -> Settings:
    usual = {"preset": "260k", "layers": 2, "context": 32, "batch_size": 6, "steps": 10, "dtype": "float32"}
    arguments = TrainArguments(data=str(data), out="", device="cpu", **{**usual, **changes})  # type: ignore[arg-type]
    return resolved(arguments, data)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_probe_leaves_no_trace(data: Path, tmp_path: Path, optimizer: str) -> None:
    run = scratch.start(settings(data, optimizer=optimizer), data, tmp_path, evaluate_every=5)
    before = {name: weight.clone() for name, weight in run.computer.weights.items()}
    random = torch.get_rng_state()
    speed = probe.probe(run)
    assert speed.tokens > 0 and speed.update > 0
    assert all(torch.equal(before[name], weight) for name, weight in run.computer.weights.items())
    assert all(not memory.any() for memory in run.state.values())
    assert torch.equal(random, torch.get_rng_state())


def test_a_probe_is_as_long_as_its_work(data: Path) -> None:
    known = settings(data, context=64)
    assert probe.probe_rows(replace(known, batch_size=3)) == 3
    wide = replace(known, batch_size=10_000)
    assert wide.parts <= probe.probe_rows(wide) < 10_000


def test_what_a_gpu_began_goes_on_with_all_threads_of_the_pc(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    began = resolved(TrainArguments(data=str(data), out="", dtype="float32"), data)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(system, "threads", lambda: 5)
    arguments = TrainArguments(data=str(data), out="", dtype="float32")
    later = continued(arguments, resolved(arguments, data), began)
    assert (began.device, began.parts) == ("cuda", 1)
    assert (later.device, later.parts) == ("cpu", 5) and later.mark == began.mark
    monkeypatch.setattr(system, "threads", lambda: 2)
    assert continued(arguments, resolved(arguments, data), later).parts == 5  # as it was: to the same weights


def test_minutes_become_steps(data: Path) -> None:
    known = replace(settings(data), batch_size=10, accumulation=2)
    speed = Speed(tokens=640, update=0.5)
    assert speed.step_seconds(known) == pytest.approx(10 * 2 * 32 / 640 + 0.5)
    assert forecast.steps_within(known, speed, 1, 0) == 40
    assert forecast.steps_within(known, speed, 1, 15) == 30
    assert forecast.steps_within(known, speed, 1, 100) == 20
    assert forecast.steps_within(known, speed, 0.001, 0) == 1


def test_time_and_passes_are_sums_of_what_is_to_be_done(data: Path) -> None:
    known = replace(settings(data), steps=100)
    speed = Speed(tokens=1000, update=0.1)
    tokens = known.step_tokens
    held_out = Shards(data, "validation").tokens
    outlook = forecast.forecast("x", known, speed, data, 2.0, every=10, start=20)
    assert outlook.seconds == pytest.approx(80 * (tokens / 1000 + 0.1) + 8 * held_out / 3 / 1000)
    assert outlook.passes == pytest.approx(100 * tokens / Shards(data).tokens)
    assert outlook.bits[0] < 2 * forecast.ratio(sizes.parameters(known), 100 * tokens) < outlook.bits[1]


def test_more_weights_and_more_tokens_promise_a_lower_loss() -> None:
    sizes, tokens = np.array([3e5, 1e6, 5e6, 1.5e7, 1e8]), np.array([1e5, 1e6, 1e7, 1e9])
    table = np.array([[forecast.ratio(size, count) for count in tokens] for size in sizes])
    assert (np.diff(table, axis=0) < 0).all() and (np.diff(table, axis=1) < 0).all() and (table > 0).all()


def shard_folder(folder: Path, text: "np.ndarray") -> Path:
    """Data whose documents all have these ids; a byte each."""
    splits = {}
    for split, count in (("train", 100), ("validation", 10)):
        texts = [np.array([1, *np.roll(text, number), 2]) for number in range(count)]
        files = shards.write_shards(folder, split, texts, 300)
        bytes_, tokens = count * len(text), sum(map(len, texts))
        splits[split] = {"bytes": bytes_, "documents": count, "tokens": tokens, "shards": shards.shard_json(files)}
    tokenizer = {"entries": 300, "bos_token_id": 1, "eos_token_id": 2}
    manifest = {"format": shards.FORMAT, "data_hash": "x", "tokenizer": tokenizer, "splits": splits}
    shards.write_json(folder / shards.MANIFEST, manifest)
    return folder


def test_what_repeats_itself_costs_a_trigram_model_nothing(tmp_path: Path) -> None:
    assert forecast.trigram_bits(shard_folder(tmp_path, np.arange(3, 203))) < 0.3


def test_what_trigrams_leave_open_costs_them_its_entropy(tmp_path: Path) -> None:
    # 0 or 1 with equal chance, and the document's end once in a thousand: a bit each
    coins = np.random.default_rng(0).integers(3, 5, 1000)
    assert forecast.trigram_bits(shard_folder(tmp_path, coins)) == pytest.approx(1.0, abs=0.02)


class Counter:
    """Finds a bit in every token 4, and nothing else that costs anything."""

    def measure(self, batches: Iterable[Batch]) -> tuple[float, int]:
        targets = np.concatenate([batch.targets.ravel() for batch in batches])
        return float((targets == 4).sum() * np.log(2)), int((targets != IGNORED).sum())


def test_text_at_the_end_of_what_is_held_out_is_measured_too(tmp_path: Path) -> None:
    texts = [np.array([1, *np.full(48, 3 if number < 900 else 4), 2]) for number in range(1000)]
    files = shards.shard_json(shards.write_shards(tmp_path, "validation", texts, 300))
    tokenizer = {"entries": 300, "bos_token_id": 1, "eos_token_id": 2}
    splits = {"validation": {"bytes": 48_000, "documents": 1000, "tokens": 50_000, "shards": files}}
    manifest = {"format": shards.FORMAT, "data_hash": "x", "tokenizer": tokenizer, "splits": splits}
    shards.write_json(tmp_path / shards.MANIFEST, manifest)
    known = Settings("llama", presets.preset("260k"), 300, batch_size=2, steps=1, learning_rate=1.0)
    known = replace(known, shape=replace(known.shape, context=32))
    held_out = shards.Shards(tmp_path, "validation")
    assert scratch.bits_per_byte(Counter(), held_out, known, 10**6) == pytest.approx(0.1)  # type: ignore[arg-type]
    assert 0.05 < scratch.bits_per_byte(Counter(), held_out, known, 10_000) < 0.15  # type: ignore[arg-type]


def test_what_does_not_fit_into_the_memory_is_refused_before_the_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = settings(data, preset="110m", layers=None, context=None)
    needed = forecast.memory(known)
    monkeypatch.setattr(system, "available_memory", lambda: needed // 2)
    with pytest.raises(UserError, match=r"--preset (42m|15m)"):
        forecast.check_room(known, tmp_path / "m", "110m")
    monkeypatch.setattr(system, "available_memory", lambda: 2 * needed)
    forecast.check_room(known, tmp_path / "m", "110m")


def test_a_full_disk_is_told_before_the_first_step(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = settings(data)
    monkeypatch.setattr(
        "shutil.disk_usage",
        lambda path: type("Usage", (), {"free": forecast.disk(known) - 1}),  # one byte too few
    )
    with pytest.raises(UserError, match="free"):
        forecast.check_room(known, tmp_path / "not" / "there", "260k")


def test_the_memory_of_a_training_stays_below_the_forecast(data: Path, tmp_path: Path) -> None:
    known = settings(data, preset="1m", layers=None, context=256, batch_size=16)
    before = system.memory_use()
    if before is None:
        pytest.skip("this system does not tell")
    run = scratch.start(known, data, tmp_path, evaluate_every=5)
    run.computer.gradients(next(run.batches(0)))
    after = system.memory_use()
    assert after is not None
    # torch's own threads and heaps, which it keeps whatever the network
    assert after.anonymous - before.anonymous < forecast.memory(known) + 150e6


def test_the_command_tells_of_smaller_presets_and_trains_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, tmp_path / "m", "--forecast", shape=("--preset", "3m", "--context", "64")) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows[:4]] == ["preset", "as", "1m", "260k"]
    assert max(map(len, out.splitlines())) <= 80 and err == ""
    assert not (tmp_path / "m").exists()


def test_minutes_are_taken_for_steps_and_not_beside_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, tmp_path / "m", "--minutes", "0.001") == 0
    assert len(read_losses(tmp_path / "m" / "training" / "losses.csv")) >= 1
    for flags, word in ((["--minutes", "1", "--steps", "3"], "--steps"), (["--minutes", "0"], "above 0")):
        assert small.train(data, tmp_path / "n", *flags) == 2
        assert word in capsys.readouterr().err
