"""`soban chat` without a terminal: lines are messages, stdout has the answers alone; and what the commands do."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.data_structures import Point

from soban.base.errors import UserError
from soban.cli import commands
from soban.cli.terminal import history
from soban.cli.terminal.completing import choices
from soban.cli.terminal.plain import messages
from soban.cli.terminal.reflow import moved
from soban.engine.sampling import Sampling
from soban.ops.batch import PAGE
from tests.cli.conftest import Command, environment
from tests.processes import ended

SHORT = ("--max-new-tokens", "5", "--greedy")


def talk(soban: Command, model: Path, *lines: str, more: tuple[str, ...] = SHORT) -> tuple[list[str], list[str], int]:
    """What comes out on stdout and on stderr, line by line, and the exit code."""
    done = soban("chat", model, *more, stdin="".join(f"{line}\n" for line in lines).encode())
    return done.stdout.decode().split("\n")[:-1], done.stderr.decode().split("\n")[:-1], done.returncode


def test_each_line_is_a_message_and_stdout_has_the_answers_alone(soban: Command, chat_model: Path) -> None:
    answers, talked, code = talk(soban, chat_model, "hi", "", "안녕")
    assert code == 0 and talked == []
    assert len(answers) == 2 and all(re.fullmatch("[a-z]{5}", answer) for answer in answers)


def test_the_answers_are_those_of_the_library(
    soban: Command, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soban as library

    monkeypatch.setenv("SOBAN_OPS", "reference")
    dialogue = library.Dialogue(library.load(chat_model), system="no", max_new_tokens=5, seed=7, temperature=2.0)
    expected = [dialogue.say("a\nb").read(), dialogue.retry().read(), dialogue.edit("c").read()]
    flags = ("--max-new-tokens", "5", "--seed", "7", "--temperature", "2", "--system", "no")
    assert talk(soban, chat_model, "a\\", "b", "/retry", "/edit c", more=flags)[0] == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["one", "two"], ["one", "two"]),
        (["one\\", "two\\", "", "three"], ["one\ntwo", "three"]),
        (["one\\"], ["one"]),
        (['"""', "a", "", "  b", '"""', "c"], ["a\n\n  b", "c"]),
        (['"""a', 'b"""', '"""c"""'], ["a\nb", "c"]),
        (['"""', "never closed"], ["never closed"]),
        (["", "  ", '"""', '"""'], []),
    ],
)
def test_lines_are_joined_into_messages(lines: list[str], expected: list[str]) -> None:
    assert list(messages(lines)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_lines_may_have_any_encoding_of_korean_files(soban: Command, chat_model: Path, encoding: str) -> None:
    done = soban("chat", chat_model, *SHORT, "--stats", stdin="가나\r\n다\n".encode(encoding))
    new = [int(found) + int(known) for found, known in re.findall(rb"prompt (\d+) new \+ (\d+) known", done.stderr)]
    head = 1 + len("[user] \n")
    assert new == [head + 6, head + 6 + len("[assistant] abcde\n") + len("[user] \n") + 3]


def test_a_first_message_can_be_given_with_the_command(soban: Command, chat_model: Path) -> None:
    lines = talk(soban, chat_model, "second", more=(*SHORT, "first"))[0]
    assert lines == talk(soban, chat_model, "first", "second")[0]


def test_an_error_is_one_line_the_conversation_goes_on_and_the_code_tells(soban: Command, chat_model: Path) -> None:
    answers, talked, code = talk(soban, chat_model, "/retry", "x" * 200, "/sett", "hi")
    assert len(answers) == 1 and code == 2
    assert len(talked) == 3 and all(line.startswith("soban: ") for line in talked)
    assert "did you mean /set?" in talked[2]


def test_exit_ends_it_before_the_end_of_the_file(soban: Command, chat_model: Path) -> None:
    answers, _, code = talk(soban, chat_model, "hi", "/exit", "more")
    assert (len(answers), code) == (1, 0)


def test_a_second_turn_reads_again_no_whole_page_of_the_first(soban: Command) -> None:
    done = soban("chat", "--template", "plain", *SHORT, "--stats", stdin=b"word " * 150 + b"\nAnd then\n")
    figures = [tuple(map(int, found)) for found in re.findall(r"prompt (\d+) new \+ (\d+) known", done.stderr.decode())]
    assert figures[0][1] == 0 and figures[1][1] == figures[0][0] // PAGE * PAGE > 100
    assert 0 < figures[1][0] < PAGE + 40


def test_conversations_are_kept_but_never_written_over_unasked(
    soban: Command, chat_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "내 대화.json"
    answers, talked, code = talk(soban, chat_model, "hi", f"/save {path}", f"/save '{path}'")
    assert code == 2 and talked[0] == f"saved: {path}" and "is there already" in talked[1]
    kept = json.loads(path.read_text(encoding="utf-8"))["messages"]
    assert kept == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answers[0]}]
    loaded, _, code = talk(soban, chat_model, f'/load "{path}"', "/retry")
    assert (loaded, code) == (answers, 0)


def test_settings_are_shown_changed_and_undone(soban: Command, chat_model: Path) -> None:
    _, talked, code = talk(
        soban, chat_model, "/set temperature 0.5", "/set top-k=7", "/set", "/set temperature default",
        "/set do_sample on", "/set stop 그만", "/set on_full slide", more=("--max-new-tokens", "5"),
    )  # fmt: skip
    assert code == 0 and talked[:2] == ["temperature = 0.5", "top_k = 7"] and talked[-4] == "temperature = 1.0"
    assert talked[-3:] == ["do_sample = on", "stop = 그만", "on_full = slide"]
    marked = [line.split()[1] for line in talked if line.startswith("* ")]
    assert marked == ["max_new_tokens", "do_sample", "temperature", "top_k"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("/set temperature warm", "takes a number, not warm"),
        ("/set temperature -1", "out of range"),
        ("/set top_k 1.5", "takes a whole number"),
        ("/set do_sample maybe", "cannot be maybe; write on or off"),
        ("/set on_full explode", "out of range"),
        ("/set tempratur 1", "did you mean temperature?"),
        ("/set num_return_sequences 2", "/set knows no num_return_sequences"),
        ("/stats sometimes", "write on or off"),
        ("/stats", "no answer yet"),
        ("/save", "/save needs a file"),
        ("/load nowhere.json", "nowhere.json"),
        ("/edit", "nothing has been said yet|no message yet"),
    ],
)
def test_what_a_command_cannot_do_it_says(soban: Command, chat_model: Path, line: str, problem: str) -> None:
    answers, talked, code = talk(soban, chat_model, line, more=())
    assert answers == [] and len(talked) == 1 and re.search(problem, talked[0]) and code == 2


def test_the_system_text_is_shown_set_and_taken_away(soban: Command, chat_model: Path) -> None:
    _, talked, _ = talk(soban, chat_model, "/system", "/system 짧게 답해 줘", "/system", '/system ""')
    assert talked == ["(no system text)", "짧게 답해 줘", "짧게 답해 줘", "(no system text)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"짧게"', "짧게"), ("'a b'", "a b"), ("“짧게 답해 줘”", "짧게 답해 줘"), ("‘a’", "a"), ("「가」", "가"),
        ('""', ""), ("“”", ""), ('"yes" or "no"', '"yes" or "no"'), ('say "no"', 'say "no"'), ('"', '"'),
        ("it's", "it's"), ("“a”, “b”", "“a”, “b”"), ('"a\nb"', "a\nb"), ("don't'", "don't'"),
    ],
)  # fmt: skip
def test_quotation_marks_around_a_text_are_those_of_whoever_gives_it(text: str, expected: str) -> None:
    assert commands.unquoted(text) == expected


def test_quotation_marks_belong_to_no_system_text_and_no_setting(soban: Command, chat_model: Path) -> None:
    _, talked, code = talk(soban, chat_model, '/system "글"', "/system “”", '/set stop "a b"', '/set on_full "slide"')
    assert code == 0 and talked == ["글", "(no system text)", "stop = a b", "on_full = slide"]


@pytest.mark.parametrize("words", [[""], ["-i", " "], ["", "-q"]])
def test_an_empty_first_message_is_refused(soban: Command, chat_model: Path, words: list[str]) -> None:
    done = soban("chat", *([chat_model] if "-i" in words else []), *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"soban: the message is empty; give some text\n")


def test_each_answer_that_fills_the_context_is_marked_and_the_note_comes_once(soban: Command, chat_model: Path) -> None:
    answers, talked, code = talk(soban, chat_model, "hi", "/retry", "/retry", more=("--greedy",))
    assert (len(answers), code) == (3, 0)
    assert talked.count("(cut off: the context is full)") == 3 and sum("on_full slide" in line for line in talked) == 1


def test_what_settings_mean_is_said_without_the_words_of_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    for language in ("en", "ko"):
        monkeypatch.setenv("SOBAN_LANG", language)
        shown = commands.settings({n: 1 for n in commands.SETTINGS}, {n: 2 for n in commands.SETTINGS}, 80)
        assert not re.search(r"\b(TEXT|N|X)\b", shown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/help", ("help", "")),
        ("/system be brief\nand kind ", ("system", "be brief\nand kind")),
        ("/SET a  b", ("set", "a  b")),
        ("/usr/bin is a folder", None),
        ("//help", None),
        ("/3", None),
        ("1/2", None),
    ],
)
def test_what_is_a_command(text: str, expected: tuple[str, str] | None) -> None:
    assert commands.command(text) == expected


def test_two_slashes_stand_for_one() -> None:
    assert commands.message("//help") == "/help" and commands.message("/usr") == "/usr"
    with pytest.raises(UserError, match="no command /도움"):
        commands.command("/도움")


def test_every_command_has_its_help_and_its_action() -> None:
    assert commands.COMMANDS.keys() == commands.ACTIONS.keys()
    assert all(flag["help"] for flag in commands.SETTINGS.values())


def test_a_setting_that_is_shown_can_be_typed() -> None:
    for sampling in (Sampling(), Sampling(do_sample=True, temperature=0.5, seed=3, stop=("a b",))):
        shown = {**vars(sampling), "on_full": "slide"}
        for name in commands.SETTINGS:
            value = shown[name]
            if value not in (None, ()):
                assert commands.setting(name, commands.setting_text(value)) == value


def test_completion_knows_commands_settings_and_values() -> None:
    assert list(choices("/s")) == [f"/{name}" for name in commands.COMMANDS]
    assert list(choices("/set te")) == list(commands.SETTINGS)
    assert list(choices("/set on_full s")) == ["error", "slide", "summarise", "default"]
    assert choices("/set nothing ") == choices("/retry now") == {}


def test_the_history_is_the_owner_s_alone_and_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST", 3)
    path = tmp_path / "new" / "history.jsonl"
    assert history.read(path) == []
    for number in range(7):
        history.add(path, f"여러\n줄 {number}")
    with path.open("a", encoding="utf-8") as file:
        file.write('not json\n{"a": 1}\n')
    assert history.read(path) == [f"여러\n줄 {number}" for number in (4, 5, 6)]
    assert path.read_text(encoding="utf-8").count("\n") == 3 and os.listdir(path.parent) == [path.name]
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("rows", "cursor", "columns", "expected"),
    [
        ([[1] * 10], Point(10, 0), 20, Point(10, 0)),
        ([[1] * 10, [1] * 3], Point(2, 1), 10, Point(2, 1)),
        ([[1] * 10, [1] * 3], Point(2, 1), 9, Point(2, 2)),
        ([[1] * 10, [1] * 3], Point(2, 1), 3, Point(2, 4)),
        ([[2] * 5, [2] * 2], Point(4, 1), 5, Point(4, 3)),  # two syllables and a blank in a row of 5
        ([[2] * 5], Point(10, 0), 5, Point(2, 2)),
        ([[1, 2, 2]], Point(7, 0), 4, Point(4, 1)),  # two blanks behind the text
        ([], Point(0, 0), 4, Point(0, 0)),
    ],
)
def test_where_a_narrower_terminal_moves_the_cursor(
    rows: list[list[int]], cursor: Point, columns: int, expected: Point
) -> None:
    assert moved(rows, cursor, columns) == expected


@pytest.fixture
def running(chat_model: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A chat in an IDE's console: somebody types, and there is no terminal."""
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "chat", chat_model, *SHORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(PYCHARM_HOSTED="1"),
    )) as process:  # fmt: skip
        yield process
        process.kill()


def test_in_an_ide_s_console_each_answer_comes_before_the_next_line(running: subprocess.Popen[bytes]) -> None:
    assert running.stdin and running.stdout and running.stderr
    assert running.stderr.readline().startswith(b"soban ") and b"/help" in running.stderr.readline()
    for _ in range(2):
        assert running.stderr.read(2) == b"> "
        running.stdin.write("안녕\n".encode())
        running.stdin.flush()
        assert re.fullmatch(rb"[a-z]{5}\n", running.stdout.readline())
        assert running.stderr.readline() == b"(cut off after 5 tokens: max_new_tokens)\n"
    running.stdin.close()
    assert running.wait(10) == 0
    assert running.stderr.read() == b"> \n"


def test_llama2c_s_chat_mode_talks_with_its_defaults(soban: Command, llama2c_model: Path) -> None:
    flags = ("-t", "0", "--max-new-tokens", "5")
    done = soban("run", llama2c_model, "-m", "chat", *flags, "-y", "be", "-i", "hi", stdin=b"/set\n/stats\n")
    same = soban("chat", llama2c_model, *flags, "-y", "be", "--template", "llama2", "-i", "hi", stdin=b"/stats\n")
    assert (done.returncode, done.stdout) == (0, same.stdout) and re.fullmatch(rb"[a-z]{5}\n", done.stdout)
    talked = done.stderr.decode()
    assert re.search(r"\* top_k +0 ", talked) and re.search(r"top_p +0\.9 ", talked)
    assert talked.split("prompt ")[1].split()[0] == same.stderr.decode().split("prompt ")[1].split()[0]


def test_help_names_every_command_and_in_a_pipe_no_keys(soban: Command, chat_model: Path) -> None:
    _, talked, _ = talk(soban, chat_model, "/help")
    assert [line.split()[0] for line in talked] == [f"/{name}" for name in commands.COMMANDS]


def test_without_a_terminal_the_line_editor_is_not_even_imported() -> None:
    code = "import sys, soban.cli.chat, soban.cli.terminal.plain; print('prompt_toolkit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), check=True)
    assert done.stdout.split() == [b"False"]


BROKEN = "{{ raise_exception('no way') }}"


@pytest.mark.parametrize("lines", [["hi"], ["/system foo", "hi", "/exit"], ["/exit"]], ids=str)
def test_a_template_that_fails_ends_no_conversation_and_starts_no_loop(
    soban: Command, chat_model: Path, tmp_path: Path, lines: list[str]
) -> None:
    (tmp_path / "broken.jinja").write_text(BROKEN, encoding="utf-8")
    more = ("--template", str(tmp_path / "broken.jinja"), "--system", "Brief.")
    out, err, code = talk(soban, chat_model, *lines, more=more)
    assert out == [] or out == [""]
    assert sum("no way" in line for line in err) == lines.count("hi") and code == (2 if "hi" in lines else 0)


@pytest.mark.parametrize("text", ["/clear\nhello", "/retry\n\nx", "/set temperature\n0.5"])
def test_several_lines_are_a_message_whatever_they_begin_with(text: str) -> None:
    assert commands.command(text) is None


def test_several_lines_may_follow_a_command_that_takes_a_text() -> None:
    assert commands.command("/system one\ntwo") == ("system", "one\ntwo")


@pytest.mark.parametrize("text", ["/clear all", "/exit now please", "/retry x", "/help me"])
def test_a_command_that_takes_nothing_says_so(text: str) -> None:
    with pytest.raises(UserError, match="stands alone"):
        commands.command(text)


def test_a_temperature_of_0_is_shown_as_it_was_given(soban: Command, chat_model: Path) -> None:
    _, err, _ = talk(soban, chat_model, "/set temperature 0", "/set", more=())
    assert "temperature = 0" in err
    assert any(line.split()[:3] == ["*", "temperature", "0"] for line in err)


def test_a_folder_is_no_file_to_save_to(soban: Command, chat_model: Path, tmp_path: Path) -> None:
    _, err, code = talk(soban, chat_model, "hi", f"/save {tmp_path}")
    assert code == 2 and any("a folder" in line for line in err)


def test_ctrl_c_leaves_a_pipe_that_says_nothing(running: subprocess.Popen[bytes]) -> None:
    assert running.stderr is not None
    while running.stderr.read(1) != b">":
        pass
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130


@pytest.fixture
def keyboard() -> Iterator[tuple[int, int]]:
    """A terminal that somebody types into: our end, and the program's."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def until(ours: int, wanted: bytes, count: int = 1) -> bytes:
    """What has come out of a terminal when a text has come so many times."""
    found, end = b"", time.monotonic() + 60
    while found.count(wanted) < count:
        assert select.select([ours], [], [], max(0, end - time.monotonic()))[0], found
        found += os.read(ours, 1000)
    return found


def test_before_a_pipe_the_talk_is_on_the_terminal_and_the_answers_in_the_pipe(
    keyboard: tuple[int, int], chat_model: Path
) -> None:
    """As in `soban chat | tee answers.txt`."""
    ours, theirs = keyboard
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "chat", chat_model, *SHORT], stdin=theirs, stdout=subprocess.PIPE,
        stderr=theirs, env=environment(),
    )) as process:  # fmt: skip
        os.close(theirs)
        assert b"/help lists the commands" in until(ours, b"\n> ")
        os.write(ours, "안녕\n".encode())
        assert b"cut off after 5 tokens" in until(ours, b"\n> ")
        os.write(ours, b"\x04")
        assert process.stdout is not None
        assert re.fullmatch(rb"[a-z]{5}\n", process.stdout.read()) and process.wait(10) == 0


def test_a_dumb_terminal_gets_lines_and_no_escape_sequences(keyboard: tuple[int, int], chat_model: Path) -> None:
    ours, theirs = keyboard
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "chat", chat_model, *SHORT], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment(TERM="dumb"),
    )) as process:  # fmt: skip
        os.close(theirs)
        seen = until(ours, b"\n> ")
        os.write(ours, b"hi\n/set\n/exit\n")
        seen += until(ours, b"\n> ", 2)
        assert re.search(rb"[\n\r][a-z]{5}\r\n", seen) and b"\x1b" not in seen
        assert process.wait(10) == 0
