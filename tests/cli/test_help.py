"""`soban --help`: the commands by what they are for, and examples whose comments are in the user's language."""

import re

import pytest

from soban.cli import COMMANDS, main
from soban.cli.examples import COMMENTED, text_of
from soban.messages import width


@pytest.mark.parametrize(
    "language, groups", [("en", ("talk:", "find and fetch models:", "teach a model:")), ("ko", ())]
)
@pytest.mark.parametrize("columns", [50, 80])
def test_each_command_stands_once_in_one_of_four_groups(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    groups: tuple[str, ...],
    columns: int,
) -> None:
    monkeypatch.setenv("SOBAN_LANG", language)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["--help"]) == 0
    parts = capsys.readouterr().out.split("\n\n")[2:-1]
    assert len(parts) == 4 and all(group in "".join(parts) for group in groups)
    assert re.findall(r"(?m)^  ([a-z]+) ", "\n".join(parts)) == list(COMMANDS)
    assert max(width(line) for part in parts for line in part.split("\n")) <= columns


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_said_of_examples_is_korean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    monkeypatch.setenv("COLUMNS", "110")
    assert main([command, "--help"]) == 0
    examples = capsys.readouterr().out.rsplit("\n\n", 1)[1].splitlines()
    for line in examples:
        if found := COMMENTED.fullmatch(line):
            assert re.search("[가-힣]", found[2]), line


def test_a_comment_without_room_stands_below_its_command() -> None:
    examples = "  soban pull a/b        any model of the hub\n  soban pull\n"
    assert text_of(examples, 80) == examples
    assert text_of(examples, 24) == "  soban pull a/b\n      any model of the\n      hub\n  soban pull\n"


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert main(words) == 0
        return capsys.readouterr().out

    assert told("help") == told("--help") == told("help", "help")
    for command in COMMANDS:
        assert told("help", command) == told(command, "--help")
    assert main(["help", "rnu"]) == 2
    assert capsys.readouterr().err == "soban: no command rnu; did you mean run?\n"
