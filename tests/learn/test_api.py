"""Teaching from Python: in a process and a thread of its own, by functions alone, and what they refuse."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import soban
import soban.learn
from tests.learn.training import small

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = """
import collections, logging, signal, sys, threading, traceback
import soban

logging.getLogger("soban").addHandler(logging.NullHandler())  # its notes, as of a missing library, are no output

assert not {"torch", "transformers"} & sys.modules.keys()
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
failed = []

def work():
    try:
        everything()
    except BaseException:
        failed.append(traceback.format_exc())

def everything():
    stages = set()
    data = soban.learn.prepare(
        "tales.txt", out="data", vocab_size=300, validation=0.05, similarity=2.0, personal="keep",
        progress=lambda stage, count, share: stages.add(stage),
    )
    assert data.new and data.report["kept"] > 200 and {"tokenizer", "writing", "moving"} <= stages
    assert not soban.learn.prepare(
        ["tales.txt"], out="data", vocab_size=300, validation=0.05, similarity=2.0, personal="keep"
    ).new
    import torch
    threads = torch.get_num_threads()
    events = collections.Counter()
    shape = dict(
        preset="260k", hidden_size=32, intermediate_size=48, layers=2, heads=4, key_value_heads=2, context=32,
        batch_size=6, dtype="float32", device="cpu", warmup_steps=2,
    )
    def note(event):
        assert threading.current_thread() is worker and str(event)
        events[type(event).__name__] += 1
    whole = soban.learn.train("data", "whole", steps=12, evaluate_every=6, progress=note, **shape)
    assert events["Step"] == 12 and events["Begin"] == 1 and events["Measurement"] == 2, events
    assert (whole.ended, whole.steps) == ("finished", 12) and "finished after 12 steps" in repr(whole)
    assert torch.get_num_threads() == threads and threading.active_count() <= 4
    enough = threading.Event()
    def watch(event):
        if isinstance(event, soban.learn.Step) and event.progress.step == 5:
            enough.set()
    part = soban.learn.train("data", "parts", steps=12, evaluate_every=6, progress=watch, stop=enough, **shape)
    assert (part.ended, part.steps) == ("stopped", 5), part
    part = soban.learn.train("data", "parts", resume=True, stop=lambda: part.steps == 0)
    assert (part.ended, part.steps, part.best) == ("finished", 12, whole.best), part
    for name in ("model.safetensors", "training/checkpoint.safetensors"):
        assert open(f"whole/{name}", "rb").read() == open(f"parts/{name}", "rb").read(), name
    assert soban.load(str(part.folder)).generate("Mina went", max_new_tokens=5, seed=1)

worker = threading.Thread(target=work)
worker.start()
worker.join()
assert not failed, failed[0]
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""


def test_a_program_prepares_trains_stops_and_resumes_in_a_thread_and_nothing_is_printed(tmp_path: Path) -> None:
    (tmp_path / "tales.txt").write_text(small.text(300), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", ""), run.stderr


def test_the_examples_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOBAN_LANG", "en")
    (tmp_path / "stories.txt").write_text(small.text(300), encoding="utf-8")
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "training.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "stopped 9" in shown and "finished 12" in shown and "bits per byte held out" in shown


def test_a_value_of_another_kind_is_named_and_a_flag_of_another_name_is_no_argument() -> None:
    with pytest.raises(soban.UserError, match=r"steps='10'.*int"):
        soban.learn.train("data", "model", steps="10")  # type: ignore[arg-type]
    with pytest.raises(soban.UserError, match=r"optimizer='sgd'.*adamw"):
        soban.learn.train("data", "model", optimizer="sgd")  # type: ignore[arg-type]
    with pytest.raises(soban.UserError, match="no text is named"):
        soban.learn.prepare(())
    with pytest.raises(TypeError, match="max_iters"):
        soban.learn.train("data", "model", max_iters=3)  # type: ignore[call-arg]


def test_the_flags_of_the_commands_are_the_arguments_of_the_functions() -> None:
    import inspect

    from soban.cli.data import DataOptions
    from soban.cli.train import TrainOptions

    for function, options in ((soban.learn.train, TrainOptions), (soban.learn.prepare, DataOptions)):
        fields = options.__dataclass_fields__
        arguments = inspect.signature(function).parameters
        assert arguments.keys() < fields.keys()
        usual = {name: one.default for name, one in arguments.items() if one.default is not one.empty}
        assert usual == {name: fields[name].default for name in usual}


def test_a_seed_that_is_given_is_compared_although_it_is_the_usual_one(data: Path, tmp_path: Path) -> None:
    assert small.train(data, tmp_path / "m", "--steps", "2", "--seed", "3") == 0
    with pytest.raises(soban.UserError, match="seed 3, not 0"):
        soban.learn.train(str(data), tmp_path / "m", steps=4, resume=True, seed=0)


def test_a_part_that_learns_alone_is_stopped_and_gone_on_with_beside_the_rest_of_another_model(
    data: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    assert small.train(data, tmp_path / "base", "--steps", "2") == 0
    arguments = dict(
        learns=["*.mlp.*"], init_from=tmp_path / "base", batch_size=6, dtype="float32", device="cpu", samples=False
    )  # type: ignore[var-annotated]
    whole = soban.learn.train(data, tmp_path / "whole", steps=4, warmup_steps=0, **arguments)
    steps = iter(range(9))
    part = soban.learn.train(
        data, tmp_path / "part", steps=4, warmup_steps=0, stop=lambda: next(steps) == 2, **arguments
    )
    assert (part.ended, part.steps) == ("stopped", 2)
    with pytest.raises(soban.UserError, match="name it again with --init-from"):
        soban.learn.train(data, tmp_path / "part", resume=True)
    with pytest.raises(soban.UserError, match="learns"):
        soban.learn.train(data, tmp_path / "part", resume=True, **{**arguments, "learns": ["*.self_attn.*"]})
    assert soban.learn.train(data, tmp_path / "part", resume=True, init_from=tmp_path / "base", samples=False) != whole
    base, one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "whole", "part"))
    checkpoint = load_file(tmp_path / "part" / "training" / "checkpoint.safetensors")
    assert all(".mlp." in name for name in checkpoint)
    for name, weight in base.items():
        assert (one[name] == other[name]).all() and (weight == one[name]).all() == (".mlp." not in name), name


def test_a_pattern_that_is_no_weights_name_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(soban.UserError, match="learns=lora"):
        soban.learn.train(data, tmp_path / "m", preset="260k", context=32, learns=["lora*"])
