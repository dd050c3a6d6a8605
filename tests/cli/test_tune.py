"""`soban tune` as a command: what it shows before it starts, and what it says to bad words."""

from pathlib import Path

import pytest

from soban.cli import main

pytest.importorskip("torch")
pytest.importorskip("peft")

from soban.base import system
from soban.learn.tuning import forecast
from tests.learn.tuning import small


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tune")
    small.model(place / "m", "llama")
    small.pairs(place / "pairs.jsonl", 20)
    return place


def tune(place: Path, *flags: str) -> int:
    return main(["tune", str(place / "m"), "--data", str(place / "pairs.jsonl"), "--out", str(place / "out"), *flags])


def test_examples_are_shown_as_tokens_with_what_is_learnt(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(place, "--show", "1") == 0
    shown, counts = capsys.readouterr().out.strip().split("\n\n")
    assert shown.startswith("<bos>·<start_of_turn>·u·s·e·r·") and shown.endswith("<end_of_turn>·⟧")
    assert counts.startswith("19 examples of ") and counts.endswith("; 1 held out")
    assert not (place / "out").exists()


def test_a_forecast_tells_time_and_memory_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(place, "--forecast", "--steps", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("3 steps of ") and "on a base of f32: about " in lines[1]
    assert lines[2].startswith("memory: ") and not (place / "out").exists()


def test_bad_words_are_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, words in (
        (("more",), "name the examples with --data"),
        (("--rank", "0"), "--rank 0 is too small"),
        (("--show", "-1"), "--show -1 is too small"),
        (("--resume",), "no checkpoint to go on from"),
        (("--base", "q4", "--dora"), "--dora on a base of q4"),
        (("--learning-rate", "0"), "--learning-rate 0.0 is not above 0"),
    ):
        assert tune(place, *flags) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line


def test_where_memory_is_short_it_steps_down_and_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tune(place, "--forecast", "--steps", "3") == 0
    capsys.readouterr()
    memory, takes = forecast.memory, []

    def counted(settings: object, sizes: object) -> int:
        takes.append(memory(settings, sizes))  # type: ignore[arg-type]
        return takes[-1]

    monkeypatch.setattr(forecast, "memory", counted)
    monkeypatch.setattr(system, "available_memory", lambda: 10**12)
    assert tune(place, "--forecast", "--steps", "3") == 0
    capsys.readouterr()
    monkeypatch.setattr(system, "available_memory", lambda: int((takes[0] - 1000) / 0.9))
    assert tune(place, "--forecast", "--steps", "3") == 0
    assert "memory is short: layers are computed again on the way back" in capsys.readouterr().out
    monkeypatch.setattr(system, "available_memory", lambda: 1000)
    assert tune(place, "--forecast") == 2
    assert "tuning this takes " in capsys.readouterr().err
