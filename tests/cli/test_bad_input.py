"""Bad input: exit code 2, nothing on stdout, one line on stderr that says what is wrong and what to do."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from soban.cli import main
from soban.cli.crash import save_report
from tests.cli import tiny
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """English, NumPy, and no pipe on stdin."""
    monkeypatch.setenv("SOBAN_LANG", "en")
    monkeypatch.setenv("SOBAN_OPS", "reference")
    monkeypatch.setattr("soban.cli.piped._is_keyboard_or_closed", lambda: True)


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path, notes: int = 0) -> str:
    """The one line, or after so many notes the last one."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("soban: ") and err.endswith("\n") and err.count("\n") == 1 + notes
    assert "Error" not in err and "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--temperature", "-1"], ["temperature", "-1"]),
        (["--temperature", "nan"], ["temperature", "nan"]),
        (["--temperature", "inf"], ["temperature", "inf"]),
        (["--top-p", "-0.1"], ["top_p", "-0.1"]),
        (["--top-p", "1.01"], ["top_p", "1.01"]),
        (["-p", "nan"], ["top_p", "nan"]),
        (["--top-k", "-1"], ["top_k", "-1"]),
        (["--min-p", "2"], ["min_p", "2.0"]),
        (["--repetition-penalty", "0"], ["repetition_penalty", "0.0"]),
        (["--max-new-tokens", "0"], ["max_new_tokens", "0"]),
        (["--num-return-sequences", "0"], ["num_return_sequences", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--on-full", "explode"], ["on_full", "explode", "slide"]),
        (["--stop", ""], ["stop"]),
        (["-n", "2"], ["-n", "2", "3"]),
        (["-m", "chat", "--num-return-sequences", "2"], ["one answer"]),
        (["-m", "sing"], ["--mode", "sing", "generate, chat"]),
        (["--dtype", "q3"], ["--dtype", "q3", "q4"]),
        (["--top-k", "many"], ["--top-k", "many"]),
        (["--temperature", "warm"], ["--temperature", "warm"]),
        (["--top-k"], ["--top-k needs a value", "soban run --help"]),
        (["--stop", "a", "-i"], ["-i/--prompt needs a value"]),
        (["--raw=yes"], ["--raw takes no value, not yes"]),
        (["--threads", "0"], ["0", "1 to 1024"]),
        (["--context", "1"], ["context=1", "64"]),
        (["--context", "65"], ["context=65", "64"]),
        (["--temprature", "1"], ["--temprature", "did you mean --temperature?"]),
        (["--zebra"], ["--zebra", "soban run --help"]),
        (["more", "words"], ["words", "quotation marks"]),
    ],
)
def test_a_value_or_flag_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], model: Path, flags: list[str], said: list[str]
) -> None:
    line = refusal(capsys, "run", model, "abc", *flags)
    assert all(part in line for part in said), line


def test_a_prompt_is_asked_for(capsys: pytest.CaptureFixture[str], chat_model: Path) -> None:
    assert "soban chat" in refusal(capsys, "run", chat_model)
    assert "empty" in refusal(capsys, "run", chat_model, "")


def test_a_prompt_with_a_null_character_or_half_a_pair_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    assert "argument 3" in refusal(capsys, "run", model, "a\ud800b")
    assert "argument 1" in refusal(capsys, "r\udcffn")


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    line = refusal(capsys, "run", model, "x" * 100)
    assert "100" in line and "64" in line and "slide" in line


@pytest.mark.parametrize("name", ["no/such/folder", "missing.bin", "missing.safetensors", "missing.gguf", ".\\none"])
def test_a_word_that_looks_like_a_path_is_one(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert name in refusal(capsys, "run", name)
    assert name in refusal(capsys, "run", name, "abc")


@pytest.mark.parametrize("prompt", ["what is 3/4?", "옛날 옛적에", "x" * 5000, "line\nline/", "the end. and/or"])
def test_any_other_word_is_a_prompt(prompt: str) -> None:
    from soban.cli.shared import what_to_run

    assert what_to_run([prompt], None) == (None, prompt)


def test_a_known_command_that_is_misspelled_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean run?" in refusal(capsys, "rnu")
    assert "soban --help" in refusal(capsys, "xyzzy")


def broken(folder: Path, target: Path, name: str, content: bytes | None) -> Path:
    """A copy of the model in which one file has this content, or is missing."""
    shutil.copytree(folder, target)
    if content is None:
        (target / name).unlink()
    else:
        (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\x10"),
        ("model.safetensors", (1 << 60).to_bytes(8, "little") + b"{}"),
        ("model.safetensors", None),
        ("config.json", None),
        ("config.json", b""),
        ("config.json", b"[1, 2]"),
        ("tokenizer.json", None),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff\xfe"),
    ],
)
def test_a_damaged_folder_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    assert "copy" in refusal(capsys, "run", broken(model, tmp_path / "copy", name, content), "abc")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"hidden_act": "relu6"}, "relu6"),
        ({"rope_scaling": {"rope_type": "yarnish", "factor": 2.0}}, "yarnish"),
        ({"vocab_size": 100}, "100"),
        ({"num_hidden_layers": 2}, "layers.1"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8")) | change
    path = broken(model, tmp_path / "copy", "config.json", json.dumps(config).encode())
    assert said in refusal(capsys, "run", path, "abc")


@pytest.mark.parametrize("dtype", ["auto", "q8"])
def test_weights_that_are_no_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, dtype: str
) -> None:
    from safetensors.numpy import load_file, save

    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = np.full((tiny.HIDDEN, tiny.DIM), np.nan, np.float32)
    path = broken(model, tmp_path / "copy", "model.safetensors", save(tensors))
    line = refusal(capsys, "run", path, "abc", "--dtype", dtype, notes=dtype == "q8")  # that it is being packed
    assert "up_proj" in line


def test_every_truncation_of_a_llama2c_file_is_refused(
    capsys: pytest.CaptureFixture[str], llama2c_model: Path, tmp_path: Path
) -> None:
    whole = llama2c_model.read_bytes()
    shutil.copy(llama2c_model.with_name("tokenizer.bin"), tmp_path)
    for length in (0, 1, 27, 28, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.bin").write_bytes(whole[:length])
        assert "model.bin" in refusal(capsys, "run", tmp_path / "model.bin", "-i", "abc")


def test_a_llama2c_file_without_a_tokenizer_is_refused_with_the_flag_that_names_it(
    capsys: pytest.CaptureFixture[str], llama2c_model: Path, tmp_path: Path
) -> None:
    shutil.copy(llama2c_model, tmp_path)
    assert "-z" in refusal(capsys, "run", tmp_path / "model.bin", "abc")
    assert "none.bin" in refusal(capsys, "run", tmp_path / "model.bin", "abc", "-z", tmp_path / "none.bin")


def test_an_unexpected_error_is_one_line_with_a_report_and_debug_shows_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("soban.cli.run.call", fail)
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path))
    assert main(["run", "a secret", "--temperature=0.5", "--top-k", "7"]) == 1
    said = capsys.readouterr().err
    (report,) = (tmp_path / "reports").iterdir()
    assert said.startswith("soban: unexpected error: RuntimeError: two lines; ") and said.count("\n") == 1
    assert str(report) in said
    text = report.read_text(encoding="utf-8")
    assert "command run --temperature --top-k\n" in text and "in fail" in text
    assert "secret" not in text and "0.5" not in text  # what a user writes is his own
    monkeypatch.setenv("SOBAN_CACHE", str(report))  # no folder
    assert main(["run", "abc"]) == 1
    assert capsys.readouterr().err == "soban: unexpected error: RuntimeError: two lines; --debug shows where\n"
    with pytest.raises(RuntimeError):
        main(["run", "abc", "--debug"])


def test_only_the_latest_reports_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path))
    (tmp_path / "reports").mkdir()
    old = [tmp_path / "reports" / f"soban-20200101-0000{n:02}-1.txt" for n in range(25)]
    for path in old:
        path.write_text("x", encoding="utf-8")
    made = save_report(RuntimeError("x"), ["run"], ["run"])
    assert set((tmp_path / "reports").iterdir()) == {made, *old[-19:]}


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are no bytes there")
def test_bytes_that_are_not_utf_8_are_refused(process: Command, model: Path) -> None:
    done = process("run", model, b"\xff\xfe")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"argument 3" in done.stderr


@pytest.mark.parametrize("piped", [b"\xff\x00\x01", b"a\x00b"])
def test_a_pipe_that_brings_no_text_is_refused(process: Command, model: Path, piped: bytes) -> None:
    done = process("run", model, "abc", stdin=piped)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"stdin" in done.stderr


def test_a_folder_that_cannot_hold_the_packed_weights_is_named(soban: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = soban("run", model, "abc", "--dtype", "q8", SOBAN_CACHE=os.fspath(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"file" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("show", "a" * 300), ("plan", "a" * 300), ("plan", "a" * 300 + ".bin")])
def test_a_name_longer_than_a_file_can_have_is_one_line(soban: Command, words: tuple[str, ...]) -> None:
    done = soban(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.match(b"soban: (no model )?aaaa", done.stderr) and done.stderr.count(b"\n") == 1
