"""The packed cache: one path for one content, one process at a time, and nothing left lying about."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base import files
from soban.base.errors import UserError
from soban.packing import packed_file
from soban.weights.checkpoint import Checkpoint
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import write_safetensors


def checkpoint(folder: Path) -> Checkpoint:
    """A model with one tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text("{}", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", [("a", "F32", (4,))], lambda _: [np.ones(4, np.float32)])
    return open_checkpoint(folder)


def test_the_path_changes_with_what_is_packed_and_how(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "한글 모델")
    path = packed_file.packed_path(one, "q8-avx2", tmp_path / "cache")
    assert path.parent == tmp_path / "cache" / "packed" and not path.parent.exists()
    assert re.fullmatch(r"한글_모델-q8-avx2-[0-9a-f]{16}\.safetensors", path.name)
    assert packed_file.packed_path(checkpoint(tmp_path / "한글 모델"), "q8-avx2", tmp_path / "cache") == path
    others = {packed_file.packed_path(one, "q4-avx2", tmp_path / "cache").name}
    others.add(
        packed_file.packed_path(checkpoint(tmp_path / "다른 것" / "한글 모델"), "q8-avx2", tmp_path / "cache").name
    )
    state = one.files[1].stat()
    os.utime(one.files[1], ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    others.add(packed_file.packed_path(one, "q8-avx2", tmp_path / "cache").name)
    (tmp_path / "한글 모델" / "config.json").write_text("{ }", encoding="utf-8")
    os.utime(one.files[0], ns=(1, 1))
    others.add(packed_file.packed_path(one, "q8-avx2", tmp_path / "cache").name)
    assert len(others) == 4 and path.name not in others


def test_a_relative_path_and_its_absolute_one_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = packed_file.packed_path(checkpoint(tmp_path / "model"), "q8", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert packed_file.packed_path(open_checkpoint(Path("model")), "q8", tmp_path) == absolute


def test_a_snapshot_is_named_after_its_model_and_long_names_are_cut(tmp_path: Path) -> None:
    snapshot = checkpoint(tmp_path / "models--owner--tiny" / "snapshots" / "c0ffee")
    assert packed_file.packed_path(snapshot, "q8", tmp_path).name.startswith("models--owner--tiny-q8-")
    long = checkpoint(tmp_path / ("가" * 80))
    assert len(packed_file.packed_path(long, "k" * 40, tmp_path).name.encode()) < 255 - len("..01234567.tmp")


def test_a_file_that_vanished_is_reported(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "model")
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        packed_file.packed_path(one, "q8", tmp_path)


def test_the_cache_lies_where_the_system_keeps_such_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("SOBAN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for platform, default, variable in (
        ("linux", ".cache/soban", "XDG_CACHE_HOME"),
        ("win32", "AppData/Local/soban", "LOCALAPPDATA"),
        ("darwin", "Library/Caches/soban", None),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert packed_file.cache_folder() == tmp_path / default
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
            assert packed_file.cache_folder() == tmp_path / "elsewhere" / "soban"
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "내 것"))
    assert packed_file.cache_folder() == tmp_path / "내 것"


PACK = """
import sys
from pathlib import Path
from soban.packing.packed_file import locked
from soban.weights.safetensors import read_safetensors, write_safetensors

def slowly(_):
    print("packing", flush=True)
    sys.stdin.readline()
    yield bytes(64)

path = Path(sys.argv[1])
with locked(path):
    if not path.exists():
        write_safetensors(path, [("x", "U8", (64,))], slowly)
print(len(read_safetensors(path)[0]["x"].data))
"""


def test_one_process_packs_and_the_other_waits_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "캐시" / "packed" / "x.safetensors"
    command = [sys.executable, "-c", PACK, str(path)]
    environment = os.environ | {"SOBAN_LANG": "en", "PYTHONUTF8": "1"}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"text": True}
    first = subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)
    assert first.stdout is not None and first.stdout.readline() == "packing\n"
    second = subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)
    assert second.stderr is not None and "x.safetensors is being packed by another process" in second.stderr.readline()
    assert first.communicate("go on\n")[0] == "64\n" and first.returncode == 0
    assert second.communicate()[0] == "64\n" and second.returncode == 0
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}


def test_a_process_that_is_killed_while_packing_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x y.safetensors"
    command = [sys.executable, "-c", PACK.replace("0.7", "60"), str(path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "packing\n"
    first.kill()
    first.communicate()
    assert not path.exists()
    (leftover,) = tmp_path.glob(".x y*")
    os.utime(leftover, (time.time() - 90_000,) * 2)
    command = [sys.executable, "-c", PACK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "packing\n64\n" and not leftover.exists()


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(RuntimeError), packed_file.locked(path):
        raise RuntimeError
    with packed_file.locked(path):
        pass


def test_a_cache_that_cannot_be_written_is_told_apart_from_other_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(packed_file.CacheUnavailableError, match="set SOBAN_CACHE"),
        packed_file.locked(tmp_path / "file" / "x"),
    ):
        pass


def test_temporary_files_older_than_a_day_are_removed(tmp_path: Path) -> None:
    names = [".a.safetensors.0123abcd.tmp", ".b.safetensors.0123abcd.tmp", "a.safetensors", ".other.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        if name != names[1]:
            os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    with packed_file.locked(tmp_path / "x.safetensors"):
        assert {name for name in names if (tmp_path / name).exists()} == set(names[1:])


def test_free_space_is_that_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    import shutil

    free = shutil.disk_usage(tmp_path).free
    assert abs(files.free_bytes(tmp_path / "not" / "yet" / "made") - free) < 0.05 * free
