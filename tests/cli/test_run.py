"""`soban run` as a user meets it: what comes out on stdout and stderr, from which prompt, with which flags."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SOURCE, Command, environment
from tests.processes import ended

LINE = re.compile(
    r"load \d+\.\d\d s · prompt (\d+) tokens in \d+\.\d\d s \(\d+/s\) · "
    r"(\d+) tokens in \d+\.\d\d s \(\d+/s, \d+ characters/s\)( · memory \d+ MB \+ \d+ MB mapped files)?\n"
)


def test_stdout_has_the_text_alone_and_stderr_one_line_of_figures(soban: Command, model: Path) -> None:
    done = soban("run", model, "abc", "--max-new-tokens", "5")
    assert done.returncode == 0
    assert re.fullmatch(rb"abc[a-z]{5}\n", done.stdout)
    found = LINE.fullmatch(done.stderr.decode())
    assert found is not None and found.groups()[:2] == ("3", "5")


def test_the_library_gives_the_same_text_for_the_same_seed(
    soban: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soban as library

    monkeypatch.setenv("SOBAN_OPS", "reference")
    done = soban("run", model, "abc", "--max-new-tokens", "12", "--seed", "7", "--temperature", "1.5")
    text = library.load(model).generate("abc", max_new_tokens=12, seed=7, temperature=1.5)
    assert done.stdout.decode() == f"{text}\n"


def test_quiet_leaves_stderr_empty(soban: Command, model: Path) -> None:
    assert soban("run", model, "abc", "--max-new-tokens", "2", "--quiet").stderr == b""


def test_flags_may_stand_between_model_and_prompt(soban: Command, model: Path) -> None:
    orders = (
        ("run", model, "abc", "--max-new-tokens", "3"),
        ("run", "--max-new-tokens", "3", model, "abc"),
        ("run", model, "--max-new-tokens=3", "abc"),
        ("run", model, "--max-new-tokens", "3", "--prompt", "abc"),
    )
    assert len({soban(*words).stdout for words in orders}) == 1


def test_the_prompt_can_be_left_out_of_the_text(soban: Command, model: Path) -> None:
    whole = soban("run", model, "abc", "--max-new-tokens", "4").stdout
    assert soban("run", model, "abc", "--max-new-tokens", "4", "--no-echo").stdout == whole[3:]


def test_a_chat_model_is_given_its_template_and_answers_without_an_echo(soban: Command, chat_model: Path) -> None:
    done = soban("run", chat_model, "hi", "--max-new-tokens", "4")
    assert re.fullmatch(rb"[a-z]{4}\n", done.stdout)
    assert b"prompt 11 tokens" in done.stderr  # BOS and "[user] hi\n", a token a byte
    raw = soban("run", chat_model, "hi", "--max-new-tokens", "4", "--raw")
    assert re.fullmatch(rb"hi[a-z]{4}\n", raw.stdout)
    assert b"prompt 2 tokens" in raw.stderr
    told = soban("run", chat_model, "hi", "--max-new-tokens", "4", "--system", "no")
    assert b"prompt 23 tokens" in told.stderr  # and "[system] no\n"


def test_several_texts_are_parted_by_lines_of_dashes(soban: Command, model: Path) -> None:
    done = soban(
        "run", model, "abc", "--num-return-sequences", "3", "--max-new-tokens", "8", "--top-k", "9", "--seed", "1"
    )
    texts = done.stdout.decode().removesuffix("\n").split("\n---\n")
    assert len(texts) == 3 and all(re.fullmatch("abc[a-z]{8}", text) for text in texts)
    assert len(set(texts)) > 1


def test_a_stop_string_ends_the_text_and_is_left_out(soban: Command, model: Path) -> None:
    whole = soban("run", model, "abc", "--max-new-tokens", "20").stdout.decode()
    stop = whole[8:10]
    stopped = soban("run", model, "abc", "--max-new-tokens", "20", "--stop", "never", "--stop", stop).stdout.decode()
    assert stopped == whole[: whole.index(stop, 3)] + "\n"


def test_text_from_a_pipe_follows_the_prompt_after_a_blank_line(soban: Command, model: Path) -> None:
    done = soban("run", model, "sum up:", "--max-new-tokens", "2", stdin=b"one\ntwo\n")
    assert done.stdout.startswith(b"sum up:\n\none\ntwo") and done.stdout[16:18].isalpha()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_text_from_a_pipe_is_the_prompt_where_there_is_no_other(soban: Command, model: Path, encoding: str) -> None:
    done = soban("run", model, "--max-new-tokens", "1", stdin="동해 물과\r\n".encode(encoding))
    assert re.fullmatch("동해 물과[a-z]\n", done.stdout.decode())


def test_a_pipe_that_stays_silent_is_passed_over_with_a_note(model: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer):
        done = subprocess.run(
            [sys.executable, "-m", "soban", "run", model, "abc", "--max-new-tokens", "2", "--quiet"],
            stdin=reader, capture_output=True, timeout=30, env=environment(),
        )  # fmt: skip
    assert (done.returncode, done.stdout[:3]) == (0, b"abc")
    assert done.stderr == b"soban: nothing came in on stdin for a while, so the prompt stands alone\n"


@pytest.mark.skipif(sys.platform == "win32", reason="closes a file descriptor before the start")
def test_a_closed_stdin_is_no_trouble(model: Path) -> None:
    command = [sys.executable, "-m", "soban", "run", str(model), "abc", "--max-new-tokens", "2", "--quiet"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, timeout=30, env=environment()
    )
    assert (done.returncode, done.stdout[:3], done.stderr) == (0, b"abc", b"")


def test_the_reader_of_a_pipe_may_leave_early(model: Path) -> None:
    command = [sys.executable, "-m", "soban", "run", str(model), "abc\nabc", "--max-new-tokens", "40"]
    with ended(
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.read(1)
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line(model: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "soban", "run", model, "abc"], stdin=subprocess.DEVNULL, stdout=full,
            stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        b"soban: the text cannot be written (no space left); make room, or write it to another place\n",
    )


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "cp949"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_stdout_is_utf_8_in_any_locale(process: Command, chat_model: Path, locale: dict[str, str]) -> None:
    if not str(SOURCE).isascii() and "LC_ALL" in locale:
        pytest.skip("Python itself cannot read the path of an editable install in this locale")
    done = process("run", chat_model, "--raw", "--max-new-tokens", "1", stdin="한글 😀".encode(), **locale)
    assert re.fullmatch("한글 😀[a-z]\n", done.stdout.decode())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_at_a_terminal_the_status_is_erased_and_nothing_waits_for_keys(model: Path) -> None:
    import pty

    keeper, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "soban", "run", model, "abc", "--max-new-tokens", "2"],
            stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, timeout=30, env=environment(COLUMNS="200"),
        )  # fmt: skip
        shown = os.read(keeper, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(keeper)
    assert re.fullmatch(rb"abc[a-z]{2}\n", done.stdout)
    assert shown.startswith("loading the model ...\r   ")
    assert LINE.fullmatch(shown.rpartition("\r")[0].rpartition("\r")[2] + "\n")


@pytest.mark.parametrize("steps", [4, 10, 64])
def test_llama2c_s_n_counts_the_prompt(soban: Command, llama2c_model: Path, steps: int) -> None:
    done = soban("run", llama2c_model, "-t", "0", "-n", str(steps), "-i", "ab")
    # The prompt's tokens are a space, which is not shown, "a" and "b".
    assert re.fullmatch(rb"ab[a-z]{%d}\n" % (steps - 3), done.stdout)


def test_llama2c_s_n_of_0_is_the_whole_context(soban: Command, llama2c_model: Path) -> None:
    for steps in ("0", "1000"):
        assert len(soban("run", llama2c_model, "-t", "0", "-n", steps).stdout) == 64 + 1


def test_llama2c_s_short_flags_bring_its_defaults(soban: Command, llama2c_model: Path) -> None:
    short = soban("run", llama2c_model, "-s", "3", "-n", "40", "-i", "ab").stdout
    spelled_out = soban(
        "run", llama2c_model, "ab", "--seed", "3", "--temperature", "1", "--top-p", "0.9", "--top-k", "0",
        "--max-new-tokens", "37",
    )  # fmt: skip
    assert short == spelled_out.stdout
    assert short != soban("run", llama2c_model, "ab", "--seed", "3", "--max-new-tokens", "37").stdout


def test_run_c_shows_no_lone_byte_that_is_not_ascii(soban: Command, llama2c_model: Path) -> None:
    as_run_c = soban("run", llama2c_model, "-t", "0", "-n", "12", "-i", "가\tb").stdout
    assert re.fullmatch(rb"\tb[a-z]{6}\n", as_run_c)
    assert soban("run", llama2c_model, "가\tb", "--max-new-tokens", "6").stdout == "가".encode() + as_run_c


def test_the_text_of_run_c_is_printed_to_the_byte(soban: Command, fixtures: Path) -> None:
    folder = fixtures / "models" / "stories260K"
    for case in json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        done = soban(
            "run", folder / "stories260K.bin", "-z", folder / "tok512.bin", "-t", "0", "-n", str(case["steps"]),
            "-i", case["prompt"],
        )  # fmt: skip
        assert hashlib.sha256(done.stdout).hexdigest() == case["stdout_sha256"], case["prompt"]


def test_a_trained_model_writes_what_transformers_writes(soban: Command, fixtures: Path) -> None:
    folder = fixtures / "models" / "TinyStories-656K"
    case = json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"][0]
    done = soban("run", folder, case["prompt"], "--max-new-tokens", "256", "--greedy")
    assert done.stdout.decode() == case["text256"] + "\n"


CITY = {
    "type": "object", "properties": {"이름": {"type": "string", "maxLength": 5}, "구": {"enum": ["종로", "중"]}},
    "required": ["이름", "구"], "additionalProperties": False,
}  # fmt: skip


def test_a_text_has_the_form_that_is_asked_for(soban: Command, model: Path, chat_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "도시.json"
    file.write_text(json.dumps(CITY), encoding="utf-8")
    for which in (model, chat_model):
        done = soban("run", which, "abc", "--schema", file, "--max-new-tokens", "45")
        assert done.returncode == 0 and set(json.loads(done.stdout)) == {"이름", "구"}, done.stderr
    assert soban("run", model, "abc", "--choices", "예", "--choices", "아니요").stdout.decode() in ("예\n", "아니요\n")
    assert re.fullmatch(rb"[0-9]{3}\n", soban("run", model, "abc", "--regex", "[0-9]{3}").stdout)
    assert re.fullmatch(rb"[0-9]{3}\n", soban("run", model, "abc", "-t", "1.0", "--regex", "[0-9]{3}").stdout)


def test_a_form_that_cannot_be_is_refused_in_a_line(soban: Command, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"properties": {"이름": {"uniqueItems": true}}}', encoding="utf-8")
    flags = {
        "/properties/이름": ("--schema", bad), "cannot be read": ("--schema", tmp_path / "none.json"),
        "regex": ("--regex", "(?=a)"), "one form": ("--regex", "a", "--choices", "b"),
        "conversation": ("--regex", "a", "-m", "chat"), "room for 3": ("--regex", "a{9}", "--max-new-tokens", "3"),
    }  # fmt: skip
    for words, given in flags.items():
        done = soban("run", model, "abc", *given)
        assert done.returncode == 2 and words in done.stderr.decode() and done.stderr.count(b"\n") == 1, done.stderr
