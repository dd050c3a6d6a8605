"""Instruction sets are believed after they were tried: once, in a child process that may die of it."""

import json
import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from soban import messages
from soban.base import system
from soban.ops import native, probe

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs the native library")
DIES = """
import ctypes, os, signal, sys
if sys.argv[2] == "{number}" and sys.platform == "win32":
    ctypes.windll.kernel32.TerminateProcess(ctypes.c_void_p(-1), 0xC000001D)
elif sys.argv[2] == "{number}":
    os.kill(os.getpid(), signal.SIGILL)
sys.exit(60)
"""


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Verdicts of this test alone; the machine runs AVX2 and AVX-VNNI."""
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "isas", lambda: ("scalar", "avx2", "avxvnni"))
    native._fastest.cache_clear()
    messages._once.cache_clear()
    yield
    native._fastest.cache_clear()


@pytest.mark.parametrize("name", native.isas())
def test_every_instruction_set_of_this_machine_passes_its_trial(name: str) -> None:
    assert probe._try(native.library_path(), native.ISAS.index(name)) is True


def test_an_instruction_set_that_the_machine_does_not_claim_fails_it() -> None:
    assert probe._try(native.library_path(), 99) is False


@pytest.mark.parametrize(
    "child",
    [DIES.format(number=native.ISAS.index("avxvnni")), "import sys; sys.exit(61 if sys.argv[2] == '2' else 60)"],
)
def test_one_that_dies_or_miscalculates_is_replaced_by_the_next_with_one_line(
    child: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "CHILD", child)
    with caplog.at_level(logging.WARNING, "soban"):
        assert native.chosen_isa() == "avx2"
    assert caplog.messages == ["this processor claims avxvnni and fails with it, so avx2 takes its place"]
    assert native.chosen_isa() == "avx2" and len(caplog.messages) == 1


def test_where_all_fail_plain_code_is_left_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(61)")
    with caplog.at_level(logging.WARNING, "soban"):
        assert native.chosen_isa() == "scalar"
    assert len(caplog.messages) == 3 and "plain code" in caplog.messages[-1]


def test_a_processor_without_vectors_gets_plain_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "isas", lambda: ("scalar",))
    with caplog.at_level(logging.WARNING, "soban"):
        assert native.chosen_isa() == "scalar"
    assert len(caplog.messages) == 1 and "AVX2" in caplog.messages[0]


def test_an_instruction_set_by_force_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(61)")
    monkeypatch.setenv("SOBAN_ISA", "avxvnni")
    assert native.chosen_isa() == "avxvnni"


def test_a_verdict_is_remembered_and_read_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(60)")
    assert native.chosen_isa() == "avxvnni"
    verdicts = json.loads((system.cache_folder() / "instruction-sets.json").read_text(encoding="utf-8"))
    assert list(verdicts.values())[-1] is True

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr(subprocess, "run", nobody)
    best = 1.0
    for _ in range(20):
        probe._surroundings.cache_clear()
        start = time.perf_counter()
        assert probe.works(native.library_path(), "avxvnni", native.ISAS.index("avxvnni"))
        best = min(best, time.perf_counter() - start)
    assert best < 1e-3


def test_another_build_of_the_library_is_tried_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"22")
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(61 if sys.argv[1].endswith('other') else 60)")
    assert probe.works(one, "avx2", 1) and not probe.works(other, "avx2", 1) and probe.works(one, "avx2", 1)


@pytest.mark.parametrize("content", ["", "[]", '{"avx2": 1}', "\x00"])
def test_a_damaged_file_is_as_good_as_none(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = system.cache_folder() / "instruction-sets.json"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(60)")
    assert probe.works(native.library_path(), "avx2", 1)


def test_trouble_of_the_child_itself_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHILD", "raise SystemExit(1)")
    assert probe.works(native.library_path(), "avx2", 1)
    assert not (system.cache_folder() / "instruction-sets.json").exists()
    monkeypatch.setattr("sys.executable", "/usr/bin/some-program-with-python-inside")
    monkeypatch.setattr(probe, "CHILD", "import sys; sys.exit(61)")
    assert probe.works(native.library_path(), "avx2", 1)
