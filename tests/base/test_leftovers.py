"""What killed processes have begun: the next one that makes the same removes it, and never what a living one makes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from soban.base import leftovers, system
from soban.base.files import new_file, new_folder
from soban.cli.terminal import history
from soban.hub import access
from soban.talk.transcript import Transcript, write_transcript
from tests.processes import ended

NOW = sys.platform != "win32"  # elsewhere nobody can be asked who lives: a day passes first


def file(path: Path) -> None:
    with new_file(path, 1) as made:
        made.write(b"x")


def folder(path: Path) -> None:
    with new_folder(path, 1) as made:
        (made / "config.json").write_text("{}", encoding="utf-8")


def begun_by(process: int, path: Path) -> Path:
    return path.with_name(f".{path.name}.{process:06x}7f.tmp")


def begin(path: Path, seconds_ago: float) -> None:
    """A folder or file that was last written so long ago."""
    if path.suffix == ".tmp" and "model" in path.name:
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"half")
    else:
        path.write_bytes(b"half")
    os.utime(path, (time.time() - seconds_ago,) * 2)


def makers(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Callable[[], object]]:
    """What makes each kind of thing."""
    monkeypatch.setattr(system, "cache_folder", lambda: place)
    monkeypatch.setattr(access.place, "token_file", lambda: place / "token")
    talk = Transcript([{"role": "user", "content": "안녕"}])
    return {
        place / "x.bin": lambda: file(place / "x.bin"),
        place / "model [1]": lambda: folder(place / "model [1]"),
        place / "talk.json": lambda: write_transcript(place / "talk.json", talk),
        place / "known.json": lambda: system.remember("known.json", {"a": 1}),
        place / "token": lambda: access.save("hf_x"),
        place / "history.jsonl": lambda: history._replace(place / "history.jsonl", ["a"]),
    }


def test_what_a_killed_process_has_begun_goes_and_what_a_living_one_makes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ended(subprocess.Popen([sys.executable, "-c", ""])) as dead:
        dead.wait()
    with ended(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)) as living:
        for path, make in makers(tmp_path, monkeypatch).items():
            stays = [begun_by(living.pid, path), begun_by(os.getpid(), path), path.with_name(f".{path.name}.tmp")]
            goes = begun_by(dead.pid, path)
            for one in (*stays, goes):
                begin(one, 0 if NOW else 90_000 * (one == goes))
            make()
            assert path.exists() and not goes.exists(), path
            assert all(one.exists() for one in stays), path
            assert len(list(tmp_path.glob(f".{path.name.split()[0]}*"))) == len(stays), path


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is known when a process began")
def test_a_number_that_another_process_has_by_now_protects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the next run often has the very number of the one that was killed."""
    own = leftovers._began(os.getpid())
    assert own is not None and time.time() - 24 * 3600 < own <= time.time()
    with ended(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)) as living:
        began = leftovers._began(living.pid)
        assert began is not None and abs(began - time.time()) < 5
    for path, make in makers(tmp_path, monkeypatch).items():
        begin(begun_by(os.getpid(), path), time.time() - own + 60)
        make()
        assert path.exists() and not begun_by(os.getpid(), path).exists(), path


def test_where_nobody_knows_when_a_process_began_a_day_passes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_began", lambda process: None)
    for name, seconds, there in (("new", 80_000, True), ("old", 90_000, False)):
        begin(begun_by(os.getpid(), tmp_path / name), seconds)
        file(tmp_path / name)
        assert begun_by(os.getpid(), tmp_path / name).exists() is there
