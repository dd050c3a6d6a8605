"""`soban chat` in a real terminal: keys go in through tmux, and the screen is compared."""

import json
import os
import re
import shutil
import stat
import time
from pathlib import Path

import pytest

import soban
from tests.cli import tiny
from tests.cli.conversation import FLAGS, Start, exchange, joined, laid, prompt, whole
from tests.cli.tmux import Terminal
from tests.tiny import make_model

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """A model that writes letters for as long as it is let; NumPy computes, slowly enough to watch."""
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    path = tiny.folder(tmp_path_factory.mktemp("models") / "endless", context=8192, template=template)
    return (path, "--prompt-lookup-num-tokens", "0")


def flowing(terminal: Terminal, answer: int = 1) -> None:
    """Waits until the answer of that number is being written."""
    text = r"\n> abc\n[a-z]{100,}"
    while not re.search(text + rf"(?:(?s:.)*{text})" * (answer - 1), joined(terminal)):
        time.sleep(0.05)


def test_a_session_is_messages_answers_and_a_meter(start: Start, dialogue: soban.Dialogue) -> None:
    expected = ""
    with start() as terminal:
        terminal.see("0 of 512 tokens")
        for message in ("Once upon a time", "옛날 옛적에, 토끼가"):
            terminal.type(message)
            terminal.press("Enter")
            expected += exchange(message, whole(dialogue.say(message)))
            assert terminal.wait(lambda screen: f"\n  {dialogue.used} of" in screen) == expected + prompt(dialogue)
        terminal.type("/exit")
        terminal.press("Enter")
        assert terminal.see("left with 0").endswith("icrnl\nisig\nicanon\necho")


def test_the_greeting_says_what_is_talking(start: Start) -> None:
    with start("--seed", "3", columns=120) as terminal:
        assert terminal.see("of 512 tokens").split("\n") == [
            f"soban {soban.__version__} · the bundled model · q8 · 512 tokens of context",
            'It tells little stories, and answers about them: "Tell me a story." "이야기 하나 해 줘."',
            "/help lists the commands, Ctrl-D leaves",
            "",
            ">",
            "  0 of 512 tokens",
        ]


def test_a_message_may_have_several_lines(start: Start, dialogue: soban.Dialogue) -> None:
    with start() as terminal:
        terminal.see("tokens")
        terminal.type("one\\")
        terminal.press("Enter")
        terminal.type("둘")
        terminal.press("M-Enter")
        terminal.type("three")
        terminal.press("C-j")
        terminal.type("넷")
        assert terminal.see("넷") == "> one\n  둘\n  three\n  넷\n  0 of 512 tokens"
        terminal.press("Enter")
        answer = whole(dialogue.say("one\n둘\nthree\n넷"))
        assert terminal.see(f"{dialogue.used} of") == exchange("one\n둘\nthree\n넷", answer) + prompt(dialogue)


def test_a_pasted_block_is_one_message_and_waits_for_enter(start: Start, dialogue: soban.Dialogue) -> None:
    block = "첫째 줄\n\n  indented\n/exit"
    with start() as terminal:
        terminal.see("tokens")
        terminal.paste(block)
        assert terminal.see("/exit") == "> 첫째 줄\n\n    indented\n  /exit\n  0 of 512 tokens"
        terminal.press("Enter")
        answer = whole(dialogue.say(block))
        assert terminal.see(f"{dialogue.used} of") == exchange(block, answer) + prompt(dialogue)


def test_hangul_is_edited_by_syllables_and_wraps_whole(start: Start, dialogue: soban.Dialogue) -> None:
    with start(columns=17) as terminal:
        terminal.see("tokens")
        terminal.type("가나다라마바사아자차카타파하")
        assert terminal.see("하") == "> 가나다라마바사\n  아자차카타파하\n  0 of 512 tokens"
        terminal.press("BSpace", "Left", "Left", "Left", "BSpace")
        terminal.type("a힣")
        assert terminal.see("힣") == "> 가나다라마바사\n  아자a힣카타파\n  0 of 512 tokens"
        terminal.press("Home", "DC", "Right")
        terminal.type("ㅎ하")
        assert terminal.see("ㅎ") == "> 나ㅎ하다라마바\n  사아자a힣카타파\n  0 of 512 tokens"


@pytest.mark.parametrize("columns", [41, 33, 80, 19])
@pytest.mark.slow
def test_resizing_in_the_middle_of_hangul_leaves_one_line_of_input(start: Start, columns: int) -> None:
    text = "동해물과 백두산이 마르고 닳도록 하느님이 보우하사 우리나라 만세 무궁화 삼천리 화려 강산"
    with start(*FLAGS[:-1], columns=60) as terminal:  # with the greeting: the top of the screen would hide what is left
        terminal.see("\n>\n")
        terminal.type(text)
        terminal.see("강산")
        terminal.resize(columns, 24)
        rows = laid(text, columns - 2).split("\n")
        inner = "\n".join([f"> {rows[0]}", *(f"  {row}" for row in rows[1:])])
        terminal.wait(lambda _: joined(terminal).endswith(f"Ctrl-D leaves\n\n{inner}\n  0 of 512 tokens"))
        terminal.resize(60, 24)
        terminal.press("BSpace", "BSpace")
        terminal.type("산강")
        terminal.see("산강")
        assert joined(terminal).count("동해물과") == 1


def test_resizing_in_the_middle_of_an_answer_loses_nothing(start: Start, endless: tuple[str, ...]) -> None:
    with start(*endless, SOBAN_OPS="reference", columns=60) as terminal:
        terminal.see("tokens")
        terminal.type("abc")
        terminal.press("Enter")
        flowing(terminal)
        for columns in (33, 71, 60):
            terminal.resize(columns, 24)
        terminal.press("C-c")
        # tmux tells of sizes with a delay, so the line may be drawn once more
        whole = re.compile(r"\n\n> abc\n[a-z]{100,}\n\n>\n  Ctrl-C again, or Ctrl-D, leaves$")
        terminal.wait(lambda _: bool(whole.search(joined(terminal))))


def test_ctrl_c_once_stops_the_answer_and_twice_leaves(start: Start, endless: tuple[str, ...]) -> None:
    with start(*endless, SOBAN_OPS="reference") as terminal:
        terminal.see("tokens")
        for answer in (1, 2):
            terminal.type("abc")
            terminal.press("Enter")
            flowing(terminal, answer)
            terminal.press("C-c")
            terminal.see("Ctrl-C again, or Ctrl-D, leaves")
        terminal.press("C-c")
        assert terminal.see("left with 130").endswith("icrnl\nisig\nicanon\necho")


def test_ctrl_c_at_the_prompt_takes_back_the_line_then_says_how_to_leave(start: Start) -> None:
    with start() as terminal:
        terminal.see("0 of 512 tokens")
        terminal.press("C-c")
        assert terminal.see("leaves") == ">\n  Ctrl-C again, or Ctrl-D, leaves"
        terminal.type("never sent")
        terminal.see("never sent")
        terminal.press("C-c")
        assert terminal.see("leaves") == ">\n  Ctrl-C again, or Ctrl-D, leaves"
        terminal.type("x")
        assert terminal.see("> x") == "> x\n  0 of 512 tokens"
        terminal.press("C-c", "C-c")
        terminal.see("left with 130")


def test_ctrl_d_leaves(start: Start) -> None:
    with start() as terminal:
        terminal.see("tokens")
        terminal.press("C-d")
        assert terminal.see("left with 0").endswith("icrnl\nisig\nicanon\necho")


def test_keys_pressed_during_an_answer_wait_for_its_end(start: Start, endless: tuple[str, ...]) -> None:
    with start(*endless, "--max-new-tokens", "1500", SOBAN_OPS="reference") as terminal:
        terminal.see("tokens")
        terminal.type("abc")
        terminal.press("Enter")
        flowing(terminal)
        terminal.type("/system 짧게")
        terminal.press("Enter")
        terminal.type("더")
        assert not joined(terminal).endswith("tokens")  # it is still writing
        terminal.see("> 더")
        answered = r"> abc\n[a-z]{1500}\n\(cut off .*\)\n\n"
        assert re.search(answered + r"> /system 짧게\n짧게\n\n> 더\n  .* tokens$", joined(terminal))


def test_commands_settings_and_files_are_completed(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "대화 모음"
    folder.mkdir()
    (folder / "첫째.json").write_text("[]", encoding="utf-8")
    with start(columns=140) as terminal:
        terminal.see("tokens")
        terminal.type("/")
        screen = terminal.see("/clear")
        assert "/retry" in screen and "have the last message answered again" in screen
        terminal.type("se")
        terminal.wait(lambda screen: "/clear" not in screen)
        terminal.press("Tab")
        terminal.see("> /set")
        terminal.type(" temp")
        terminal.see("safer words")
        terminal.press("Tab")
        terminal.see("> /set temperature")
        terminal.press("C-u")
        terminal.press("/he", "Tab")  # before there is a menu
        terminal.see("> /help")
        terminal.press("C-u")
        terminal.type(f"/load {tmp_path}/대")
        terminal.see("대화 모음/")  # in the menu
        terminal.press("Tab")
        terminal.see(f"/load {tmp_path}/대화 모음")
        terminal.type("/")
        terminal.see("첫째")
        terminal.press("Tab")
        terminal.see("대화 모음/첫째.json")
        terminal.press("Enter")
        assert "loaded: 0 messages" in terminal.see("loaded")


def test_retry_and_edit_change_the_last_turn(start: Start, dialogue: soban.Dialogue) -> None:
    dialogue.say("Once upon a time").read()
    with start(rows=40) as terminal:
        terminal.see("tokens")
        terminal.type("Once upon a time")
        terminal.press("Enter")
        terminal.see(f"{dialogue.used} of")
        terminal.type("/retry")
        terminal.press("Enter")
        again = whole(dialogue.retry())
        terminal.wait(lambda screen: screen.endswith(exchange("/retry", again) + prompt(dialogue)))
        terminal.type("/edit")
        terminal.press("Enter")
        terminal.see("> /edit\n> Once upon a time")
        terminal.press("BSpace", "BSpace", "BSpace", "BSpace")
        terminal.type("밤에")
        terminal.press("Enter")
        edited = whole(dialogue.edit("Once upon a 밤에"))
        terminal.wait(lambda screen: screen.endswith(exchange("Once upon a 밤에", edited) + prompt(dialogue)))
        terminal.type("/edit")
        terminal.press("Enter")
        terminal.see("> /edit\n> Once upon a 밤에")
        terminal.press("C-c")  # it stays as it was
        assert terminal.see(f"\n>\n  {dialogue.used} of")


def test_a_conversation_is_kept_and_gone_on_with(start: Start, dialogue: soban.Dialogue, tmp_path: Path) -> None:
    path = tmp_path / "이야기.json"
    first, expected = dialogue.say("Once upon a time").read(), dialogue.used
    with start(columns=100) as terminal:
        terminal.see("tokens")
        terminal.type("Once upon a time")
        terminal.press("Enter")
        terminal.see(f"{expected} of")
        for answer, saved in (("", 1), ("n", 1), ("y", 2)):
            terminal.type(f"/save {path}")
            terminal.press("Enter")
            if answer:
                terminal.wait(lambda screen: "Writeoverit?[y/N]" in "".join(screen.split()))
                path.write_text("", encoding="utf-8")
                terminal.type(answer)
                terminal.press("Enter")
            terminal.wait(
                lambda screen, saved=saved, answer=answer: (
                    screen.count("saved: ") == saved
                    and (not answer or f"[y/N]{answer}" in "".join(screen.split()))
                    and screen.endswith("tokens")
                )
            )
            assert path.exists() and bool(path.read_text(encoding="utf-8")) == (answer != "n")
    with start(columns=100) as terminal:
        terminal.see("tokens")
        terminal.type(f"/load {path}")
        terminal.press("Enter")
        shown = exchange("Once upon a time", first, 100)
        assert terminal.see(f"{expected} of").endswith(f"loaded: 2 messages\n\n{shown}{prompt(dialogue)}")
        terminal.type("Then")
        terminal.press("Enter")
        answer = whole(dialogue.say("Then"))
        assert terminal.see(f"{dialogue.used} of").endswith(exchange("Then", answer, 100) + prompt(dialogue))


def test_what_was_typed_comes_back_with_the_arrows_and_is_nobody_else_s(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "soban" / "chat-history.jsonl"
    with start() as terminal:
        terminal.see("tokens")
        terminal.paste("여러\n줄")
        terminal.press("Enter")
        terminal.see("\n>\n")
        terminal.press("C-d")
        terminal.see("left with 0")
    assert [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] == ["여러\n줄"]
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    with start() as terminal:
        terminal.see("tokens")
        terminal.press("Up")
        assert terminal.see("> 여러").startswith("> 여러\n  줄\n")
    with start(*FLAGS, "--no-history") as terminal:
        terminal.see("tokens")
        terminal.press("Up")
        terminal.type("x")
        assert terminal.see("> x").startswith("> x\n")
        terminal.press("Enter")
        terminal.see("\n>\n")
    assert kept.read_text(encoding="utf-8").count("\n") == 1


@pytest.mark.parametrize("no_color", ["", "1"])
def test_markdown_has_looks_unless_they_are_unwanted(start: Start, tmp_path: Path, no_color: str) -> None:
    path = tmp_path / "markdown.json"
    text = "# 제목\n- **굵게**\n\n```python\nx = 1\n```"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
    path.write_text(json.dumps(turns), encoding="utf-8")
    with start(NO_COLOR=no_color) as terminal:
        terminal.see("tokens")
        terminal.type(f"/load {path}")
        terminal.press("Enter")
        screen = terminal.wait(lambda screen: "x = 1" in screen and screen.endswith("tokens"))
        assert f"\n> ?\n{text}\n\n" in screen  # what the model wrote, as it wrote it
        drawn = terminal.screen(looks=True)
    assert bool(re.search(r"\x1b\[[0-9;]*1m(\x1b\[[0-9;]*m)*굵게", drawn)) == (not no_color)
    assert bool(re.search(r"\x1b\[[0-9;]*3[1-6]m", drawn)) == (not no_color)


def test_an_error_is_one_line_and_the_conversation_goes_on(start: Start, dialogue: soban.Dialogue) -> None:
    with start(columns=100) as terminal:
        terminal.see("tokens")
        terminal.type("/set temperature warm")
        terminal.press("Enter")
        terminal.see("soban: /set temperature takes a number, not warm; give one, as in /set temperature 0.7\n\n>")
        terminal.paste("word " * 600)
        terminal.press("Enter")
        terminal.see("context")
        terminal.type("Hello")
        terminal.press("Enter")
        answer = whole(dialogue.say("Hello"))
        assert terminal.see(f"{dialogue.used} of").endswith(exchange("Hello", answer, 100) + prompt(dialogue))


def test_a_note_about_a_command_stands_by_itself(start: Start, tmp_path: Path) -> None:
    refusing = make_model(tmp_path / "m", chat=True)
    with start(refusing, "--seed", "3", "--quiet", "--max-new-tokens", "5", columns=100) as terminal:
        terminal.see("tokens")
        for line in ("Once", "/system Be kind."):
            terminal.type(line)
            terminal.press("Enter")
            terminal.see("\n>\n")
        note = "soban: the model has no system role: the system text goes into the first user turn"
        assert f"\nBe kind.\n\n{note}\n\n>\n" in terminal.see("system role")


def test_a_note_comes_after_the_answer_and_not_into_its_last_line(start: Start, chat_model: Path) -> None:
    with start(chat_model, "--quiet", columns=130) as terminal:
        terminal.see("of 64 tokens")
        terminal.type("hi")
        terminal.press("Enter")
        screen = terminal.see("so the text ends here")
        remark = r"\(cut off: the context is full\)"
        assert re.search(rf"\n> hi\n[a-z]+\n{remark}\n\nsoban: the context of 64 [^\n]+\n\n>\n", f"\n{screen}")
        terminal.type("/retry")
        terminal.press("Enter")  # the note is said once, the remark below each answer
        assert re.search(rf"\n> /retry\n[a-z]+\n{remark}\n\n>\n", terminal.wait(lambda s: s.count("cut off") == 2))
