"""Nonsense in a model's files: one clear line each, and nothing that a terminal would obey."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from soban.cli import main

from .. import tiny

OBEYED = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
EVIL = "a\0b\x1b[2Jc\x9bd\u202ee\nf"


def changed(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "head_dim"])
@pytest.mark.parametrize("value", [-64, 0, "64", 2.5, True, 10**30])
def test_a_size_that_is_none_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    folder = tiny.make_model(tmp_path / "model")
    changed(folder, "config.json", **{key: value})
    assert main(["show", str(folder)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and told.err.count("config.json") == 1
    assert f"{key} is {value!r}, where a whole number above 0 belongs" in told.err


def test_a_files_name_stands_once_and_a_token_without_text_is_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.make_model(tmp_path / "model")
    changed(folder, "config.json", hidden_activation="relu9")
    assert main(["show", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "config.json: config.json" not in told and "! config.json: hidden_activation=relu9" in told
    folder = tiny.make_model(tmp_path / "other")
    (folder / "tokenizer.json").unlink()
    assert main(["show", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "None" not in told and re.search("ends at +1 5$", told, re.MULTILINE)


@pytest.mark.parametrize("command", ["show", "plan", "run"])
@pytest.mark.parametrize(
    "values",
    [{"model_type": EVIL, "architectures": [EVIL]}, {"hidden_activation": EVIL}, {"torch_dtype": EVIL, EVIL: EVIL}],
)
def test_a_configs_text_is_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, values: dict[str, Any]
) -> None:
    folder = tiny.make_model(tmp_path / "model")
    changed(folder, "config.json", **values)
    main([command, str(folder)] if command != "run" else [command, str(folder), "x", "-n", "1"])
    told = capsys.readouterr()
    assert not OBEYED.search(told.out + told.err)
    if "torch_dtype" not in values:
        assert r"a\x00b\x1b[2J" in told.out + told.err


@pytest.mark.parametrize(
    "broken",
    [
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        "{a: 1}",
        '{"a": }',
        "{} x",
        '{"a": "b',
        '{"a": "\t"}',
        '{"a": "\\q"}',
        "[]",
        "\xff",
    ],
)
def test_what_is_wrong_with_json_is_said_in_korean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    for name in ("config.json", "tokenizer_config.json"):
        folder = tiny.make_model(tmp_path / name)
        (folder / name).write_bytes(broken.encode("latin-1"))
        assert main(["run", str(folder), "x", "-n", "1"]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        words = told.replace(str(folder / name), "").replace("JSON", "").replace("UTF-8", "")
        assert not re.search("[A-Za-z]{2}", words.removeprefix("soban: ")), told


def test_what_a_config_may_say_is_told_in_korean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    folder = tiny.make_model(tmp_path / "model")
    changed(folder, "config.json", num_hidden_layers=-1)
    assert main(["run", str(folder), "x", "-n", "1"]) == 2
    told = capsys.readouterr().err
    assert "0보다 큰 정수" in told and "integer" not in told


def test_the_terms_of_a_models_data_are_told_in_korean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    assert main(["show", "koalpaca:12.8b"]) == 0
    assert "네이버 지식iN" in capsys.readouterr().out


def test_a_templates_own_words_are_set_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.make_model(tmp_path / "model", chat=True)
    changed(folder, "tokenizer_config.json", chat_template="{{ messages[0].content + 1 }}")
    assert main(["run", str(folder), "x", "--max-new-tokens", "1"]) == 2
    assert re.search(r'fails on this conversation: "[^"]+"', capsys.readouterr().err)
