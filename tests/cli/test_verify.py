"""`soban verify` as a user sees it: the verdict in the first line, an exit code, one clear line for what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from soban.convert.gguf import to_gguf
from soban.convert.source import open_source

from .conftest import Command, text


@pytest.fixture(scope="module")
def rounded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "작은.gguf"
    to_gguf(open_source(model), path, "f16", tokenizer=None)
    return path


def test_the_verdict_comes_first(soban: Command, model: Path, rounded: Path) -> None:
    lines = text(soban("verify", model, model)).splitlines()
    assert lines[:2] == ["the same weights", ""]
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "tensors", "layers", "worst layer", "text", "KL divergence", "same first choice", "tokenizer", "chat template",
    ]  # fmt: skip
    done = soban("verify", model, rounded)
    first = text(done).splitlines()[0]
    assert first.startswith("the same model, rounded differently: KL ") and first.endswith(" % of first choices")
    assert done.stderr == b""


def test_what_differs_ends_with_1(soban: Command, model: Path, chat_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "m")
    config = json.loads((other / "config.json").read_text(encoding="utf-8")) | {"rms_norm_eps": 0.1}
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lines = text(soban("verify", model, other), 1).splitlines()
    assert lines[0] == "different models from layer 0 on"
    assert lines[-1].split("  ")[0] == "rms_norm_eps" and lines[-1].endswith("1e-05 and 0.1")
    assert "only the second has one" in text(soban("verify", model, chat_model))


def test_another_family_is_one_line_and_little_more(soban: Command, model: Path) -> None:
    lines = text(soban("verify", model, Path("src/soban/assets/bundled").resolve()), 1).splitlines()
    assert lines[0].startswith("different models: ")


def test_json_has_the_verdict_and_what_differs(soban: Command, model: Path, rounded: Path, tmp_path: Path) -> None:
    (tmp_path / "글.txt").write_text("Once upon a time. 옛날 옛적에", encoding="utf-8")
    found = json.loads(text(soban("verify", model, rounded, "--text", tmp_path / "글.txt", "--json")))
    assert found["verdict"] == "rounded" and found["line"].startswith("the same model, rounded")
    assert found["run"]["tokens"] == len("Once upon a time. 옛날 옛적에".encode())
    assert [layer["layer"] for layer in found["run"]["layers"]] == [-1, 0, 1]
    assert {one["name"] for one in found["tensors"]} >= {found["first"]["name"], found["worst"]["name"]}
    assert found["same_tensors"] + len(found["tensors"]) == 12 and found["tokenizers"]["text"] is None


def test_a_bin_takes_the_tokenizer_that_is_named(soban: Command, llama2c_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "model.bin"
    other.parent.mkdir()
    shutil.copy(llama2c_model, other)
    assert "tokenizer.bin beside it" in soban("verify", llama2c_model, other).stderr.decode()
    words = ("-z", llama2c_model.with_name("tokenizer.bin"))
    assert text(soban("verify", llama2c_model, other, *words)).startswith("the same weights\n")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "two models are compared, and 0 was named"),
        (["{model}"], "two models are compared, and 1 was named"),
        (["{model}", "{model}", "third"], "this is too much: third"),
        (["{model}", "./nowhere"], "nowhere"),
        (["{model}", "{model}", "--tokens", "1"], "--tokens 1 is too small"),
        (["{model}", "{model}", "--text", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["{model}", "{model}", "--text", "{short}"], "less than two tokens"),
        (["{model}", "{short}"], "short"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    soban: Command, model: Path, tmp_path: Path, words: list[str], wanted: str
) -> None:
    (tmp_path / "short").write_bytes(b"a")
    done = soban("verify", *(word.format(model=model, short=tmp_path / "short") for word in words))
    assert done.returncode == 2 and done.stdout == b""
    assert wanted in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_the_help_has_examples(soban: Command) -> None:
    told = soban("verify", "--help").stdout.decode()
    assert "MODEL OTHER" in told and "--text FILE" in told and "soban verify path/to/model" in told
