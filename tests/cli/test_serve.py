"""`soban serve`, `ps` and `stop`: a process of its own, found and ended; what is wrong is told in one line first."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Command

HI = {"model": "soban", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of this test's own for what soban remembers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("SOBAN_API_KEY", raising=False)
    return tmp_path / "state" / "soban"


class Server:
    """A server of its own process, and what it has said."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "soban", "serve", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        assert self.process.stderr is not None
        self.said = ""
        while not (found := re.search(r"http://[\w.\[\]:]+", self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found[0]
        self.port = int(self.url.rpartition(":")[2])

    def ended(self) -> tuple[int, str]:
        """Its exit code, and the rest of what it has said."""
        _, rest = self.process.communicate(timeout=30)
        return self.process.returncode, rest


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    one = Server("soban")
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.communicate()


def test_a_server_answers_is_shown_and_ends_when_it_is_told(server: Server, soban: Command, state: Path) -> None:
    assert httpx.post(f"{server.url}/v1/chat/completions", json=HI, timeout=60).status_code == 200
    shown = soban("ps").stdout.decode()
    assert server.url in shown and "soban" in shown.splitlines()[1]
    (one,) = json.loads(soban("ps", "--json").stdout)
    assert one["url"] == server.url and one["process"] == server.process.pid
    done = soban("stop", str(server.port))
    assert done.returncode == 0 and server.url in done.stderr.decode()
    code, said = server.ended()
    assert code == 0 and re.search(r"POST /v1/chat/completions 200 soban \d+\+3 tokens \d", said)
    assert b"no server is running" in soban("ps").stderr and not list((state / "servers").iterdir())
    assert soban("stop").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_being_written_comes_to_its_end(server: Server, number: signal.Signals) -> None:
    body = HI | {"max_tokens": 200, "stream": True, "temperature": 1.0, "seed": 3}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(number)
        rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    assert server.ended()[0] == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_a_port_that_is_taken_is_one_line(soban: Command, state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = soban("serve", "soban", "--port", str(port))
    assert done.returncode == 2 and done.stderr.decode().strip().splitlines()[-1].startswith(
        f"soban: port {port} is in use; "
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], ["0.0.0.0 can be reached", "--new-key"]),
        (["--host", "192.0.2.7", "--allow-host", "x"], ["192.0.2.7 can be reached"]),
        (["--port", "70000"], ["--port 70000"]),
        (["gemm2"], ["gemm2"]),
        (["soban+./nothing"], ["./nothing"]),
        (["--keep-alive", "soon"], ["--keep-alive soon", "5m"]),
        (["--timeout", "x"], ["--timeout x"]),
        (["--threads", "0"], ["0"]),
        (["soban", "--context", "9999999"], ["9999999"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_before_anything_runs(
    soban: Command, state: Path, flags: list[str], words: list[str]
) -> None:
    done = soban("serve", "--port", "0", *flags) if "--port" not in flags else soban("serve", *flags)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("soban: ")]
    assert done.returncode == 2 and len(lines) == 1 and all(word in lines[0] for word in words), done.stderr


def test_a_key_is_shown_once_and_kept_as_a_digest(soban: Command, state: Path) -> None:
    made = soban("serve", "--new-key", "mina")
    key = made.stdout.decode().strip()
    kept = (state / "keys.json").read_text(encoding="utf-8")
    assert made.returncode == 0 and len(key) > 40 and key not in kept and "mina" in kept
    assert os.name == "nt" or (state / "keys.json").stat().st_mode & 0o77 == 0
    assert soban("serve", "--new-key", "mina").returncode == 2
    server = Server("soban", "--host", "0.0.0.0")
    try:
        url = f"http://127.0.0.1:{server.port}/v1/models"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert soban("stop").returncode == 0
    finally:
        server.process.kill()
        server.process.communicate()
    assert soban("serve", "--forget-key", "mina").returncode == 0 and "mina" not in (state / "keys.json").read_text()
    assert soban("serve", "--forget-key", "mina").returncode == 2


def test_the_note_of_a_server_that_was_killed_is_removed(server: Server, soban: Command, state: Path) -> None:
    server.process.kill()
    server.process.communicate()
    assert list((state / "servers").iterdir())
    assert b"no server is running" in soban("ps").stderr
    assert not list((state / "servers").iterdir())


def test_an_application_of_ones_own_has_the_models_below_a_path(chat_folder: Path) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    import soban as library

    app = FastAPI()
    app.mount("/llm", library.serve.app(["soban", str(chat_folder)]))
    with TestClient(app) as client:
        answer: Any = client.post("/llm/v1/chat/completions", json=HI)
        assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"]
        assert client.post("/llm/v1/chat/completions", json={}).json()["error"]["param"] == "messages"
        assert client.post("/llm/api/chat", json={}).json()["error"]


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    from ..tiny import make_model

    return make_model(tmp_path / "tiny", chat=True)
