"""Limits of the system: a disk that is full after any number of bytes, and less memory than a library needs."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import soban
from soban.base.errors import UserError
from soban.cli import main
from soban.talk.transcript import Transcript, write_transcript
from tests.cli import tiny
from tests.faults import leftovers
from tests.tiny import make_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has these limits")


@contextmanager
def files_of(most: int) -> Iterator[None]:
    """No file may become longer than that: the system says so in the middle of a write, as with a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def packing(folder: Path) -> None:
    os.environ["SOBAN_CACHE"] = str(folder / "cache")
    soban.load(folder / "model", dtype="q8")


def saving(folder: Path) -> None:
    write_transcript(folder / "talk.json", Transcript([{"role": "user", "content": "가" * 30_000}]))


def converting(folder: Path) -> None:
    command("convert", folder / "model", folder / "out.bin", "--weights-only")


def making_data(folder: Path) -> None:
    command("data", folder / "글.txt", "--out", folder / "data", "--force")


def command(*words: str | Path) -> None:
    if (code := main([*map(str, words)])) == 2:
        raise UserError("told")
    assert code == 0


@pytest.mark.parametrize("flow", [packing, saving, converting, making_data])
def test_a_disk_that_is_full_after_any_number_of_bytes(
    tmp_path: Path, flow: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    (tiny.folder if flow is converting else make_model)(base / "model")
    (base / "글.txt").write_text(
        "\n\n".join(f"{n}번째 이야기예요. " + " ".join(f"{n * w % 97}번 돌" for w in range(30)) for n in range(12)),
        encoding="utf-8",
    )
    refused = 0
    for number, most in enumerate((0, 1, 100, 3_000, 30_000, 1 << 30)):
        folder = tmp_path / str(number)
        shutil.copytree(base, folder)
        try:
            with files_of(most):
                flow(folder)
        except UserError as error:
            assert most < 1 << 30 and "\n" not in str(error)
            assert "unexpected" not in capsys.readouterr().err
            refused += 1
            flow(folder)
        assert not leftovers(folder), most
    assert refused >= 3


@pytest.mark.parametrize("megabytes", [50, 130])
def test_less_memory_than_a_library_needs_is_one_line(tmp_path: Path, megabytes: int) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    environment = os.environ | {"SOBAN_CACHE": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "soban", "run", "Once", "-n", "3"], capture_output=True, text=True, env=environment,
        preexec_fn=limited,
    )  # fmt: skip
    # OpenBLAS ends the process itself where it gets nothing, with a line of its own and exit code 1
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
