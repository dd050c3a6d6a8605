"""`soban embed`: lines and records in, lines of JSON or an array out; what cannot be is said with its place."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.cli import main

from ..sentences import TEXTS, sentence_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = {"prompts": {"query": "query: "}}
    return sentence_model(tmp_path_factory.mktemp("models") / "m", {"pooling_mode": "mean"}, about=about)


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_become_records_with_the_library_s_vectors(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    assert main(["embed", str(folder), str(file)]) == 0
    records = lines_of(capsys.readouterr().out)
    assert [record["text"] for record in records] == TEXTS
    wanted = soban.load(folder).embed_all(TEXTS)
    np.testing.assert_allclose([record["embedding"] for record in records], wanted, atol=1e-7)


def test_records_keep_what_they_have_and_an_array_has_a_row_for_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "records.jsonl", tmp_path / "vectors.npy"
    file.write_text("".join(json.dumps({"id": i, "body": text}) + "\n" for i, text in enumerate(TEXTS)))
    flags = ["embed", str(folder), str(file), "--key", "body", "--prompt-name", "query", "--dimensions", "8"]
    assert main(flags) == 0
    records = lines_of(capsys.readouterr().out)
    assert [(record["id"], record["body"]) for record in records] == list(enumerate(TEXTS))
    assert main([*flags, "--out", str(out)]) == 0 and capsys.readouterr().out == ""
    array = np.load(out)
    assert array.dtype == np.float32 and array.shape == (len(TEXTS), 8)
    np.testing.assert_allclose([record["embedding"] for record in records], array, atol=1e-7)
    cut = soban.load(folder).embed_all(TEXTS, prompt="query")[:, :8]
    np.testing.assert_allclose(array, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    assert main([*flags, "--out", str(out)]) == 2 and "vectors.npy" in capsys.readouterr().err


def test_texts_come_from_a_pipe_and_from_a_flag(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("cat\n서울\n".encode())))
    assert main(["embed", str(folder)]) == 0
    piped = lines_of(capsys.readouterr().out)
    assert main(["embed", str(folder), "--text", "cat", "--text", "서울"]) == 0
    assert lines_of(capsys.readouterr().out) == piped and [one["text"] for one in piped] == ["cat", "서울"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no model"),
        (["MODEL", "none.txt"], "none.txt"),
        (["MODEL", "a.txt", "b.txt"], "3 words, where a model and a file are meant"),
        (["MODEL", "empty.txt"], "empty.txt: no texts in it"),
        (["MODEL", "bad.jsonl"], "bad.jsonl:2: not JSON"),
        (["MODEL", "other.jsonl"], 'other.jsonl:1: no text under "text"'),
        (["MODEL", "long.txt"], "long.txt:2: 302 tokens, where the model reads 64"),
        (["MODEL", "a.txt", "--dimensions", "33"], "--dimensions 33: the model's vectors have 32"),
        (["MODEL", "a.txt", "--dimensions", "0"], "--dimensions 0: out of range"),
        (["MODEL", "a.txt", "--out", "x.csv"], "x.csv: what is to be written?"),
        (["MODEL", "a.txt", "--pooling", "median"], "pooling=median: there are cls, max, mean"),
        (["MODEL", "a.txt", "--prompt-name", "x"], "the model has no prompt x"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "a.txt": "cat\n", "b.txt": "cat\n", "empty.txt": "\n \n", "bad.jsonl": '{"text": "a"}\n{"text": \n',
        "other.jsonl": '{"body": "a"}\n', "long.txt": "cat\n" + "cat " * 300,
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
    assert main(["embed", *(str(folder) if word == "MODEL" else word for word in words)]) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and said in streams.err and len(streams.err.splitlines()) == 1


def test_long_texts_are_cut_when_asked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "long.txt").write_text("cat " * 300)
    assert main(["embed", str(folder), str(tmp_path / "long.txt"), "--truncate"]) == 0
    (record,) = lines_of(capsys.readouterr().out)
    np.testing.assert_allclose(record["embedding"], soban.load(folder).embed("cat " * 62), atol=1e-7)


@pytest.mark.parametrize("command", [["run"], ["chat"], ["bench"], ["eval", "--perplexity", "a.txt"]], ids=str)
def test_commands_that_need_a_model_that_writes_say_what_an_encoder_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the cat sat " * 50)
    prompt = ["cat"] if command == ["run"] else []
    assert main([command[0], str(folder), *prompt, *command[1:]]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("soban: m is an encoder: it makes vectors and scores of texts"), error


def test_plan_show_and_verify_say_what_an_encoder_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(folder)]) == 0
    plan = capsys.readouterr().out
    assert "It is an encoder" in plan and "soban embed" in plan and "soban run" not in plan
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "a vector of 32 numbers: mean" in shown and "query ('query: ')" in shown and "nothing is amiss" in shown
    assert "chat template" not in shown and "shares the embedding" not in shown
    assert main(["verify", str(folder), str(folder)]) == 2
    assert "is an encoder, whose layers are not compared yet" in capsys.readouterr().err
