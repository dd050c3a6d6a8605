"""`soban train`, from text to a folder, on a network small enough to learn in seconds."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from soban.errors import UserError
from soban.learn import train as training
from soban.learn.saving import CHECKPOINT, Progress
from soban.learn.train import TrainOptions

torch = pytest.importorskip("torch")

from soban.learn import saving, steps  # noqa: E402

TINY = {
    "stories": 200,
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 2,
    "key_value_heads": 1,
    "head_dim": 16,
    "context": 64,
    "window": 16,
    "batch_size": 512,
    "products": "exact",
}


def tiny(folder: Path, **changes: object) -> TrainOptions:
    return TrainOptions(**{"out": str(folder), "steps": 12, **TINY, **changes})  # type: ignore[arg-type]


def test_a_tiny_training_learns_and_its_folder_loads_in_transformers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "모형"
    training.train(tiny(folder, steps=40))
    said = capsys.readouterr()
    assert said.out == "" and "bits per byte" in said.err and "memory about" in said.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    ]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Once upon a time, there was a fox.", return_tensors="pt")["input_ids"]
    untaught = transformers.Gemma2ForCausalLM(model.config)
    with torch.no_grad():
        assert model(ids, labels=ids).loss < untaught(ids, labels=ids).loss - 1
    assert model.generation_config.eos_token_id == 1 and model.generation_config.do_sample


def losses(options: TrainOptions, progress: Progress, count: int) -> tuple[list[float], "steps.Training", Progress]:
    prepared = steps.prepare(options, training.read(options))
    if options.resume:
        progress = saving.load_checkpoint(Path(options.out), prepared.weights, prepared.state)
    taken = list(islice(steps.steps(prepared, progress), count))
    return [step.loss for step in taken], prepared, taken[-1].progress


def test_a_resumed_training_takes_the_same_steps(tmp_path: Path) -> None:
    options = tiny(tmp_path)
    whole, _, _ = losses(options, Progress(), 8)
    first, prepared, progress = losses(options, Progress(), 5)
    assert first == whole[:5]
    saving.save_checkpoint(tmp_path, prepared.weights, prepared.state, progress)
    rest, _, end = losses(dataclasses.replace(options, resume=True), Progress(), 3)
    assert rest == whole[5:]
    assert end.step == 8


@pytest.mark.skipif(sys.platform == "win32", reason="a Ctrl-C cannot be sent to one child there")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on(tmp_path: Path) -> None:
    options = dataclasses.asdict(tiny(tmp_path / "out", steps=100_000))
    program = (
        "import json, sys; from soban.learn import train; train.LINE_SECONDS = 0\n"
        "options = json.loads(sys.argv[1]); options['data'] = ()\n"
        "train.train(train.TrainOptions(**options))"
    )
    child = subprocess.Popen([sys.executable, "-c", program, json.dumps(options)], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    said = ""
    while "left" not in said:
        line = child.stderr.readline()
        assert line, said
        said += line
    child.send_signal(signal.SIGINT)
    said += child.stderr.read()
    assert child.wait(30) == 130
    assert "Traceback" not in said and "--resume goes on" in said
    assert (tmp_path / "out" / CHECKPOINT).is_file()
    with pytest.raises(UserError, match="unfinished"):
        training.train(tiny(tmp_path / "out"))
    reached = int(said.rsplit("stopped after step ", 1)[1].split(";")[0])
    training.train(tiny(tmp_path / "out", steps=reached + 2, resume=True))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_another_shape_cannot_be_resumed(tmp_path: Path) -> None:
    options = tiny(tmp_path)
    training.claim(tmp_path, options)
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(UserError, match="--hidden-size 32"):
        training.train(dataclasses.replace(options, hidden_size=64, resume=True))
    with pytest.raises(UserError, match="not a checkpoint"):
        steps.prepare(options, training.read(options))
        training.train(dataclasses.replace(options, resume=True))


def test_bad_data_leaves_no_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one document", encoding="utf-8")
    for data, said in (("nowhere.txt", "cannot be read"), (str(tmp_path / "short.txt"), "1 document is too few")):
        with pytest.raises(UserError, match=said):
            training.train(tiny(tmp_path / "out", data=(data,)))
        assert not (tmp_path / "out").exists()


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        training.train(tiny(tmp_path / "new", resume=True))


def test_a_finished_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="holds a model already"):
        training.train(tiny(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 0}, "--layers 0 is too small"),
        ({"vocab_size": 100}, "--vocab-size 100 is too small; at least 260"),
        ({"heads": 3, "key_value_heads": 2}, "3 heads cannot share 2"),
        ({"head_dim": 15}, "--head-dim 15 is odd"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"minutes": 0.0}, "--minutes 0.0"),
        ({"steps": 0}, "--steps 0 is too small"),
    ],
)
def test_impossible_options_are_refused_in_one_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        training.train(tiny(tmp_path / "out", **change))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_torch_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r'pip install "soban\[learn\]"'):
        training.train(tiny(tmp_path / "out"))


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss became nan at step 1; lower --learning-rate"):
        prepared = steps.prepare(tiny(tmp_path), training.read(tiny(tmp_path)))
        with torch.no_grad():
            prepared.weights["model.norm.weight"].fill_(torch.nan)
        next(steps.steps(prepared, Progress()))


def test_the_schedule_rises_stays_and_falls_to_zero() -> None:
    rates = [steps.schedule(share / 1000) for share in range(1001)]
    top = rates.index(1.0)
    assert rates[:top] == sorted(rates[:top]) and 0 < rates[0] < 0.1
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[-1] == 0
    assert top < 30 and rates[399] == 1


def test_bits_per_byte_of_a_net_that_knows_nothing_is_that_of_even_odds(tmp_path: Path) -> None:
    import math

    prepared = steps.prepare(tiny(tmp_path), training.read(tiny(tmp_path)))
    with torch.no_grad():
        prepared.weights["model.embed_tokens.weight"].zero_()
    predicted = len(prepared.test.tokens) - len(prepared.test)  # all but the first of each document
    expected = predicted * math.log2(prepared.config.vocab_size) / prepared.test_bytes
    assert steps.bits_per_byte(prepared) == pytest.approx(expected, rel=1e-5)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise OSError(28, os.strerror(28))

    with pytest.raises(UserError, match="cannot be written"):
        saving.whole(tmp_path / "model.safetensors", fail)
    assert not list(tmp_path.iterdir())


def test_importing_the_command_loads_no_torch() -> None:
    started = time.monotonic()
    code = "import sys, soban.learn.train; sys.exit('torch' in sys.modules or 'tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert time.monotonic() - started < 20
