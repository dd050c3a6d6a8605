"""A training that is killed, stopped or out of room goes on to the very same model."""

import importlib
import json
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

from soban.learn.training import checkpoint, folder, running, scratch  # noqa: E402
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
    monkeypatch.setattr(running, "SAVE_SHARE", 0)


def training(data: Path, out: Path, *flags: object) -> small.Child:
    return small.Child(small.train, data, out, *flags)


def training_that_saves_often(data: Path, out: Path, *flags: object) -> int:
    saving_often(pytest.MonkeyPatch())
    return small.train(data, out, *flags)


def weights(path: Path) -> dict[str, "torch.Tensor"]:
    return {name: tensor for name, tensor in safetensors.torch.load_file(path).items()}


def same(out: Path, undisturbed: Path) -> None:
    """The same files of the model and of the checkpoint, and the same table of losses."""
    assert small.losses(out) == small.losses(undisturbed)
    for name in KEPT:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    half = [path for path in out.rglob("*") if path.name.startswith(folder.WORK) or path.suffix == ".part"]
    assert not half


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "m"
    assert small.train(data, out, *FLAGS) == 0
    return out


def killed(child: small.Child, out: Path, rows: int) -> None:
    small.reaches(out, rows, child)
    child.send(signal.SIGKILL)
    assert child.ended() == -signal.SIGKILL


def test_killed_again_and_again_it_comes_to_the_same(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    killed(small.Child(training_that_saves_often, data, out, *FLAGS), out, 3)
    for rows in (8, 11, 21):
        killed(small.Child(training_that_saves_often, data, out, *FLAGS, "--resume"), out, rows)
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_killed_before_the_first_checkpoint_was_due_it_goes_on_too(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    killed(training(data, out, *FLAGS), out, 9)  # the first measurement was written meanwhile
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def dying_while_it_saves(moment: str, data: Path, out: Path) -> int:
    """A training that is killed when its tenth checkpoint is half written, or not yet in place, or is."""
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

    os.replace = dying
    return training_that_saves_often(data, out, *FLAGS)


@pytest.mark.parametrize("moment", ["half written", "not in place", "in place"])
def test_killed_while_a_checkpoint_is_written_it_has_the_one_before(
    data: Path, undisturbed: Path, tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "m"
    assert small.Child(dying_while_it_saves, moment, data, out).ended() == -signal.SIGKILL
    step = checkpoint.progress_of(out / "training" / checkpoint.NAME).step
    assert 7 <= step <= 10 and step < 24
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(
    data: Path, undisturbed: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "m"
    child = training(data, out, *FLAGS)
    small.reaches(out, 7, child)
    child.send(sent)
    assert child.ended() == 128 + sent
    assert "--resume" in child.said()
    assert 6 <= checkpoint.progress_of(out / "training" / checkpoint.NAME).step < 24
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


@pytest.mark.parametrize("at", [5, 6])
def test_stopped_where_a_measurement_is_due_it_loses_none(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    out, steps = tmp_path / "m", running.optimise.update
    taken = 0

    def interrupting(*arguments: Any) -> float:
        nonlocal taken
        taken += 1
        if taken == at:
            os.kill(os.getpid(), signal.SIGINT)
        return steps(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(running.optimise, "update", interrupting)
        assert small.train(data, out, *FLAGS) == 130
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_two_trainings_never_share_a_folder(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    with folder.alone(out):
        assert small.train(data, out, *FLAGS) == 2
        assert "another training is running there" in capsys.readouterr().err
        assert small.train(data, out, *FLAGS, "--forecast") == 0  # which writes nothing
    assert small.train(data, out, *FLAGS) == 0
    same(out, undisturbed)


def impatient(data: Path, out: Path) -> int:
    """A training whose user presses Ctrl-C twice in its fourth step."""
    update = running.optimise.update

    def pressed(*arguments: Any) -> float:
        if arguments[3] == 3:
            checkpoint.save = lambda *arguments_of_it: os._exit(3)
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    running.optimise.update = pressed
    return small.train(data, out, *FLAGS)


def test_a_second_ctrl_c_leaves_at_once(data: Path, tmp_path: Path) -> None:
    assert small.Child(impatient, data, tmp_path / "m").ended() == 130


def test_a_loss_that_is_no_number_stops_it_and_a_smaller_rate_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_often(monkeypatch)
    out = tmp_path / "m"
    assert small.train(data, out, *FLAGS, "--learning-rate", "1e9") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the loss became nan at step 3" in said and "the checkpoint of step 0" in said  # 1 is ruined, if a number
    assert checkpoint.progress_of(out / "training" / checkpoint.NAME).step == 0 and "--learning-rate 2.5e+08" in said
    assert all(tensor.isfinite().all() for tensor in weights(out / KEPT[1]).values())
    assert small.train(data, out, *FLAGS, "--resume", "--learning-rate", "1e-3") == 0
    assert small.numbers(out, "loss")[-1] < 100


def test_text_held_out_that_costs_no_number_is_no_best_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "bits_per_byte", lambda *arguments: float("nan"))
    assert small.train(data, tmp_path / "m", *FLAGS) == 2
    assert "the loss became nan at step 6" in capsys.readouterr().err
    assert not (tmp_path / "m" / "config.json").exists()


def full(name: str, times: int) -> Callable[..., Any]:
    """safetensors' save_file on a disk that is full at some of the calls for files of that name."""
    count = 0
    save = safetensors.torch.save_file

    def writing(tensors: Any, target: Path, *about: Any) -> None:
        nonlocal count
        count += name in Path(target).name
        save(tensors, target, *about)
        if name in Path(target).name and count in range(2, 2 + times):
            os.truncate(target, 100)
            raise OSError(28, "No space left on device")

    return writing


@pytest.mark.parametrize("name", ["checkpoint", "model"])
def test_while_the_disk_is_full_the_last_files_stay_and_it_goes_on(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    out = tmp_path / "m"
    saving_often(monkeypatch)
    monkeypatch.setattr(safetensors.torch, "save_file", full(name, 2))
    assert small.train(data, out, *FLAGS) == 0
    said = capsys.readouterr().err
    assert said.count("not saved") == 2 and "no space left" in said and "Traceback" not in said
    same(out, undisturbed)


@pytest.mark.parametrize("name", ["checkpoint", "model"])
def test_a_disk_that_is_full_at_the_end_leaves_the_last_checkpoint(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    out = tmp_path / "m"
    with monkeypatch.context() as patch:
        saving_often(patch)
        patch.setattr(safetensors.torch, "save_file", full(name, 99))
        assert small.train(data, out, *FLAGS) == 2
    assert "no space left" in capsys.readouterr().err.splitlines()[-1]
    if name == "model":  # no step is taken again
        assert checkpoint.progress_of(out / KEPT[1]).step == 24
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def test_stopped_before_anything_is_measured_there_is_a_model_to_try(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    child = training(data, out, "--steps", "4000", "--evaluate-every", "4000")
    small.reaches(out, 2, child)
    child.send(signal.SIGINT)
    assert child.ended() == 130
    saved = checkpoint.progress_of(out / KEPT[1])
    assert saved.best is None and saved.step > 0
    ours, resumable = weights(out / KEPT[0]), weights(out / KEPT[1])
    assert all(torch.equal(ours[name], resumable["weight." + name]) for name in ours)


def test_a_continuation_obeys_a_flag_that_says_what_is_usual(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    assert small.train(data, out, "--steps", "8", "--schedule", "constant", "--seed", "3") == 0
    assert small.train(data, out, "--steps", "12", "--resume", "--seed", "0") == 2
    assert "seed 3, not 0" in capsys.readouterr().err
    assert small.train(data, out, "--steps", "12", "--resume", "--schedule", "wsd") == 0
    rates = small.numbers(out, "learning_rate")
    assert rates[0] == rates[7] > rates[8] > rates[11]  # level, then falling over the last half


def training_of_twenty_steps(data: Path, out: Path, *flags: object) -> int:
    pytest.MonkeyPatch().setattr("soban.learn.training.resolve.steps_in_time", lambda *arguments: 20)
    return small.train(data, out, *flags)


def test_the_same_minutes_on_resuming_are_the_same_steps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flags = tmp_path / "m", ("--minutes", "0.01", "--evaluate-every", "1000")
    child = small.Child(training_of_twenty_steps, data, out, *flags)
    small.reaches(out, 5, child)
    child.send(signal.SIGINT)
    assert child.ended() == 130
    monkeypatch.setattr("soban.learn.training.resolve.steps_in_time", lambda *arguments: 7)
    assert small.train(data, out, *flags, "--resume") == 0
    assert len(small.numbers(out, "loss")) == 20
    assert small.train(data, out, "--minutes", "0.02", "--resume") == 0
    assert len(small.numbers(out, "loss")) == 27


def test_a_table_of_losses_with_a_damaged_end_is_read_up_to_it(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    killed(training(data, out, *FLAGS), out, 9)
    with (out / "training" / "losses.csv").open("ab") as file:
        file.write(b"9,1,1,1,1,1,1,1,1\n9,1\n\x00\x00\xff\xfe9,")
    assert small.train(data, out, *FLAGS, "--resume") == 0
    same(out, undisturbed)


def under_nohup(data: Path, out: Path) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return small.train(data, out, *FLAGS)


def test_a_terminal_that_is_closed_saves_unless_hanging_up_is_ignored(data: Path, tmp_path: Path) -> None:
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None:
        pytest.skip("no such signal here")
    for work, code in ((small.train, 128 + hang_up), (under_nohup, 0)):
        out = tmp_path / work.__name__
        child = small.Child(work, data, out, *(FLAGS if work is small.train else ()))
        small.reaches(out, 5, child)
        child.send(hang_up)
        assert child.ended() == code


def with_small_files(data: Path, out: Path) -> int:
    resource = importlib.import_module("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # the weights alone take more
    return small.train(data, out, *FLAGS)


def test_files_that_may_not_grow_are_told_of(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    child = small.Child(with_small_files, data, tmp_path / "m")
    assert child.ended() == 2, child.said()
    assert "checkpoint.safetensors: cannot be written" in child.said() and "Traceback" not in child.said()


CHANGES = {
    "seed": (["--seed", "5"], "seed 0, not 5"),
    "heads": (["--heads", "8"], "num_attention_heads 4, not 8"),
    "depth": (["--layers", "3"], "num_hidden_layers 2, not 3"),
    "family": (["--family", "gemma2"], "family llama, not gemma2"),
    "rows": (["--batch-size", "9"], "batch_size 6, not 9"),
    "optimizer": (["--optimizer", "adamw"], "optimizer muon, not adamw"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_training_is_no_continuation(
    data: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    flags, said = CHANGES[change]
    before = (undisturbed / KEPT[1]).stat().st_mtime_ns
    assert small.train(data, undisturbed, "--steps", "30", "--resume", *flags) == 2
    assert said in capsys.readouterr().err
    assert (undisturbed / KEPT[1]).stat().st_mtime_ns == before


def test_other_data_and_another_tokenizer_are_told_apart(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tales.txt").write_text(small.text(300), encoding="utf-8")
    (tmp_path / "others.txt").write_text(small.text(300, seed=1), encoding="utf-8")
    for source, entries, what in (("others.txt", 300, "data"), ("tales.txt", 310, "tokenizer")):
        data = small.prepared(tmp_path / source, tmp_path / f"data{entries}", entries)
        assert small.train(data, undisturbed, "--steps", "30", "--resume") == 2
        assert f"other {what}" in capsys.readouterr().err


def test_a_finished_training_says_so_and_more_steps_go_on(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, undisturbed, "--resume") == 2
    assert "all 24 steps are taken" in capsys.readouterr().err
    shutil.copytree(undisturbed, tmp_path / "m")
    assert small.train(data, tmp_path / "m", "--resume", "--steps", "30") == 0
    assert [row["step"] for row in small.losses(tmp_path / "m")][-1] == "30"


def test_fewer_steps_than_are_taken_are_refused(
    data: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (undisturbed / folder.TRAINING / "settings.json").read_bytes()
    assert small.train(data, undisturbed, "--resume", "--steps", "10") == 2
    assert "--steps 10: 24 are taken already" in capsys.readouterr().err
    assert (undisturbed / folder.TRAINING / "settings.json").read_bytes() == before


def test_the_model_keeps_the_tokenizer_that_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    wanted = (mine / "tokenizer.json").read_bytes()
    start = scratch.start

    def replaced(*arguments: Any, **named: Any) -> Run:
        run = start(*arguments, **named)
        for name in folder.TOKENIZER:
            (mine / name).write_text("{}", encoding="utf-8")
        return run

    monkeypatch.setattr(scratch, "start", replaced)
    assert small.train(mine, tmp_path / "m", "--steps", "3") == 0
    assert (tmp_path / "m" / "tokenizer.json").read_bytes() == wanted
    assert '"model_max_length": 32' in (tmp_path / "m" / "tokenizer_config.json").read_text(encoding="utf-8")


def test_a_folder_with_a_training_or_a_model_is_not_written_over(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, undisturbed, *FLAGS) == 2
    assert "holds a training already" in capsys.readouterr().err
    shutil.copy(undisturbed / "config.json", tmp_path)
    assert small.train(data, tmp_path, *FLAGS) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert small.train(data, tmp_path / "none", *FLAGS, "--resume") == 2
    assert "no checkpoint to go on from" in capsys.readouterr().err


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def other_shape(path: Path) -> None:
    tensors = weights(path)
    tensors["weight.model.norm.weight"] = torch.ones(33)
    safetensors.torch.save_file(tensors, path, {"progress": PROGRESS})


def other_training(path: Path) -> None:
    safetensors.torch.save_file(weights(path), path, {"progress": PROGRESS, "training": "0" * 64})


PROGRESS = '{"step": 4, "tokens": 9, "seconds": 1.0, "best": null, "best_step": 0}'
DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": cut,
    "no checkpoint": lambda path: path.write_bytes(b"x" * 3000),
    "empty": lambda path: path.write_bytes(b""),
    "a model": lambda path: safetensors.torch.save_file({"a": torch.ones(3)}, path),
    "other shape": other_shape,
    "other training": other_training,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_checkpoint_is_refused(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    out = tmp_path / "m"
    shutil.copytree(undisturbed, out)
    DAMAGE[damage](out / KEPT[1])
    content = (out / KEPT[1]).read_bytes()
    assert small.train(data, out, "--resume", "--steps", "30") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not a checkpoint of this training" in said
    assert (out / KEPT[1]).read_bytes() == content


@pytest.mark.parametrize("content", ["", "[]", '{"settings": []}', '{"settings": {"seed": 1}}', "\0"])
def test_damaged_settings_are_refused(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    shutil.copytree(undisturbed, tmp_path / "m")
    (tmp_path / "m" / "training" / "settings.json").write_text(content, encoding="utf-8")
    assert small.train(data, tmp_path / "m", "--resume", "--steps", "30") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "settings.json" in said


def test_what_a_kill_has_left_goes_and_earlier_commands_stay(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    shutil.copytree(undisturbed, out)
    (out / ".model-abc").mkdir()
    (out / ".model-abc" / "config.json").write_text("{}", encoding="utf-8")
    (out / "training" / "checkpoint.safetensors.77.part").write_bytes(b"x")
    first = json.loads((out / "training" / "settings.json").read_text(encoding="utf-8"))
    assert first["before"] == []
    assert small.train(data, out, "--resume", "--steps", "26") == 0
    assert not list(out.glob(".model-*")) and not list(out.rglob("*.part"))
    content = json.loads((out / "training" / "settings.json").read_text(encoding="utf-8"))
    assert [before["command"] for before in content["before"]] == [first["command"]]
