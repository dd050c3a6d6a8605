"""Memory that runs short while a model writes is noticed and said once; weights larger than memory still answer."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import soban
from soban.base import system
from soban.base.system import Paging
from soban.resources import disk, pressure

from ..tiny import make_model

GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[Paging]:
    """What the system says, one after the other; every look finds that it is time."""
    said: list[Paging] = []
    monkeypatch.setattr(system, "paging", lambda: said.pop(0) if said else None)
    monkeypatch.setattr(pressure, "SECONDS", 0.0)
    return said


def test_waiting_for_pages_that_had_gone_is_swapping() -> None:
    before = Paging(0, 5.0)
    assert pressure.swaps(before, Paging(900 << 20, 5.4), 2.4)  # as measured in a group of half the model's size
    assert not pressure.swaps(before, Paging(900 << 20, 5.0), 2.4)  # as measured when a model is read the first time
    assert not pressure.swaps(before, Paging(1 << 20, 7.0), 2.4)  # another program's waiting


def test_where_no_waiting_is_told_memory_that_is_all_but_gone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((100 << 20, True), (4 << 30, False), (None, False)):
        monkeypatch.setattr(system, "available_memory", lambda free=free: free)
        assert pressure.swaps(Paging(0, None), Paging(900 << 20, None), 3.0) is expected


def test_it_is_said_once_with_the_remedy(
    tmp_path: Path, counts: list[Paging], caplog: pytest.LogCaptureFixture
) -> None:
    model = soban.load(make_model(tmp_path / "model"))
    counts += [Paging(n << 40, 1e6 * n) for n in range(50)]
    with caplog.at_level(logging.WARNING, "soban"):
        model.generate("a", max_new_tokens=8)
        model.generate("b", max_new_tokens=8)
    said = [record.getMessage() for record in caplog.records if "memory is short" in record.getMessage()]
    assert len(said) == 1 and "--dtype q4" in said[0] and re.search(r"\d+ MB came from the disk", said[0])


def test_a_system_that_tells_nothing_is_not_asked_again(tmp_path: Path, counts: list[Paging]) -> None:
    assert soban.load(make_model(tmp_path / "model")).generate("a", max_new_tokens=4)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_comes_from_the_disk_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(16 << 20))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        assert system.forget_pages(file, 0, 16 << 20)
        before = system.paging()
        file.read()
        after = system.paging()
    if before is None or after is None or after.read == before.read:
        pytest.skip("this file system keeps its files in memory")
    assert 8 << 20 < after.read - before.read < 64 << 20


def test_the_speed_of_a_disk_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(disk, "measure", lambda path: asked.append(path) or 5e8)
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert disk.disk_rate(path) == disk.disk_rate(path) == 5e8 and asked == [path]
    (tmp_path / "cache" / disk.MEMORY).write_text(f'{{"{path.stat().st_dev}": "fast"}}', encoding="utf-8")
    assert disk.disk_rate(path) == 5e8 and len(asked) == 2
    assert disk.disk_rate(tmp_path / "missing") is None


@pytest.mark.skipif(sys.platform != "linux", reason="pages are dropped on Linux only")
def test_a_disk_has_a_speed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20) * 80)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    rate = disk.measure(path)
    assert rate is not None and 1e6 < rate < 1e12
    path.write_bytes(b"short")
    assert disk.measure(path) is None


def test_weights_that_do_not_fit_take_the_time_to_read_all_of_them() -> None:
    # 1.83 GB from a disk of 0.95 GB/s took 1.9 to 2.0 s a token, with memory for half of them and for nearly all
    assert disk.decode_rate(1_830_000_000, 900_000_000, 0.95e9) == pytest.approx(1 / 1.93, rel=0.05)
    assert disk.decode_rate(1_830_000_000, 1_700_000_000, 0.95e9) == pytest.approx(1 / 1.93, rel=0.05)
    assert disk.decode_rate(100, 100, 0.95e9, 7.0) == 7.0
    assert disk.decode_rate(100, 99, None, 7.0) is None
    assert disk.decode_rate(1000, 0, 1000.0, 1.0) == 0.5  # a second of reading and one of computing


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of memory of our own (version 1, and only root may make one)."""
    made = GROUPS / f"soban-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError:
        pytest.skip("no control group of memory can be made here")
    try:
        if not (made / "memory.limit_in_bytes").exists():
            pytest.skip("no control groups of version 1")
        yield made
    finally:
        made.rmdir()


WRITE = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
import soban
from soban.base import system
file = open(sys.argv[3], "rb")
system.forget_pages(file, 0, os.path.getsize(sys.argv[3]))
model = soban.load(sys.argv[2], dtype="q8", context=32)
print("free", system.available_memory())
print("text", model.generate("abc", raw=True, do_sample=False, max_new_tokens=4))
"""


def test_a_model_larger_than_its_control_group_answers_the_same_with_a_warning(
    tmp_path: Path, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    folder = make_model(tmp_path / "model", hidden_size=1024, intermediate_size=8192, num_hidden_layers=4, head_dim=64)
    text = soban.load(folder, dtype="q8", context=32).generate("abc", raw=True, do_sample=False, max_new_tokens=4)
    (packed,) = (path for path in (tmp_path / "cache" / "packed").glob("*-q8-*.safetensors"))
    limit = 96 << 20
    assert packed.stat().st_size > limit  # 110 MB
    (group / "memory.limit_in_bytes").write_text(str(limit))
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(group), str(folder), str(packed)], capture_output=True, text=True,
        env={**os.environ, "SOBAN_THREADS": "1"}, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    free = int(re.search(r"free (-?\d+)", done.stdout)[1])  # type: ignore[index]
    assert free < limit
    assert done.stdout.endswith(f"text {text}\n")
    assert "come from the disk for every token" in done.stderr
