"""A hub of its own for each test, and a cache that only it uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from soban.hub import fetching, session
from tests.hub.stub import Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The environment points to it; nobody waits long."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(fetching, "WAITS", (0.01,) * 4)
    monkeypatch.setattr(session, "WAITS", (0.01,) * 3)
    monkeypatch.setattr(fetching, "TICK", 0.02)
    with Hub() as hub:
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the hub's models go."""
    return tmp_path / "home" / "hub"
