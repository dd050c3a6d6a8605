"""A server on loopback in a thread of this process, with a tiny model that answers and one that goes on."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

import soban
from soban.serve.app import application
from soban.serve.guard import Record
from soban.serve.running import Protocol
from soban.serve.settings import Settings

from ..tiny import make_model

pytest.importorskip("httpx")


@dataclass
class Running:
    """A server that runs, and what it has told of its requests."""

    url: str
    app: FastAPI
    records: list[Record] = field(default_factory=list)

    @property
    def model(self) -> soban.Model:
        """The first model that it has loaded."""
        model = next(iter(self.app.state.pool.bases.values())).model
        assert isinstance(model, soban.Model)
        return model

    def idle(self) -> bool:
        """Whether nothing is being written any more."""
        return all(base.pump.idle and not base.model.engine.busy for base in self.app.state.pool.bases.values())

    def wait_until_idle(self, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while not self.idle():
            assert time.monotonic() < until, "something is still being written"
            time.sleep(0.01)


Starter = Callable[..., Running]


@pytest.fixture(scope="module")
def start() -> Iterator[Starter]:
    """Starts servers with the given settings; they end with the module."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(*models: str, **settings: Any) -> Running:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        found = Running(f"http://127.0.0.1:{listening.getsockname()[1]}", None)  # type: ignore[arg-type]
        found.app = application(Settings(models, **settings), found.records.append)
        config = uvicorn.Config(found.app, http=Protocol, log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return found

    yield begin
    for server, _ in running:
        server.should_exit = True
    for _, thread in running:
        thread.join(20)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights, whose answers are long: no end comes by chance soon."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny", chat=True, max_position_embeddings=512)


@pytest.fixture(scope="module")
def server(start: Starter, chat_model: Path) -> Running:
    """A server for the bundled model and the tiny one."""
    return start("soban", str(chat_model))
