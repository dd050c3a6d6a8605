"""`--dtype auto` takes what this machine is fastest with: measured once, remembered, never trusted blindly."""

import json
from pathlib import Path

import pytest

import soban
from soban.base import system
from soban.base.system import cache_folder
from soban.loading import loaded
from soban.models import architecture
from soban.ops import native
from soban.resources import memory, speed
from soban.resources.speed import Speed
from soban.weights.opening import open_checkpoint

from ..tiny import make_model

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs the native library")


class Clock:
    """Stands in for the measurement: the speed of each format, and which were asked for."""

    def __init__(self, **formats: tuple[float, float]) -> None:
        self.formats = formats
        self.asked: list[str] = []

    def __call__(self, matrices: speed.Shapes) -> Speed:
        (format,) = {format for _, _, format in matrices if format != "q8"} or {"q8"}
        self.asked.append(format)
        return Speed(*self.formats[format])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loaded, "TINY", 1000)
    return make_model(tmp_path / "model")


def kind(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(speed, "measure", clock)
    return soban.load(folder).loaded.dtype


def test_the_faster_kind_is_taken_and_the_verdict_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(q8=(1.0, 1.0), f32=(3.0, 1.0))
    assert kind(folder, clock, monkeypatch) == "q8" and sorted(clock.asked) == ["f32", "q8"]
    assert kind(folder, clock, monkeypatch) == "q8" and len(clock.asked) == 2


@pytest.mark.parametrize(
    ("q8", "taken"),
    [((1.0, 1.0), "q8"), ((1.0, 3.0), "f32"), ((2.4, 1.0), "q8"), ((2.9, 0.1), "f32"), ((4.0, 0.1), "f32")],
    ids=str,
)
def test_a_small_model_is_rounded_only_where_that_is_worth_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, q8: tuple, taken: str
) -> None:
    assert kind(folder, Clock(q8=q8, f32=(3.0, 2.0)), monkeypatch) == taken


def test_a_large_model_is_rounded_unless_that_is_slower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "SMALL", 2000)
    assert kind(folder, Clock(q8=(1.0, 1.0), f32=(1.0, 1.0)), monkeypatch) == "q8"
    (cache_folder() / "speeds.json").unlink()
    assert kind(folder, Clock(q8=(1.2, 1.0), f32=(1.0, 1.0)), monkeypatch) == "f32"


def test_what_does_not_fit_in_memory_is_not_asked_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(q8=(9.0, 9.0), f32=(1.0, 1.0))
    exact = open_checkpoint(folder)
    takes = memory.needs(architecture(exact.config), exact, "f32", 128)
    monkeypatch.setattr(system, "available_memory", lambda: takes.total - 1)
    assert kind(folder, clock, monkeypatch) == "q8" and not clock.asked


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", None], ids=str)
def test_a_damaged_file_is_measured_anew_and_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    clock = Clock(q8=(1.0, 1.0), f32=(3.0, 1.0))
    kind(folder, clock, monkeypatch)
    path = cache_folder() / "speeds.json"
    whole = path.read_text(encoding="utf-8")
    path.write_bytes(whole.replace("1.0", "NaN").encode() if damage is None else damage)
    assert kind(folder, clock, monkeypatch) == "q8" and len(clock.asked) > 2
    assert path.read_text(encoding="utf-8") == whole and [p.name for p in path.parent.glob("*.tmp")] == []


def test_another_instruction_set_or_number_of_threads_is_another_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(q8=(1.0, 1.0), f32=(3.0, 1.0))
    kind(folder, clock, monkeypatch)
    monkeypatch.setenv("SOBAN_THREADS", "3")
    kind(folder, clock, monkeypatch)
    monkeypatch.setenv("SOBAN_ISA", "scalar")
    kind(folder, clock, monkeypatch)
    assert len(clock.asked) == 6
    assert len(json.loads((cache_folder() / "speeds.json").read_text(encoding="utf-8"))) == 6


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(q8=(9.0, 9.0), f32=(3.0, 1.0))
    (folder.parent / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("SOBAN_CACHE", str(folder.parent / "file" / "cache"))
    assert kind(folder, clock, monkeypatch) == "f32" and kind(folder, clock, monkeypatch) == "f32"
    assert len(clock.asked) == 4


def test_a_measurement_is_short_and_finds_times(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    made = architecture(checkpoint.config)
    for name in ("f32", "bf16", "q8", "q4"):
        matrices = speed.trial_matrices(made, checkpoint, name)
        # two layers of 3 + 1 + 3 matrices, and half of the head with each
        wanted = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 128 + 132 * 64)
        assert sum(rows * columns for rows, columns, _ in matrices) == wanted
        found = speed.measure(matrices)
        assert 0 < found.decode < 1 and 0 < found.prefill < 1


def test_a_tiny_model_stays_as_it_is_and_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    clock = Clock()
    assert kind(make_model(tmp_path / "model"), clock, monkeypatch) == "f32" and not clock.asked
