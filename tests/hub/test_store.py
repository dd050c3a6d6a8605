"""The cache on disk: what is held, listed, removed and moved, judged by the disk and by huggingface_hub."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from soban.base.errors import Finding, UserError
from soban.hub import download, moving, place, store
from soban.hub.fetching import Progress
from soban.hub.names import Repository
from soban.measure import checkup
from soban.weights.opening import open_checkpoint
from tests.hub.stub import Hub, Model
from tests.hub.test_stub import client

FILES: dict[str, bytes | Path] = {"config.json": b"{}", "tokenizer.json": b"[1]", "model.safetensors": b"x" * 50_000}


def quiet(_: Progress) -> None:
    """Shows nothing."""


def pulled(hub: Hub, name: str, **changes: bytes) -> Path:
    files = {**FILES, **{key.replace("_", "."): value for key, value in changes.items()}}
    hub.models[name] = Model(dict(files))
    return download.pull(Repository(name), quiet)


def test_the_list_has_every_model_with_its_bytes(hub: Hub) -> None:
    one, two = pulled(hub, "a/one"), pulled(hub, "b/two-x")
    held = store.models()
    assert [(m.id, m.revision, m.folder, m.complete) for m in held] == [
        ("a/one", "main", one, True), ("b/two-x", "main", two, True)
    ]  # fmt: skip
    assert all(model.bytes == 50_005 for model in held)
    assert all(abs(model.used - one.stat().st_mtime) < 60 for model in held)


def test_removing_one_revision_keeps_what_another_uses(hub: Hub, cache: Path) -> None:
    old = pulled(hub, "a/one")
    new = pulled(hub, "a/one", config_json=b'{"new": 1}')
    held = {model.folder: model for model in store.models()}
    assert held[new].revision == "main" and held[old].revision == old.name
    freed = store.remove(held[old])
    assert 0 < freed < 1000 and not old.exists()
    assert store.complete_folder(Repository("a/one")) == new
    assert (new / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert store.remove(held[new]) >= 50_000
    assert store.models() == [] and not list(cache.glob("models--*"))


def test_a_cache_that_is_damaged_or_strange_is_listed_without_trouble(hub: Hub, cache: Path) -> None:
    assert store.models() == []
    for path in ("models--a--b/refs/main", "models--c--d/snapshots/x/y", "models--e", "datasets--a--b/refs/main", "x"):
        (cache / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_bytes(b"\xff\xfe")
    assert [(model.id, model.complete) for model in store.models()] == [("c/d", False)]
    assert store.complete_folder(Repository("a/b")) is None


@pytest.mark.parametrize("revision", ["..", "../../x", "/etc", "a\0b", "", "x" * 5000])
def test_a_revision_cannot_lead_elsewhere(hub: Hub, revision: str) -> None:
    assert store.complete_folder(Repository("a/b", revision)) is None


def test_a_link_to_nothing_is_not_held(hub: Hub) -> None:
    folder = pulled(hub, "a/one")
    (folder / "model.safetensors").resolve().unlink()
    assert store.complete_folder(Repository("a/one")) is None
    assert download.pull(Repository("a/one"), quiet) == folder
    assert store.complete_folder(Repository("a/one")) == folder


@pytest.mark.parametrize("other_disk", [False, True])
def test_a_moved_cache_is_found_by_everybody(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    if other_disk:
        target = Path("/dev/shm") / f"soban-test-{os.getpid()}"
        if not target.parent.is_dir() or target.parent.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second disk")
    else:
        target = tmp_path / "다른 디스크" / "models"
    try:
        folder = pulled(hub, "a/one")
        seen: list[Progress] = []
        moved = moving.move(target, seen.append)
        assert moved == moving.Moved(target, True, None)
        assert (target / "models--a--one").is_dir() and cache.is_symlink()
        assert store.complete_folder(Repository("a/one")) == folder
        assert not other_disk or seen[-1].done == seen[-1].total > 0
        count = hub.sent()
        assert download.pull(Repository("a/one"), quiet) == folder and hub.sent() == count
        code = "import huggingface_hub as h; print(h.snapshot_download('a/one'))"
        assert Path(client(hub, tmp_path / "home", code, HF_HUB_OFFLINE="1").strip()).resolve() == folder.resolve()
        again = tmp_path / "third"
        assert moving.move(again, quiet).folder == again and cache.resolve() == again
        assert store.complete_folder(Repository("a/one")) == folder and not list(target.glob("models*"))
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_a_move_that_is_stopped_leaves_all_as_it_was_and_goes_on_later(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pulled(hub, "a/one")
    target = Path("/dev/shm") / f"soban-test-{os.getpid()}"
    if not target.parent.is_dir() or target.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk")

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            moving.move(target, stop)
        assert store.complete_folder(Repository("a/one")) == folder and not cache.is_symlink()
        moving.move(target, quiet)
        assert cache.is_symlink() and store.complete_folder(Repository("a/one")) == folder
        assert not list(target.rglob("*.moving"))
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_a_cache_moves_only_where_it_can(hub: Hub, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no models to move"):
        moving.move(tmp_path / "x", quiet)
    pulled(hub, "a/one")
    (tmp_path / "file").write_bytes(b"")
    for target, said in (
        (cache, "there already"), (cache / "inner", "lies within"), (cache.parent, "lies within"),
        (tmp_path / "file", "not a folder"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            moving.move(target, quiet)
    (tmp_path / "x" / "models--a--one").mkdir(parents=True)
    with pytest.raises(UserError, match="there is one already"):
        moving.move(tmp_path / "x", quiet)
    assert store.complete_folder(Repository("a/one"))


def test_the_places_are_those_of_huggingface_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from huggingface_hub import constants as c; print(c.HF_HUB_CACHE, c.HF_TOKEN_PATH, c.ENDPOINT, sep='\\n')"
    for changes in (
        {}, {"HF_HOME": "~/x y"}, {"HF_HUB_CACHE": str(tmp_path / "c")}, {"XDG_CACHE_HOME": str(tmp_path / "xdg")},
        {"HF_TOKEN_PATH": "$HOME/t"}, {"HF_ENDPOINT": "https://hub.example/"},
    ):  # fmt: skip
        for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN_PATH", "HF_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        # only what is set here: the hub of the fixture has its own settings
        own = {**hub.environment(tmp_path), **changes}
        for name in ("HF_HOME", "HF_ENDPOINT"):
            if name not in changes:
                del own[name]
        said = _printed(code, own)
        assert said == [str(place.cache_folder()), str(place.token_file()), place.endpoint()]


def _printed(code: str, changes: dict[str, str]) -> list[str]:
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **changes})
    return done.stdout.splitlines()


def test_a_move_without_rights_or_to_an_impossible_name_is_one_line(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled(hub, "a/one")
    with pytest.raises(UserError, match="the name is too long"):
        moving.move(tmp_path / ("x" * 300), quiet)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(cache / ".locks"))

    monkeypatch.setattr("filelock.FileLock.acquire", forbidden)
    with pytest.raises(UserError, match="permission denied; the cache is still at"):
        moving.move(tmp_path / "x", quiet)
    assert store.complete_folder(Repository("a/one"))


def test_a_moved_cache_whose_disk_is_away_says_so(hub: Hub, cache: Path, tmp_path: Path) -> None:
    folder = pulled(hub, "a/one")
    moving.move(tmp_path / "disk", quiet)
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    for look in (store.models, lambda: store.complete_folder(Repository("a/one"))):
        with pytest.raises(UserError, match="which is not there; plug in the disk") as error:
            look()
        assert str(tmp_path / "disk") in str(error.value)
    assert [finding.error.fields.get("path") for finding in checked_disks() if "plug" in finding.remedy] == [cache]
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    assert store.complete_folder(Repository("a/one")) == folder
    (folder / "model.safetensors").resolve().unlink()
    with pytest.raises(UserError, match="which is not there; fetch the model again"):
        open_checkpoint(folder)


def checked_disks() -> list[Finding]:
    findings: list[Finding] = []
    checkup.disks(findings)
    return findings


@pytest.mark.skipif(os.name != "posix", reason="Windows says the same of files in use")
def test_a_model_that_may_not_be_deleted_is_a_matter_of_permissions(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pulled(hub, "a/one")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(shutil, "rmtree", forbidden)
    with pytest.raises(UserError, match=r"permission denied; .* mend its permissions"):
        store.remove(store.models()[0])


def test_a_second_move_leaves_nothing_at_the_first_target(hub: Hub, cache: Path, tmp_path: Path) -> None:
    folder = pulled(hub, "a/one")
    moving.move(tmp_path / "first", quiet)
    moving.move(tmp_path / "second", quiet)
    assert not (tmp_path / "first").exists() and cache.resolve() == tmp_path / "second"
    assert store.complete_folder(Repository("a/one")) == folder
