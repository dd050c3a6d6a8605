"""`soban chat` in a real terminal: what is typed while it loads, ways to leave, several lines, and lines of answers."""

import json
import shutil
import time
from pathlib import Path

import pytest

import soban
from tests.cli.conversation import Start, exchange, prompt, whole
from tests.cli.test_flow import laid as flowed

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


@pytest.mark.parametrize("typed", ["exit", "quit", "/exit", "/bye", "/quit", "QUIT"])
def test_there_is_more_than_one_way_to_leave(start: Start, typed: str) -> None:
    with start() as terminal:
        terminal.see("tokens")
        terminal.type(typed)
        terminal.press("Enter")
        terminal.see("left with 0")


def test_three_quotation_marks_hold_a_message_of_several_lines(start: Start, dialogue: soban.Dialogue) -> None:
    with start() as terminal:
        terminal.see("tokens")
        terminal.type('"""Once upon')
        terminal.press("Enter")
        terminal.press("Enter")
        terminal.type("a time")
        terminal.press("Enter")
        terminal.type('"""')
        assert terminal.see('\n  """') == '> """Once upon\n\n  a time\n  """\n  0 of 512 tokens'
        terminal.press("Enter")
        answer = whole(dialogue.say("Once upon\n\na time"))
        shown = exchange('"""Once upon\n\na time\n"""', answer) + prompt(dialogue)
        assert terminal.see(f"{dialogue.used} of") == shown


def test_what_is_typed_while_the_model_loads_is_sent_then(start: Start, dialogue: soban.Dialogue) -> None:
    for pause in (0.0, 0.4):
        with start() as terminal:
            time.sleep(pause)  # before Python has begun, and later
            for message in ("Once upon a time", "옛날 옛적에"):
                terminal.type(message)
                terminal.press("Enter")
            terminal.type("/sy")
            terminal.see("> /sy")
            expected = "".join(exchange(m, whole(dialogue.say(m))) for m in ("Once upon a time", "옛날 옛적에"))
            assert terminal.wait(lambda screen: screen.endswith("tokens")).startswith(expected + "> /sy\n")
            dialogue.clear()
            terminal.press("C-u")
            terminal.press("C-d")
            assert terminal.see("left with 0").endswith("icrnl\nisig\nicanon\necho")


def test_ctrl_c_while_the_model_loads_ends_the_command(start: Start) -> None:
    with start() as terminal:
        terminal.wait(lambda _: not terminal.type(""))
        time.sleep(0.2)
        terminal.press("C-c")
        screen = terminal.see("left with")
        assert "Traceback" not in screen and screen.endswith("icrnl\nisig\nicanon\necho")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_answers_break_between_words(start: Start, tmp_path: Path, no_color: str) -> None:
    path = tmp_path / "long.json"
    text = (
        "한 **문장**이 여러 줄에 걸칠 만큼 길면 낱말 사이에서 줄을 바꿉니다. " * 3
        + "And so it is with *English*, of course. " * 2
    )
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
    path.write_text(json.dumps(turns), encoding="utf-8")
    with start(NO_COLOR=no_color, columns=31) as terminal:
        terminal.see("tokens")
        terminal.type(f"/load {path}")
        terminal.press("Enter")
        wanted = "\n".join(line.rstrip() for line in flowed(text, 31))
        terminal.wait(lambda screen: screen.endswith("tokens") and wanted in screen)
