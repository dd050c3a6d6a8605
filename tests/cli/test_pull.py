"""`soban pull`, `login`, `logout` and `move` as a user has them, against a hub on loopback."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from soban import messages
from soban.cli.terminal import transfer
from soban.hub.fetching import Progress
from soban.weights.safetensors import write_safetensors
from tests import tiny
from tests.cli.conftest import Command, environment
from tests.cli.tmux import Terminal
from tests.hub.stub import Fault, Hub, Model, Token
from tests.weights.quantised.test_models import SETTINGS, pair

NAME = "owner/model"
TOKEN = "hf_ThisIsTheSecretOfTheTest"
FILES: dict[str, bytes | Path] = {
    "config.json": b"{}",
    "tokenizer.json": b"[1]",
    "model.safetensors": os.urandom(2_000_000),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as hub:
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        hub.models[NAME] = Model(dict(FILES))
        yield hub


def started(*words: str | Path, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "soban", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(**changes),
    )  # fmt: skip


def test_the_folder_goes_to_stdout_and_a_second_time_nothing_is_fetched(
    hub: Hub, soban: Command, tmp_path: Path
) -> None:
    done = soban("pull", NAME)
    assert done.returncode == 0
    folder = Path(done.stdout.decode().rstrip("\n"))
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    first, second = done.stderr.decode().splitlines()
    assert first == "owner/model: fetching 2.00 MB" and second.startswith("owner/model: fetched and checked in ")
    sent = hub.sent()
    again = soban("pull", NAME)
    assert again.stdout == done.stdout and b"up to date" in again.stderr and hub.sent() == sent
    offline = soban("pull", NAME, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, done.stdout)
    unreachable = soban("pull", NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert (unreachable.returncode, unreachable.stdout) == (0, done.stdout)
    assert b"cannot be reached" in unreachable.stderr and b"the copy on this PC is used" in unreachable.stderr
    assert b"models in the cache work without" in unreachable.stderr


def test_models_of_the_cache_are_a_remedy_only_where_there_are_any(hub: Hub, soban: Command) -> None:
    told = soban("pull", NAME, HF_ENDPOINT="http://127.0.0.1:9").stderr
    assert b"cannot be reached" in told and b"HTTPS_PROXY" in told and b"models in the cache" not in told


def test_another_cache_folder_is_used(hub: Hub, soban: Command, tmp_path: Path) -> None:
    done = soban("pull", NAME, "--cache-dir", tmp_path / "다른 곳", "-q")
    assert done.returncode == 0 and done.stderr == b""
    assert Path(done.stdout.decode().rstrip("\n")).is_relative_to(tmp_path / "다른 곳")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no model is named"),
        (("owner/none",), "the hub has no such model"),
        (("../../etc/passwd",), "passwd"),
        (("x" * 300 + "/y",), "xxx"),
        ((NAME, "--cache-dir", "/proc/none"), "cannot be written"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_one_line(
    hub: Hub, soban: Command, words: tuple[str, ...], said: str
) -> None:
    done = soban("pull", *words)
    text = done.stderr.decode()
    assert done.returncode == 2 and said in text and text.startswith("soban: ")
    assert text.count("\n") == 1 and "\x1b" not in text


def test_without_a_terminal_it_does_not_wait_for_consent(hub: Hub, soban: Command) -> None:
    hub.models[NAME].gated = "manual"
    done = soban("pull", NAME)
    assert done.returncode == 2 and b"no access token is set" in done.stderr
    done = soban("pull", NAME, SOBAN_LANG="ko")
    assert done.returncode == 2 and f"{hub.url}/owner/model".encode() in done.stderr


def test_it_waits_for_token_and_consent_and_then_fetches(hub: Hub, soban: Command) -> None:
    hub.models[NAME].gated = "manual"
    hub.tokens[TOKEN] = Token()
    code = (
        "import sys; from soban.hub import access; access.POLLS = (0.1,); from soban.cli import main; sys.exit(main())"
    )
    waiting = subprocess.Popen(
        [sys.executable, "-c", code, "pull", NAME, "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    )  # fmt: skip
    assert waiting.stderr is not None
    assert b"no access token is set" in waiting.stderr.readline()
    assert b"/settings/tokens and run soban login" in waiting.stderr.readline()
    assert b"Waiting until that is done" in waiting.stderr.readline()
    assert soban("login", "--token-stdin", stdin=TOKEN.encode() + b"\n").returncode == 0
    assert b"terms have not been accepted" in waiting.stderr.readline()
    hub.tokens[TOKEN].consented.add(NAME)
    out, rest = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and b"fetched and checked" in rest and Path(out.decode().strip()).is_dir()
    assert TOKEN.encode() not in rest


def test_ctrl_c_keeps_what_has_come_and_says_so(hub: Hub, soban: Command, tmp_path: Path) -> None:
    hub.models[NAME].faults["model.safetensors"] = Fault(rate=1e6, times=1)
    stopped = started("pull", NAME)
    end = time.monotonic() + 20
    while not list(tmp_path.rglob("*.part")) or hub.sent("model.safetensors") < 300_000:
        assert time.monotonic() < end
        time.sleep(0.02)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=20)
    assert stopped.returncode == 130
    first, last = said.decode().splitlines()
    assert "fetching 2.00 MB" in first
    assert last == "stopped; what has come is kept, and the same command goes on from there"
    before = hub.sent("model.safetensors")
    assert soban("pull", NAME).returncode == 0
    total = len(FILES["model.safetensors"])  # type: ignore[arg-type]
    assert before > 100_000 and total <= hub.sent("model.safetensors") < total + 1_000_000  # what was on the line


def test_a_silent_hub_is_waited_for_in_words_and_ctrl_c_then_keeps_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}", "HF_HOME": str(tmp_path / "home")}
        with Terminal("pull", NAME, columns=80, rows=20, **place) as terminal:
            terminal.see("asking the hub ...")
            terminal.press("C-c")
            said = terminal.see("stopped; nothing has come yet")
    assert "is kept" not in said


def test_the_bar_fits_a_terminal_of_80_columns_and_goes_at_the_end(hub: Hub) -> None:
    hub.models[NAME].faults["model.safetensors"] = Fault(rate=700_000)
    with Terminal("pull", NAME, columns=80, rows=10) as terminal:
        seen = [""]
        end = time.monotonic() + 30
        while "left with" not in seen[-1]:
            assert time.monotonic() < end
            time.sleep(0.1)
            seen.append(terminal.screen())
    bars = [screen for screen in seen if "[" in screen]
    assert bars and all("%" in screen and len(screen.splitlines()) == 1 for screen in bars)
    assert any(" left" in screen and "kB/s" in screen for screen in bars)
    assert "%" not in seen[-1] and "fetched and checked" in seen[-1]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_line_is_never_wider_than_the_terminal(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", language)
    for width in range(8, 130):
        for progress in (
            Progress(0, 0), Progress(0, 5_000_000_000), Progress(4_999_999_999, 5_000_000_000, 1234567.0),
            Progress(1, 2, phase="checking"), Progress(1, 2, phase="waiting"),
            Progress(1, 2, phase="retrying", note="연결이 끊어졌어요 " * 9),
        ):  # fmt: skip
            for name in ("gemma2:2b", "owner/" + "n" * 90):
                line = transfer.fitted(name, progress, width)
                assert messages.width(line) <= width, (width, name, progress)
                assert progress.phase != "fetching" or not progress.total or width < 60 or "%" in line
                assert "100 %" not in line


def test_login_keeps_the_token_for_its_owner_only_and_shows_it_nowhere(
    hub: Hub, soban: Command, tmp_path: Path
) -> None:
    hub.tokens[TOKEN] = Token("fineGrained", reads_gated=False)
    done = soban("login", "--token-stdin", stdin=b"\xef\xbb\xbf " + TOKEN.encode() + b"\r\n")
    path = tmp_path / "home" / "token"
    assert done.returncode == 0 and path.read_text() == TOKEN
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600
    said = done.stderr.decode()
    assert "logged in as tester with a fine-grained token" in said and "it may not read gated models" in said
    assert f"{hub.url}/settings/tokens" in said
    wrong = soban("login", "--token-stdin", stdin=b"hf_wrong")
    assert wrong.returncode == 2 and b"does not accept the token that was given" in wrong.stderr
    assert str(path).encode() not in wrong.stderr and path.read_text() == TOKEN
    nobody = soban("login")
    assert nobody.returncode == 2 and b"--token-stdin" in nobody.stderr
    typed, valued = soban("login", TOKEN), soban("login", f"--token-stdin={TOKEN}")
    assert typed.returncode == valued.returncode == 2 and b"paste it when asked" in typed.stderr
    out = soban("logout")
    assert out.returncode == 0 and not path.exists()
    for one in (done, wrong, nobody, typed, valued, out):
        assert TOKEN.encode() not in one.stdout + one.stderr
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()


def test_a_crash_report_holds_no_token(hub: Hub, tmp_path: Path) -> None:
    hub.tokens[TOKEN] = Token()
    code = (
        "import sys; from soban.hub import download, access\n"
        "def broken(*a): raise RuntimeError('unexpected')\n"
        "download._link = broken\n"
        "from soban.cli import main; sys.exit(main(['pull', 'owner/model']))"
    )
    changes = {"HF_TOKEN": TOKEN, "SOBAN_CACHE": str(tmp_path / "soban")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(**changes))
    assert done.returncode == 1 and b"a report is in" in done.stderr and TOKEN.encode() not in done.stderr
    reports = [path.read_text() for path in (tmp_path / "soban" / "reports").iterdir()]
    assert reports and all(TOKEN not in report and "unexpected" in report for report in reports)
    assert any(one.authorization == f"Bearer {TOKEN}" for one in hub.requests)


def test_login_asks_without_an_echo_and_explains_both_steps(hub: Hub, tmp_path: Path) -> None:
    hub.tokens[TOKEN] = Token()
    with Terminal("login", columns=120, rows=20) as terminal:
        asked = terminal.see("Token (it is not shown):")
        assert "/google/gemma-2-2b-it" in asked and "/settings/tokens" in asked
        terminal.type(TOKEN)
        terminal.press("Enter")
        assert TOKEN not in terminal.see("logged in as tester")
    assert (tmp_path / "home" / "token").read_text() == TOKEN


def test_the_cache_moves_with_one_command(hub: Hub, soban: Command, tmp_path: Path) -> None:
    folder = soban("pull", NAME).stdout.decode().strip()
    done = soban("move", tmp_path / "다른 디스크")
    assert (done.returncode, done.stdout.decode()) == (0, f"{tmp_path / '다른 디스크'}\n")
    assert soban("pull", NAME, HF_HUB_OFFLINE="1").stdout.decode().strip() == folder
    assert soban("move").returncode == 2


@pytest.mark.parametrize(("name", "said"), [("vicuna:7b", "pickle"), ("alpaca:7b", "difference to another model")])
def test_a_form_that_is_never_read_is_refused_before_anything_is_fetched(
    hub: Hub, soban: Command, name: str, said: str
) -> None:
    for words in (("pull", name), ("run", name, "hello")):
        done = soban(*words)
        text = done.stderr.decode()
        assert done.returncode == 2 and said in text and text.count("\n") == 1 and not hub.requests


def test_a_model_without_an_engine_is_fetched_with_a_warning_and_not_at_all_to_be_run(hub: Hub, soban: Command) -> None:
    told = b"no engine for t5 models yet"
    files = {**FILES, "config.json": b'{"model_type": "t5"}'}
    hub.models |= {"google-t5/t5-small": Model(files), "owner/unknown": Model(files)}
    refused = soban("run", "t5:small", "hello")
    assert refused.returncode == 2 and told in refused.stderr and not hub.requests
    known = soban("pull", "t5:small")
    assert known.returncode == 0 and known.stderr.count(told) == 1
    assert known.stderr.index(told) < known.stderr.index(b"fetched and checked")
    unknown = soban("pull", "owner/unknown")
    assert unknown.returncode == 0 and unknown.stderr.count(told) == 1
    shown = soban("show", "t5:base")
    assert shown.returncode == 0 and b"no engine for it yet, so" in shown.stdout and b"soban pull" not in shown.stdout
    assert b"soban pull" not in soban("show", "vicuna:7b").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs tmux")
@pytest.mark.slow
def test_a_terminal_that_becomes_narrower_keeps_no_piece_of_the_bar(hub: Hub) -> None:
    hub.models[NAME].faults["model.safetensors"] = Fault(rate=300_000)
    with Terminal("pull", NAME, columns=100, rows=20) as terminal:
        terminal.see("kB/s")
        terminal.resize(50, 20)
        screen = terminal.see("left with 0")
    assert "%" not in screen and "[#" not in screen and "..]" not in screen


UNSUITABLE: dict[str, tuple[dict[str, object], str]] = {
    "another family": ({"model_type": "t5"}, "it has no engine for t5 models yet"),
    "another activation": ({**tiny.CONFIG, "hidden_activation": "relu9"}, "relu9"),
    "quantised weights": ({**tiny.CONFIG, "quantization_config": {"quant_method": "hqq", "bits": 4}}, "hqq"),
    "a setting of theirs": (
        {**tiny.CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"x": {}}}},
        "dynamic",
    ),
}


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_what_soban_could_not_run_is_told_before_it_is_fetched(
    hub: Hub, soban: Command, tmp_path: Path, kind: str
) -> None:
    config, said = UNSUITABLE[kind]
    own = tiny.make_model(tmp_path / "model")
    if "quantization_config" in config:
        names = {"model.layers.0.self_attn.q_proj.qweight": ("I32", (8, 64)), "model.norm.weight": ("F32", (64,))}
        arrays = {"I32": np.zeros((8, 64), np.int32), "F32": np.zeros(64, np.float32)}
        told = [(name, *about) for name, about in names.items()]
        (own / "model.safetensors").unlink()
        write_safetensors(own / "model.safetensors", told, lambda name: [arrays[names[name][0]]])
    files = {path.name: path.read_bytes() for path in own.iterdir()}
    files["config.json"] = json.dumps(config).encode()
    hub.models[NAME] = Model(dict(files))
    refused = soban("run", NAME, "hello")
    assert (refused.returncode, refused.stdout) == (2, b"")
    *_, last = refused.stderr.decode().splitlines()
    assert last.startswith("soban: owner/model: soban cannot run this model: ") and said in last
    assert hub.sent("model.safetensors") < len(files["model.safetensors"])
    done = soban("pull", NAME)
    assert done.returncode == 0
    first, *others = done.stderr.decode().splitlines()
    assert first.startswith("soban: owner/model: soban can fetch this model, but not run it: ") and said in first
    assert others[-1].startswith("owner/model: fetched and checked in ") and len(others) == 2


def test_what_soban_runs_is_fetched_without_a_word_also_with_stale_words_about_quantisation(
    hub: Hub, soban: Command, tmp_path: Path
) -> None:
    own = tiny.make_model(tmp_path / "model", quantization_config={"quant_method": "gptq", "bits": 4})
    (own / "model.safetensors").rename(own / "weights-of-mine.safetensors")
    hub.models[NAME] = Model({path.name: path.read_bytes() for path in own.iterdir()})
    first, second = soban("pull", NAME).stderr.decode().splitlines()
    assert "fetching" in first and "fetched and checked" in second
    done = soban("run", NAME, "abc", "-q", "--max-new-tokens", "3")
    assert done.returncode == 0 and done.stdout.startswith(b"abc")


@pytest.mark.parametrize("method", SETTINGS)
def test_what_another_program_has_quantised_is_fetched_without_a_word_and_runs(
    hub: Hub, soban: Command, tmp_path: Path, method: str
) -> None:
    own, plain = pair(tmp_path, "llama", method)
    hub.models[NAME] = Model({path.name: path.read_bytes() for path in own.iterdir()})
    first, second = soban("pull", NAME).stderr.decode().splitlines()
    assert "fetching" in first and "fetched and checked" in second
    options = ("abc", "-q", "--max-new-tokens", "8", "--dtype", "f32")
    done, wanted = soban("run", NAME, *options), soban("run", str(plain), *options)
    assert done.returncode == 0 and done.stdout == wanted.stdout


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(hub: Hub, soban: Command) -> None:
    hub.models[NAME] = Model({"config.json": b"{}", "tokenizer.json": b"[1]", "model.onnx": b"ONNX" * 100})
    done = soban("pull", NAME)
    assert done.returncode == 2 and b"no safetensors in it, only ONNX" in done.stderr
    assert not hub.sent("model.onnx")
