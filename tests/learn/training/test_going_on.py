"""A training that is killed, stopped or out of room goes on to the very same model."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import safetensors.torch  # noqa: E402

from soban.errors import UserError  # noqa: E402
from soban.learn.training import checkpoint, running, scratch  # noqa: E402
from soban.learn.training.running import Run  # noqa: E402
from tests.learn.training import small  # noqa: E402

FLAGS = ("--steps", "24", "--evaluate-every", "6", "--warmup-steps", "2")
KEPT = ("model.safetensors", "training/checkpoint.safetensors")


def saving_often(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
    """Checkpoints after every step."""
    start = scratch.start

    def with_many(*arguments: Any, **named: Any) -> Run:
        run = start(*arguments, **named)
        run.save_seconds = seconds
        return run

    monkeypatch.setattr(scratch, "start", with_many)


def weights(path: Path) -> dict[str, "torch.Tensor"]:
    return {name: tensor for name, tensor in safetensors.torch.load_file(path).items()}


def same(out: Path, undisturbed: Path) -> None:
    """The same model, bit for bit, the same memory of the optimisers, and the same table of losses."""
    assert small.losses(out) == small.losses(undisturbed)
    for name in KEPT:
        ours, theirs = weights(out / name), weights(undisturbed / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "m"
    assert small.train(data, out, *FLAGS) == 0
    return out


def killed(work: Callable[[], int], out: Path, rows: int) -> None:
    process = small.child(work)
    small.reaches(out, rows, process)
    os.kill(process, signal.SIGKILL)
    assert small.ended(process) == -signal.SIGKILL


def test_killed_again_and_again_it_comes_to_the_same(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_often(monkeypatch)
    out = tmp_path / "m"
    killed(lambda: small.train(data, out, *FLAGS), out, 3)
    for rows in (8, 11, 21):
        killed(lambda: small.train(data, out, *FLAGS, "--resume"), out, rows)
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_killed_before_the_first_checkpoint_was_due_it_goes_on_too(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    killed(lambda: small.train(data, out, *FLAGS), out, 9)  # the first measurement was written meanwhile
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


@pytest.mark.parametrize("moment", ["half written", "not in place", "in place"])
def test_killed_while_a_checkpoint_is_written_it_has_the_one_before(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    out = tmp_path / "m"
    replace, saves = os.replace, 0

    def dying(source: Any, target: Any) -> None:
        nonlocal saves
        saves += str(target).endswith(checkpoint.NAME)
        if saves == 10:
            if moment == "half written":
                os.truncate(source, 5000)
            if moment == "in place":
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def work() -> int:
        monkeypatch.setattr(os, "replace", dying)
        return small.train(data, out, *FLAGS)

    with monkeypatch.context() as patch:
        saving_often(patch)
        assert small.ended(small.child(work)) == -signal.SIGKILL
    found = checkpoint.progress_of(out / "training" / checkpoint.NAME).step
    assert 7 <= found <= 10 and found < 24
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_ctrl_c_saves_and_says_how_to_go_on(
    data: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    process = small.child(lambda: small.train(data, out, *FLAGS))
    small.reaches(out, 7, process)
    os.kill(process, signal.SIGINT)
    assert small.ended(process) == 130
    assert "--resume" in capfd.readouterr().err
    assert 6 <= checkpoint.progress_of(out / "training" / checkpoint.NAME).step < 24
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


@pytest.mark.parametrize("at", [6, 12])
def test_stopped_where_a_measurement_is_due_it_loses_none(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    out, steps = tmp_path / "m", running.optimise.update
    taken = 0

    def interrupting(*arguments: Any) -> float:
        nonlocal taken
        taken += 1
        if taken == at - 1:
            os.kill(os.getpid(), signal.SIGINT)  # which the next step sees
        return steps(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(running.optimise, "update", interrupting)
        assert small.train(data, out, *FLAGS) == 130
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_a_second_ctrl_c_leaves_at_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, update = tmp_path / "m", running.optimise.update

    def slow(*arguments: Any) -> float:
        if len(small.losses(out)) > 2:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    def work() -> int:
        monkeypatch.setattr(running.optimise, "update", slow)
        monkeypatch.setattr(checkpoint, "save", lambda *arguments: os._exit(3))
        return small.train(data, out, *FLAGS)

    assert small.ended(small.child(work)) == 130
