"""`soban run MODEL` without a prompt: a base model begins a text, one that answers converses or says how to."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import soban as library
from soban.cli import llama2c
from soban.talk.generation import Generation
from tests.cli import tiny
from tests.cli.conftest import Command
from tests.cli.tmux import Terminal

FLAGS = ("--seed", "4", "--max-new-tokens", "9", "--quiet")
ends_at_a_terminal = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


def test_a_base_model_begins_a_text(soban: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_OPS", "reference")
    text = library.load(model).generate("", seed=4, max_new_tokens=9)
    assert isinstance(text, str) and re.fullmatch("[a-z]{9}", text)
    for words in ((), ("",), ("--prompt=",), ("--raw",)):
        done = soban("run", model, *words, *FLAGS)
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{text}\n", b""), words


def test_a_llama2c_model_begins_a_text_and_alone_or_with_run_cs_flags_as_run_c_does(
    soban: Command, llama2c_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = soban("run", llama2c_model, *FLAGS)
    assert (plain.returncode, plain.stderr) == (0, b"") and len(plain.stdout) > 5
    as_run_c = soban("run", llama2c_model, "-t", "0", "-n", "9", "-q")
    greedy = soban("run", llama2c_model, "--greedy", "--max-new-tokens", "9", "-q")
    assert as_run_c.returncode == 0 and as_run_c.stdout == greedy.stdout
    begun = []
    start = llama2c.start

    def noted(model: library.Model, text: str, **given: Any) -> Generation:
        begun.append((text, given))
        return start(model, text, **given)

    monkeypatch.setattr(llama2c, "start", noted)
    assert soban("run", llama2c_model, "-q").returncode == 0
    assert [(text, given["steps"], given["sampling"]) for text, given in begun] == [("", 256, {})]


def test_a_model_that_has_no_token_for_the_beginning_asks_for_a_prompt(soban: Command, tmp_path: Path) -> None:
    path = tiny.folder(tmp_path / "no bos")
    for name in ("tokenizer_config.json", "config.json", "special_tokens_map.json", "generation_config.json"):
        if (path / name).exists():
            text = re.sub(r'"bos_token(_id)?": *("<s>"|0),?', "", (path / name).read_text(encoding="utf-8"))
            (path / name).write_text(text, encoding="utf-8")
    done = soban("run", path, *FLAGS)
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr == b"soban: the prompt is empty; give some text\n"


def test_a_model_that_answers_names_the_command_to_talk_with_it(
    soban: Command, chat_model: Path, tmp_path: Path
) -> None:
    spaced = tiny.folder(tmp_path / "an answering model", template="{{ messages[0].content }}")
    for name, command in (
        (chat_model, f"soban chat {chat_model}"), (spaced, f'soban chat "{spaced}"'),
        ("gemma2:2b", "soban chat gemma2:2b"), ("google/gemma-2-2b-it", "soban chat google/gemma-2-2b-it"),
    ):  # fmt: skip
        done = soban("run", name)
        told = f"soban: there is no prompt; give one, or talk with the model: {command}\n"
        assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", told)
        assert soban("run", name, "").stderr == b"soban: the prompt is empty; give some text\n"
    assert b"model: soban chat\n" in soban("run").stderr
    assert soban("run", chat_model, "--raw", *FLAGS).returncode == 0
    assert soban("run", chat_model, *FLAGS, stdin=b"hi").returncode == 0


@ends_at_a_terminal
@pytest.mark.parametrize("flags", [(), ("-t", "0.5")])
def test_at_a_terminal_a_model_that_answers_converses(chat_model: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    words = ("run", chat_model, "--max-new-tokens", "5", "--system", "S", *flags)
    with Terminal(*words, SOBAN_OPS="reference", XDG_STATE_HOME=str(tmp_path), columns=100) as terminal:
        assert "/help lists the commands, Ctrl-D leaves" in terminal.see("of 64 tokens").split("\n")
        terminal.type("hi")
        terminal.press("Enter")
        screen = terminal.see("max_new_tokens")
        assert re.search(r"\n> hi\n[a-z]{5}\n\(cut off after 5 tokens: max_new_tokens\)\n", screen)
        terminal.see("\n>\n")
        terminal.type("/system")
        terminal.press("Enter")
        terminal.see("> /system\nS\n")
        terminal.press("C-d")
        terminal.see("left with 0")


@ends_at_a_terminal
def test_at_a_terminal_a_base_model_begins_a_text(model: Path, tmp_path: Path) -> None:
    with Terminal("run", model, *FLAGS, SOBAN_OPS="reference", XDG_STATE_HOME=str(tmp_path)) as terminal:
        assert re.match(r"[a-z]{9}\nleft with 0", terminal.see("left with"))


@ends_at_a_terminal
def test_at_a_terminal_the_bundled_model_converses(tmp_path: Path) -> None:
    with Terminal("run", XDG_STATE_HOME=str(tmp_path), columns=100) as terminal:
        assert "the bundled model" in terminal.see("of 512 tokens")


@ends_at_a_terminal
def test_at_a_terminal_a_note_comes_after_the_text_and_not_into_its_last_line(model: Path, tmp_path: Path) -> None:
    with Terminal(
        "run", model, "-q", "abc", SOBAN_OPS="reference", XDG_STATE_HOME=str(tmp_path), columns=140
    ) as terminal:
        screen = terminal.see("left with")
        assert re.match(r"abc[a-z]+\nsoban: the context of 64 tokens is full, [^\n]+\nleft with 0", screen)
