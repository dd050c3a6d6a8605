"""The examples of every help text: each is a command that there is, with flags and values that it takes."""

import importlib
import re
import shlex

from soban import cli
from soban.cli import COMMANDS, flags
from soban.cli.examples import COMMENTED


def commands(examples: str) -> list[list[str]]:
    """The words behind each `soban`, without what is piped in or out and what is said of them."""
    found = []
    for line in examples.splitlines():
        commented = COMMENTED.fullmatch(line)
        command = (commented[1] if commented else line).strip()
        parts = [part.strip() for part in re.split(r"\s\|\s", command) if part.strip().startswith("soban ")]
        assert len(parts) == 1, line
        words = shlex.split(re.split(r"\s[<>]\s", parts[0])[0].replace("\\", "\\\\"))
        found.append(words[1:])
    return found


def test_every_example_is_read_as_it_stands() -> None:
    assert commands("  cat a.txt | soban run m \"b c:\"    says it\n  soban chat m < q > a\n") == [
        ["run", "m", "b c:"], ["chat", "m"],
    ]  # fmt: skip
    count = 0
    for name in (None, *COMMANDS):  # None: those of `soban --help`
        examples = commands(cli.EXAMPLES if name is None else importlib.import_module(f"soban.cli.{name}").EXAMPLES)
        assert name is None or name in [command for command, *_ in examples]
        for command, *words in examples:
            module = importlib.import_module(f"soban.cli.{command}")
            assert flags.parse(command, module.OPTIONS, words, module.EXAMPLES) is not None, (command, words)
            count += 1
    assert count > 50
