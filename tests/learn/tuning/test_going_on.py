"""A tuning that is killed or stopped goes on to the very same adapter; what would make another one of it is refused."""

import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import soban.learn

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from soban.learn.training import curve, running  # noqa: E402
from soban.learn.training.events import Event  # noqa: E402
from soban.learn.training.running import Run  # noqa: E402
from soban.learn.tuning import work  # noqa: E402
from tests.learn.training.small import Child, reaches  # noqa: E402
from tests.learn.tuning import small  # noqa: E402

FLAGS = ("--base", "q4", "--steps", "16", "--evaluate-every", "4", "--batch-size", "2")
FILES = ("adapter_model.safetensors", "adapter_config.json", "training/checkpoint.safetensors")


def saving_often(folder: Path, data: Path, out: Path, *flags: object) -> int:
    """A tuning with checkpoints after every step."""
    start, patch = work.start, pytest.MonkeyPatch()

    def with_many(*arguments: Any, **named: Any) -> tuple[Any, Run]:
        adapted, run = start(*arguments, **named)
        run.save_seconds = 0.0
        return adapted, run

    patch.setattr(work, "start", with_many)
    patch.setattr(running, "SAVE_SHARE", 0)
    return small.tune(folder, data, out, *flags)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, data, and an adapter whose tuning nobody has disturbed."""
    place = tmp_path_factory.mktemp("tuning")
    folder, data = small.model(place / "m", "gemma2"), small.pairs(place / "pairs.jsonl", 40)
    assert small.tune(folder, data, place / "undisturbed", *FLAGS) == 0
    return folder, data, place / "undisturbed"


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same(there: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, data, undisturbed = there
    out = tmp_path / "out"
    for rows, more in ((3, ()), (9, ("--resume",))):
        child = Child(saving_often, folder, data, out, *FLAGS, *more)
        reaches(out, rows, child)
        child.send(signal.SIGKILL)
        assert child.ended() == -signal.SIGKILL
    assert small.tune(folder, data, out, *FLAGS, "--resume") == 0
    assert small.losses(out) == small.losses(undisturbed)
    for name in FILES:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_stopped_it_goes_on_to_the_same(there: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, data, undisturbed = there
    out = tmp_path / "out"
    arguments: dict[str, Any] = {
        "data": data, "out": out, "model": folder, "base": "q4", "steps": 16, "evaluate_every": 4, "batch_size": 2,
        "dtype": "float32", "samples": 0,
    }  # fmt: skip
    seen: list[Event] = []
    with mock.patch.object(curve, "draw"):
        tuning = soban.learn.tune(**arguments, progress=seen.append, stop=lambda: len(seen) > 7)
        assert tuning.ended == "stopped" and 0 < tuning.steps < 16
        assert soban.learn.tune(**arguments, resume=True).ended == "finished"
    assert small.losses(out) == small.losses(undisturbed)
    for name in FILES:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_continuation_of_another_tuning_is_refused(
    there: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data, undisturbed = there
    other = small.pairs(tmp_path / "other.jsonl", 40, seed=1)
    stranger = small.model(tmp_path / "stranger", "gemma2", rms_norm_eps=1e-4)
    for model, examples, flags, words in (
        (folder, other, (), "with another data"),
        (stranger, data, (), "with another model"),
        (folder, data, ("--rank", "3"), "with rank 16, not 3"),
        (folder, data, (), "all 16 steps are taken"),
    ):
        assert small.tune(model, examples, undisturbed, *FLAGS, "--resume", *flags) == 2
        assert words in capsys.readouterr().err
    assert small.tune(folder, data, undisturbed, *FLAGS) == 2
    assert "holds a training already" in capsys.readouterr().err


def test_it_ends_early_where_nothing_becomes_better_and_keeps_the_best(
    there: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder, data, _ = there
    out = tmp_path / "out"
    flags = ("--base", "f32", "--steps", "200", "--evaluate-every", "1", "--patience", "2", "--learning-rate", "0.3")
    assert small.tune(folder, data, out, *flags) == 0
    bits = small.numbers(out, "held_out_bits_per_byte")
    assert len(bits) < 200 and bits.index(min(bits)) == len(bits) - 3
