"""A training that begins with the weights of another one's model."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file

from tests.learn.training import small

STILL = ("--steps", 1, "--learning-rate", 1e-30, "--warmup-steps", 0)  # a step that moves nothing


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of twelve steps."""
    out = tmp_path_factory.mktemp("beginning") / "model"
    assert small.train(data, out, "--steps", 12) == 0
    return out


def settings(out: Path) -> dict:
    return dict(json.loads((out / "training" / "settings.json").read_text())["settings"])


def test_it_begins_where_the_other_ended(model: Path, data: Path, tmp_path: Path) -> None:
    assert small.train(data, tmp_path / "next", "--init-from", model, "--batch-size", 6, *STILL, shape=()) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "next"))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert settings(tmp_path / "next")["shape"] == settings(model)["shape"]


def test_a_head_that_is_the_embedding_once_more_is_none_and_another_one_is_refused(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(model / "model.safetensors")
    for factor, code in ((1, 0), (2, 2)):
        other = tmp_path / f"times{factor}"
        shutil.copytree(model, other)
        head = {"lm_head.weight": factor * weights["model.embed_tokens.weight"]}
        save_file({**weights, **head}, other / "model.safetensors")
        out = tmp_path / f"next{factor}"
        assert small.train(data, out, "--init-from", other, "--batch-size", 6, *STILL, shape=()) == code
    assert "not a network that soban train makes" in capsys.readouterr().err


def test_it_goes_on_by_the_same_command(model: Path, data: Path, tmp_path: Path) -> None:
    words = ("--init-from", model, "--batch-size", 6)
    assert small.train(data, tmp_path / "next", *words, "--steps", 2, shape=()) == 0
    assert small.train(data, tmp_path / "next", *words, "--steps", 4, "--resume", shape=()) == 0
    assert small.train(data, tmp_path / "next", "--steps", 5, "--resume", shape=()) == 0
    assert settings(tmp_path / "next")["steps"] == 5


def test_a_forecast_of_it_promises_no_loss(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.train(data, tmp_path / "next", "--init-from", model, "--forecast", shape=()) == 0
    rows = capsys.readouterr().out.splitlines()
    assert " - " in rows[1] and not rows[2]  # the bits; and no smaller preset beside it


def test_other_weights_cannot_be_gone_on_with(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert small.train(data, other, "--init-from", model, "--steps", 2, shape=()) == 0
    assert small.train(data, other, "--init-from", other, "--steps", 4, "--resume", shape=()) == 2
    assert "began with other weights" in capsys.readouterr().err


def test_what_cannot_be_begun_with(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*words: object) -> str:
        assert small.train(data, tmp_path / "next", *words, "--steps", 2, shape=()) == 2
        assert not (tmp_path / "next").exists()
        return capsys.readouterr().err

    assert "nowhere" in refusal("--init-from", tmp_path / "nowhere")
    assert "--layers: the model of --init-from has a shape" in refusal("--init-from", model, "--layers", 3)
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    assert "not a network that soban train makes" in refusal("--init-from", changed)
    (changed / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    assert "not a network that soban train makes" in refusal("--init-from", changed)
    (changed / "config.json").write_text(json.dumps(config))
    (changed / "tokenizer.json").write_text("{}")
    assert "its tokenizer is not that of" in refusal("--init-from", changed)
