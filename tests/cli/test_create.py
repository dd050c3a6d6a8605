"""soban create and cp: a name for a system text and settings, which run, list and rm know."""

import json
from pathlib import Path

import pytest

import soban as library
from tests.cli.conftest import Command, text
from tests.tiny import make_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = make_model(tmp_path / "tiny", chat=True)
    (tmp_path / "Modelfile").write_text(
        'FROM ./tiny\nPARAMETER num_predict 7\nSYSTEM """친절하게\n답해 줘."""\n', encoding="utf-8"
    )
    return model


def test_a_named_model_is_run_listed_copied_and_removed(soban: Command, folder: Path, tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> tuple[str, str]:
        home = {name: str(tmp_path / "state") for name in ("XDG_STATE_HOME", "LOCALAPPDATA")}
        done = soban(*words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"), **home)
        return text(done, code), done.stderr.decode()

    assert "mina" in run("create", "mina", "-f", str(tmp_path / "Modelfile"))[1]
    told = [{"role": "system", "content": "친절하게\n답해 줘."}, {"role": "user", "content": "안녕?"}]
    expected = library.load(folder).chat(told, max_new_tokens=7, seed=3)
    assert run("run", "mina", "안녕?", "--seed", "3", "--quiet")[0].rstrip("\n") == str(expected).rstrip("\n")
    run("cp", "mina", "jun:2")
    listed = json.loads(run("list", "--json")[0])
    assert [(one["name"], one["from"]) for one in listed if "from" in one] == [
        (name, str(folder.resolve())) for name in ("jun:2", "mina")
    ]
    assert "mina" in run("list")[0]
    assert "tiny" in run("show", "mina")[0]
    converted = run("convert", "mina", str(tmp_path / "converted"), "--dtype", "bf16")[1]
    assert "system text and settings of mina" in converted
    run("rm", "mina", "jun:2", "-y")
    assert "mina" not in run("list")[1] and folder.is_dir()
    assert "mina" in run("run", "mina", "안녕?", code=2)[1]


def test_a_wrong_line_is_told_by_its_number_and_nothing_is_kept(soban: Command, tmp_path: Path) -> None:
    file = tmp_path / "bad"
    file.write_text("FROM soban\nPARAMETER mirostat 2\n", encoding="utf-8")
    done = soban("create", "mina", "-f", str(file), XDG_STATE_HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path))
    assert done.returncode == 2 and b"line 2" in done.stderr and b"mirostat" in done.stderr
    assert not list(tmp_path.rglob("*.modelfile"))


def test_a_new_conversation_begins_with_the_first_turns_again(soban: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(
        "FROM ./tiny\nPARAMETER num_predict 7\nMESSAGE user one\nMESSAGE assistant two\n", encoding="utf-8"
    )
    home = {name: str(tmp_path / "state") for name in ("XDG_STATE_HOME", "LOCALAPPDATA")}
    text(soban("create", "mina", "-f", str(tmp_path / "Modelfile"), **home))
    file = tmp_path / "talk.json"
    words = ("chat", "mina", "--temperature", "0", "--quiet")
    text(soban(*words, stdin=f"three\n/clear\nfour\n/save {file}\n".encode(), **home))
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    turns.append({"role": "user", "content": "four"})
    answer = library.load(folder).chat(turns, max_new_tokens=7, temperature=0)
    assert json.loads(file.read_text("utf-8"))["messages"] == [*turns, {"role": "assistant", "content": answer}]
