"""`soban eval` as a user sees it: figures on stdout, one clear line for what is wrong."""

import json
from pathlib import Path

import pytest

from .conftest import Command

TEXT = "Once upon a time there was a hen. " * 3


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "글.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_table_goes_to_stdout(soban: Command, model: Path, text: Path) -> None:
    done = soban("eval", model, "--perplexity", text)
    assert done.returncode == 0 and done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["perplexity", "bits per byte", "tokens"]


def test_json_holds_the_figures_against_another_dtype(soban: Command, model: Path, text: Path) -> None:
    done = soban("eval", model, "--perplexity", text, "--kl", "f32", "--dtype", "q8", "--json")
    found = json.loads(done.stdout)
    against = found["against_reference"]
    assert found["dtype"] == "q8" and found["bytes"] == len(TEXT) and found["tokens"] == len(TEXT) - 1
    assert 0 < against["divergence"]["mean"] < 0.1 and 0.9 < against["agreement"]["mean"] <= 1
    assert found["perplexity"]["mean"] / (1 + against["perplexity_above"]["mean"]) == pytest.approx(
        2.718281828 ** against["loss"]["mean"]
    )


@pytest.mark.parametrize("encoding", ["cp949", "utf-16", "utf-8-sig"])
def test_every_encoding_gives_the_same_figures(soban: Command, model: Path, tmp_path: Path, encoding: str) -> None:
    outputs = []
    for name in ("utf-8", encoding):
        (tmp_path / name).write_bytes("옛날 옛적에 암탉이 살았어요.\n".encode(name))
        outputs.append(soban("eval", model, "--perplexity", tmp_path / name).stdout)
    assert outputs[0] == outputs[1] != b""


def test_another_model_may_be_the_reference(soban: Command, model: Path, chat_model: Path, text: Path) -> None:
    done = soban("eval", model, "--perplexity", text, "--kl", chat_model, "--json")
    assert json.loads(done.stdout)["against_reference"]["divergence"]["mean"] == 0  # the same weights


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "there is no text"),
        (["--perplexity", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--perplexity", "{empty}"], "the file is empty"),
        (["--perplexity", "{binary}"], "not text in UTF-8"),
        (["--perplexity", "{short}"], "too short to measure with"),
        (["--perplexity", "{text}", "--kl", "f31"], "--kl f31: neither a dtype nor a file or folder"),
        (["--perplexity", "{text}", "--kl", "{llama2c}"], "its vocabulary is another"),
        (["--perplexity", "{text}", "--stride", "64"], "--stride 64: a window has 64 tokens"),
        (["--perplexity", "{text}", "--context", "65"], "context=65"),
        (["--perplexity", "{text}", "--context", "1"], "--context 1 is too small"),
        (["second", "--perplexity", "{text}"], "this is too much: second"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    soban: Command, model: Path, llama2c_model: Path, text: Path, tmp_path: Path, words: list[str], wanted: str
) -> None:
    for name, content in (("empty", b" \n"), ("binary", b"\xff\x00\x81"), ("short", b"a")):
        (tmp_path / name).write_bytes(content)
    places = {"text": text, "llama2c": llama2c_model} | {n: tmp_path / n for n in ("empty", "binary", "short")}
    done = soban("eval", model, *(word.format(**places) for word in words))
    assert done.returncode == 2 and done.stdout == b""
    assert wanted in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_the_help_has_examples(soban: Command) -> None:
    told = soban("eval", "--help").stdout.decode()
    assert "--perplexity TEXT" in told and "--kl REFERENCE" in told and "soban eval path/to/model" in told
