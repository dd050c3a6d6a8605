"""What `soban train` cannot do is told in one line, before anything is written."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from soban.cli import main
from tests.learn.training import small


def refusal(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *flags: str) -> str:
    """The one line."""
    before = sorted(out.rglob("*")) if out.exists() else []
    assert main(["train", "--data", str(data), "--out", str(out), "--device", "cpu", *flags]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("soban: ") and output.err.count("\n") == 1, output.err
    assert "Traceback" not in output.err and "unexpected" not in output.err
    assert (sorted(out.rglob("*")) if out.exists() else []) == before
    return output.err


def test_without_torch_the_extra_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refusal(capsys, data, tmp_path / "m")
    assert "torch" in said and 'pip install "soban[learn]"' in said


pytest.importorskip("torch")
pytest.importorskip("transformers")

VALUES = [
    (["--steps", "0"], "--steps 0"),
    (["--steps", "-3"], "--steps -3"),
    (["--batch-size", "0"], "--batch-size 0"),
    (["--gradient-accumulation-steps", "0"], "--gradient-accumulation-steps 0"),
    (["--context", "1"], "--context 1"),
    (["--context", "0"], "--context 0"),
    (["--layers", "0"], "--layers 0"),
    (["--heads", "0"], "--heads 0"),
    (["--key-value-heads", "0"], "--key-value-heads 0"),
    (["--hidden-size", "-8"], "--hidden-size -8"),
    (["--seed", "-1"], "--seed -1"),
    (["--evaluate-every", "-1"], "--evaluate-every -1"),
    (["--heads", "5"], "5 heads"),
    (["--key-value-heads", "3"], "3 key-value heads"),
    (["--hidden-size", "24", "--heads", "8"], "width 3"),
    (["--learning-rate", "0"], "--learning-rate 0"),
    (["--learning-rate", "nan"], "--learning-rate nan"),
    (["--learning-rate", "fast"], "--learning-rate"),
    (["--beta2", "1"], "--beta2 1"),
    (["--weight-decay", "-1"], "--weight-decay -1"),
    (["--optimizer", "sgd"], "sgd"),
    (["--seed", str(2**64)], f"--seed {2**64} is too large"),
    (["--warmup-steps", "9", "--steps", "9"], "--warmup-steps 9 of 9 steps"),
    (["--window", "4"], "--window says nothing without --family gemma2"),
    (["--decay", "0.5", "--schedule", "cosine"], "--decay says nothing without --schedule wsd"),
    (["--prompt", "Once", "--no-samples"], "--prompt says nothing without --samples"),
    (["--preset", "7b"], "7b"),
    (
        ["--context", "30000", "--preset", "260k", "--layers", "1", "--heads", "1", "--key-value-heads", "1"],
        "no row of",
    ),
    (["--hidden-size", "65536", "--intermediate-size", "65536"], "memory"),
]


@pytest.mark.parametrize(("flags", "said"), VALUES)
def test_a_value_that_cannot_be_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert said in refusal(capsys, data, tmp_path / "m", *flags)


def test_rows_longer_than_the_data_are_told_of(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soban.learn.training.forecast.check_room", lambda *arguments: None)  # whatever is free here
    assert "make no row of 90000" in refusal(capsys, data, tmp_path / "m", "--preset", "260k", "--context", "90000")


def folder_of_text(path: Path, data: Path) -> None:
    path.mkdir()
    (path / "tale.txt").write_text("Once upon a time", encoding="utf-8")


def without(*names: str) -> Callable[[Path, Path], None]:
    def damage(path: Path, data: Path) -> None:
        shutil.copytree(data, path)
        for name in names:
            (path / name).unlink()

    return damage


def manifest(**changes: object) -> Callable[[Path, Path], None]:
    def damage(path: Path, data: Path) -> None:
        shutil.copytree(data, path)
        content = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        content |= changes
        (path / "manifest.json").write_text(
            json.dumps({name: value for name, value in content.items() if value is not None}), encoding="utf-8"
        )

    return damage


def other_ids(path: Path, data: Path) -> None:
    shutil.copytree(data, path)
    name = path / "train" / "00000.npy"
    ids = np.load(name)
    ids[5] = 60_000
    np.save(name, ids)


def cut_off(path: Path, data: Path) -> None:
    shutil.copytree(data, path)
    os.truncate(path / "train" / "00000.npy", 1000)


def other_tokenizer(path: Path, data: Path) -> None:
    shutil.copytree(data, path)
    with (path / "tokenizer.json").open("a", encoding="utf-8") as file:
        file.write(" ")


def nothing_held_out(path: Path, data: Path) -> None:
    shutil.copytree(data, path)
    content = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    content["splits"]["validation"] |= {"documents": 0, "tokens": 0, "bytes": 0, "shards": []}
    (path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")


DATA: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "not there": (lambda path, data: None, "no prepared data"),
    "an empty folder": (lambda path, data: path.mkdir(), "no prepared data"),
    "raw text": (folder_of_text, "soban data YOUR-TEXTS"),
    "a file": (lambda path, data: path.write_text("Once upon a time", encoding="utf-8"), "no prepared data"),
    "no shard": (without("train/00000.npy"), "00000.npy"),
    "no index": (without("train/00000.starts.npy"), "00000"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer.json"),
    "no tokenizer's settings": (without("tokenizer_config.json"), "tokenizer_config.json"),
    "a manifest of nothing": (manifest(splits={}), "manifest.json"),
    "a manifest without splits": (manifest(splits=None), "manifest.json"),
    "a manifest without a tokenizer": (manifest(tokenizer=None), "manifest.json"),
    "a manifest without a hash": (manifest(data_hash=None), "manifest.json"),
    "another format": (manifest(format="soban-data 9"), "soban-data 9"),
    "other ids": (other_ids, "00000.npy"),
    "a shard cut off": (cut_off, "00000.npy"),
    "another tokenizer": (other_tokenizer, "tokenizer.json"),
    "nothing held out": (nothing_held_out, "held out"),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_is_missing_or_damaged_is_told_as_such(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    make, said = DATA[kind]
    make(tmp_path / "d", data)
    assert said in refusal(capsys, tmp_path / "d", tmp_path / "m", "--preset", "260k", "--context", "32")


def test_text_held_out_that_fills_no_row_is_measured(data: Path, tmp_path: Path) -> None:
    long = ("--context", "1500", "--batch-size", "1")
    assert small.train(data, tmp_path / "m", "--steps", "1", *long) == 0
    assert small.numbers(tmp_path / "m", "held_out_bits_per_byte")


def test_a_context_beyond_the_presets_is_the_models_own(data: Path, tmp_path: Path) -> None:
    assert small.train(data, tmp_path / "m", "--steps", "1", "--context", "700", "--batch-size", "1") == 0
    assert json.loads((tmp_path / "m" / "config.json").read_text())["max_position_embeddings"] == 700


def test_an_out_that_cannot_be_is_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    flags = ("--preset", "260k", "--context", "32")
    assert "not a folder" in refusal(capsys, data, tmp_path / "file", *flags)
    assert "cannot be made" in refusal(capsys, data, tmp_path / "file" / "m", *flags)
    copy = tmp_path / "d"
    shutil.copytree(data, copy)
    before = sorted(copy.rglob("*"))
    for out in (copy, copy / "m", tmp_path / "m" / ".." / "d"):
        assert "the folder of the data" in refusal(capsys, copy, out, *flags)
    assert sorted(copy.rglob("*")) == before


def test_a_folder_that_may_not_be_written_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "cannot be made" in refusal(capsys, data, tmp_path / "m", "--preset", "260k", "--context", "32")


def test_a_gpu_that_is_not_there_is_told_of(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "m"), "--device", "cuda"]) == 2
    assert "torch finds no GPU" in capsys.readouterr().err
