"""The cache of packed models: what of it is still good, and that nothing else is deleted."""

import os
import shutil
from pathlib import Path

import pytest

from soban.loading.loaded import load_files
from soban.packing import packed_file as packed_files
from soban.packing import stored
from tests.cli import tiny


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "캐시"))
    return tmp_path / "캐시"


@pytest.fixture
def packed(tmp_path: Path, cache: Path) -> Path:
    """A model of which soban has packed the weights; its folder."""
    folder = tiny.folder(tmp_path / "작은 모델")
    load_files(folder, dtype="q8", tokenizer=None, force=False)
    return folder


def weights() -> stored.Kept:
    return next(one for one in stored.packed_files() if one.kind == "q8")


def test_a_packed_file_tells_of_what_it_was_made(packed: Path) -> None:
    one = weights()
    assert one.state == "current" and one.source == packed.resolve() and one.bytes == one.path.stat().st_size
    assert not one.spare


def test_a_model_that_changes_leaves_its_packed_file_behind(packed: Path) -> None:
    before = weights().path
    config = packed / "model.safetensors"
    os.utime(config, (1, 1))
    assert weights().state == "changed" and weights().spare
    load_files(packed, dtype="q8", tokenizer=None, force=False)
    states = {one.path: one.state for one in stored.packed_files() if one.kind == "q8"}
    assert states.pop(before) == "changed" and list(states.values()) == ["current"]


def test_a_file_of_the_model_that_is_missing_is_a_change(packed: Path) -> None:
    (packed / "model.safetensors").unlink()
    assert weights().state == "changed"


def test_a_model_that_is_gone_leaves_its_packed_file_behind(packed: Path) -> None:
    shutil.rmtree(packed)
    assert weights().state == "gone" and weights().spare


def test_files_that_do_not_tell_are_of_unknown_origin_and_strangers_are_left_alone(cache: Path) -> None:
    folder = cache / "packed"
    folder.mkdir(parents=True)
    (folder / "model-q4-0123456789abcdef.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "broken-q4-0123456789abcdee.safetensors").write_bytes(b"nonsense")
    (folder / ".model-q4-0123456789abcdef.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    (folder / "model-q4-0123456789abcdef.safetensors.lock").touch()
    (folder / "notes.txt").write_text("mine")
    (folder / "link-q4-0123456789abcded.safetensors").symlink_to(folder / "notes.txt")
    states = {one.path.name: one.state for one in stored.packed_files()}
    assert states == {
        "model-q4-0123456789abcdef.safetensors": "unknown",
        "broken-q4-0123456789abcdee.safetensors": "unknown",
        ".model-q4-0123456789abcdef.safetensors.0a1b2c3d.tmp": "unfinished",
    }
    for one in stored.packed_files():
        stored.remove(one)
    assert sorted(path.name for path in folder.iterdir()) == ["link-q4-0123456789abcded.safetensors", "notes.txt"]


def test_what_another_process_makes_just_now_is_left_alone(cache: Path) -> None:
    path = cache / "packed" / "model-q4-0123456789abcdef.safetensors"
    with packed_files.locked(path):
        path.with_name(f".{path.name}.0a1b2c3d.tmp").write_bytes(b"half")
        (one,) = stored.packed_files()
        assert one.state == "begun" and not one.spare
    (one,) = stored.packed_files()
    assert one.state == "unfinished" and one.spare


@pytest.mark.parametrize(
    "origin",
    [
        '["/", "x"]',
        '["/x", [1]]',
        "[]",
        "nonsense",
        '[{"a": 1}, []]',
        '["\\u0000", ["a"]]',
        '["/etc", ["../../passwd"]]',
    ],
)
def test_an_origin_of_nonsense_does_no_harm(cache: Path, origin: str) -> None:
    from soban.weights.safetensors import write_safetensors

    (cache / "packed").mkdir(parents=True)
    write_safetensors(
        cache / "packed" / "x-q4-0123456789abcdef.safetensors", [], lambda name: [], {"soban.origin": origin}
    )
    (one,) = stored.packed_files()
    assert one.state in ("unknown", "gone", "changed")


def test_no_cache_folder_is_an_empty_one(cache: Path) -> None:
    assert stored.packed_files() == []
