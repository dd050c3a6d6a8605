"""`soban convert` as a user sees it: files that can be used, notes on stderr, one clear line for what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soban.cli import convert
from tests.convert import small
from tests.tiny import make_model

from .conftest import Command, environment


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return small.folder(tmp_path / "작은 라마")


def test_a_folder_becomes_a_bin_that_soban_runs_and_comes_back(soban: Command, llama: Path, tmp_path: Path) -> None:
    prompt = ["hello and the", "--greedy", "--max-new-tokens", "12"]
    texts = [soban("run", llama, *prompt).stdout]
    for format in ("v0", "v1"):
        done = soban("convert", llama, tmp_path / f"{format}.bin", "--format", format)
        assert done.returncode == 0 and done.stdout == b""
        assert f"wrote {tmp_path / format}.bin (0.1 MB)" in done.stderr.decode()
        texts.append(soban("run", tmp_path / f"{format}.bin", *prompt).stdout)
    assert soban("convert", tmp_path / "v0.bin", tmp_path / "back").returncode == 0
    texts.append(soban("run", tmp_path / "back", *prompt).stdout)
    assert len(texts[0]) > 20 and set(texts) == {texts[0]}


def test_the_format_is_v0_and_the_tokenizer_lies_beside_it(soban: Command, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    soban("convert", llama, tmp_path / "out" / "a.bin")
    soban("convert", llama, tmp_path / "out" / "b.bin", "--tokenizer-out", tmp_path / "words.bin")
    soban("convert", llama, tmp_path / "out" / "c.BIN", "--weights-only", "--format", "v2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.bin", "b.bin", "c.BIN", "tokenizer.bin"]
    assert (tmp_path / "words.bin").read_bytes() == (tmp_path / "out" / "tokenizer.bin").read_bytes()
    assert small.read_bin((tmp_path / "out" / "a.bin").read_bytes())[0]["version"] == 0
    assert small.read_bin((tmp_path / "out" / "c.BIN").read_bytes())[0]["version"] == 2


def test_another_dtype_is_another_folder(soban: Command, llama: Path, tmp_path: Path) -> None:
    done = soban("convert", llama, tmp_path / "half", "--dtype", "bf16")
    assert done.returncode == 0
    assert json.loads((tmp_path / "half" / "config.json").read_text(encoding="utf-8"))["torch_dtype"] == "bfloat16"
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (llama, tmp_path / "half")]
    assert 1.9 < sizes[0] / sizes[1] < 2.1


def test_the_bundled_model_alone_becomes_a_folder(soban: Command, tmp_path: Path) -> None:
    assert soban("convert", tmp_path / "stories").returncode == 0
    names = {path.name for path in (tmp_path / "stories").iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "no model and no place for it"),
        (["{llama}"], "no word of where it goes"),
        (["gemma2:2b"], "gemma2:2b: no word of where it goes"),
        (["{llama}", "{out}", "third"], "this is too much: third"),
        (["{llama}", "{out}"], "a Hugging Face folder already; say what is to change: --dtype bf16"),
        (["{llama}", "{out}", "--format", "v1"], "give OUT a name that ends in .bin"),
        (["{llama}", "{out}.bin", "--dtype", "bf16"], "--dtype bf16 is for folders"),
        (["{llama}", "{out}.bin", "--format", "v3"], "--format v3 is not known; choose among v0, v1, v2"),
        (["{llama}", "{out}.bin", "-z", "t.bin"], "-z t.bin is for .bin models"),
        (["{llama}", "{llama}", "--dtype", "bf16"], "exists already; nothing is written over it"),
        (["{llama}", "{out}/no/folder.bin"], "there is no such folder; make it first"),
        (["{nowhere}", "{out}.bin"], "no such file or folder"),
        (["{gemma}", "{out}.bin"], "model_type=gemma2 has no place in a llama2.c .bin"),
        (["{bin}", "{out}"], "no tokenizer.bin beside it; name the model's tokenizer file with -z"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    soban: Command, llama: Path, llama2c_model: Path, tmp_path: Path, words: list[str], wanted: str
) -> None:
    gemma = make_model(tmp_path / "gemma")
    alone = tmp_path / "alone" / "model.bin"
    alone.parent.mkdir()
    alone.write_bytes(llama2c_model.read_bytes())
    places = {"llama": llama, "out": tmp_path / "out", "nowhere": tmp_path / "없음", "gemma": gemma, "bin": alone}
    done = soban("convert", *(word.format(**places) for word in words))
    told = done.stderr.decode()
    assert done.returncode == 2 and done.stdout == b"" and wanted in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.bin").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
@pytest.mark.parametrize("name", ["big.bin", "big"])
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    folder = small.folder(tmp_path / "m", vocab_size=300_000, hidden_size=128)
    (tmp_path / "out").mkdir()
    words = [sys.executable, "-m", "soban", "convert", folder, tmp_path / "out" / name, "--weights-only"]
    words += ["--format", "v2"] if name.endswith(".bin") else ["--dtype", "bf16"]
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "out").iterdir()) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in told
    assert not list((tmp_path / "out").iterdir())


def test_the_help_has_examples(soban: Command) -> None:
    told = soban("convert", "--help").stdout.decode()
    assert "[MODEL] OUT" in told and "--format v0|v1|v2" in told and "soban convert path/to/model model.bin" in told


def test_every_example_of_the_help_names_a_place_for_the_model() -> None:
    for line in convert.EXAMPLES.splitlines():
        words = line.removeprefix("  soban convert ").split("  ")[0].split(" --")[0].split()
        assert convert._places(convert.ConvertOptions(tuple(words))) == (
            words[0] if len(words) > 1 else None, Path(words[-1]),
        )  # fmt: skip


def test_an_adapter_becomes_a_gguf_file_of_the_model_that_it_names_or_of_another(
    soban: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    from tests.convert.test_adapter import model

    folder, _, written = model(tmp_path, "llama")
    monkeypatch.chdir(tmp_path)
    done = soban("convert", folder / "adapter", "c.gguf", "--base", folder)
    assert done.returncode == 0 and (tmp_path / "c.gguf").read_bytes().endswith(written.read_bytes()[-64:])
    words = ("run", folder, "ab", "--greedy", "-q", "--max-new-tokens", "12", "--dtype", "f32", "--adapter")
    assert soban(*words, "c.gguf").stdout == soban(*words, folder / "adapter").stdout != soban(*words[:-1]).stdout
    for extra, said in ((("d.bin",), "becomes a GGUF file"), (("d.gguf", "--type", "f16"), "becomes a GGUF file")):
        refused = soban("convert", folder / "adapter", *extra)
        assert refused.returncode == 2 and said in refused.stderr.decode()
    assert "--base is for adapters" in soban("convert", folder, "x.bin", "--base", folder).stderr.decode()
