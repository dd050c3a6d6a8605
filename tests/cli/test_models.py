"""soban list, du, rm, search and recommend, as a user has them, on a cache that the hub's own client filled."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from wcwidth import wcswidth

from tests.cli import tiny
from tests.cli.conftest import Command, environment, text
from tests.hub.stub import Hub, Model

KOREAN = "owner/korean-tiny"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of the hub with three models, one not complete; filled by huggingface_hub."""
    home = tmp_path_factory.mktemp("홈")
    folder = tiny.folder(tmp_path_factory.mktemp("model") / "tiny")
    files: dict[str, bytes | Path] = {path.name: path.read_bytes() for path in folder.iterdir()}
    with Hub() as hub:
        hub.models = {"google/gemma-2-2b-it": Model(files), KOREAN: Model(files), "owner/begun": Model(files)}
        code = (
            "import huggingface_hub as h;"
            f"h.snapshot_download('google/gemma-2-2b-it'); h.snapshot_download({KOREAN!r});"
            "h.hf_hub_download('owner/begun', 'config.json')"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **hub.environment(home)})
    return home


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "hf", symlinks=True))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "soban"


@pytest.fixture
def run(soban: Command, home: Path, cache: Path) -> Command:
    def call(*words: str, **changes: str) -> "subprocess.CompletedProcess[bytes]":
        return soban(*words, HF_HOME=str(home), SOBAN_CACHE=str(cache), HF_HUB_OFFLINE="1", **changes)

    return call


def snapshot(home: Path, identity: str) -> Path:
    return next((home / "hub" / f"models--{identity.replace('/', '--')}" / "snapshots").iterdir())


def pack(run: Command, home: Path, identity: str) -> None:
    done = run("run", str(snapshot(home, identity)), "a", "--dtype", "q8", "--max-new-tokens", "1")
    assert done.returncode == 0, done.stderr


def scanned(home: Path) -> dict[str, int]:
    """What huggingface_hub itself finds in the cache."""
    from huggingface_hub import scan_cache_dir

    return {one.repo_id: one.size_on_disk for one in scan_cache_dir(home / "hub").repos}


def test_the_list_is_what_the_hubs_own_library_finds(run: Command, home: Path) -> None:
    told = json.loads(text(run("list", "--json")))
    assert {one["repository"]: one["bytes"] for one in told} == scanned(home)
    assert [one["name"] for one in told] == ["gemma2:2b", "owner/begun", KOREAN]
    assert {one["name"]: one["complete"] for one in told} == {"gemma2:2b": True, "owner/begun": False, KOREAN: True}


def test_the_list_names_what_is_packed_and_stays_within_eighty_columns(run: Command, home: Path) -> None:
    pack(run, home, KOREAN)
    for language in ("en", "ko"):
        lines = text(run("list", SOBAN_LANG=language)).splitlines()
        assert len(lines) == 4 and all(wcswidth(line) <= 80 for line in lines)
        (line,) = (line for line in lines if line.startswith(KOREAN))
        assert " q8 " in line and " kB " in line


def test_an_empty_list_says_what_to_do(soban: Command, tmp_path: Path) -> None:
    done = soban("list", HF_HOME=str(tmp_path / "none"), SOBAN_CACHE=str(tmp_path / "c"))
    assert text(done) == "" and b"soban recommend" in done.stderr
    assert json.loads(text(soban("list", "--json", HF_HOME=str(tmp_path / "none")))) == []


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(
    "words",
    [
        ("list", "--catalogue"),
        ("search", "gemma"),
        ("recommend", "--lang", "ko"),
        ("du",),
        ("recommend", "--ram", "64"),
    ],
)
def test_no_line_is_wider_than_eighty_columns(run: Command, words: tuple[str, ...], language: str, home: Path) -> None:
    lines = text(run(*words, SOBAN_LANG=language)).splitlines()
    assert len(lines) > 3
    assert all(wcswidth(line) <= 80 or str(home) in line or "/soban/packed" in line for line in lines)


def test_the_catalogue_is_listed_with_its_sources(run: Command) -> None:
    told = json.loads(text(run("list", "--catalogue", "--json")))
    (gemma,) = (one for one in told if one["name"] == "gemma2:2b")
    assert gemma["repository"] == "google/gemma-2-2b-it" and gemma["engine"] is True
    assert (
        gemma["sources"]["parameters"]["url"].startswith("https://")
        and gemma["sources"]["parameters"]["read"] == "2026-11-22"
    )


def test_du_adds_up_and_says_what_can_go(run: Command, home: Path, cache: Path) -> None:
    pack(run, home, KOREAN)
    pack(run, home, "google/gemma-2-2b-it")
    shutil.rmtree(home / "hub" / "models--google--gemma-2-2b-it")
    told = json.loads(text(run("du", "--json")))
    sizes = {path.name: path.stat().st_size for path in (cache / "packed").glob("*.safetensors")}
    assert {Path(one["path"]).name: one["bytes"] for one in told["packed"]} == sizes
    assert told["bytes"] == sum(sizes.values()) + sum(scanned(home).values())
    assert {one["name"]: one["state"] for one in told["packed"]} == {KOREAN: "current", "gemma2:2b": "gone"}
    shown = text(run("du"))
    assert "can go: its model is gone" in shown and "soban rm --spare" in shown
    text(run("rm", "--spare", "--yes"))
    told = json.loads(text(run("du", "--json")))
    assert {one["state"] for one in told["packed"]} == {"current"} and told["spare_bytes"] == 0


def test_rm_deletes_the_model_and_what_is_packed_of_it_and_nothing_else(run: Command, home: Path, cache: Path) -> None:
    pack(run, home, KOREAN)
    pack(run, home, "google/gemma-2-2b-it")
    before = scanned(home)
    done = run("rm", "gemma2:2b", "--yes")
    assert text(done) == "" and "gemma2:2b" in done.stderr.decode() and "free again" in done.stderr.decode()
    before.pop("google/gemma-2-2b-it")
    assert scanned(home) == before
    assert {path.name.rsplit("-", 2)[0] for path in (cache / "packed").glob("*.safetensors")} == {
        "models--owner--korean-tiny"
    }
    assert text(run("run", str(snapshot(home, KOREAN)), "a", "--max-new-tokens", "1"))


def test_rm_packed_keeps_the_model(run: Command, home: Path, cache: Path) -> None:
    pack(run, home, KOREAN)
    before = scanned(home)
    text(run("rm", KOREAN, "--packed", "-y"))
    assert scanned(home) == before and not list((cache / "packed").glob("*.safetensors"))


def test_of_a_folder_of_ones_own_only_what_is_packed_is_deleted(
    run: Command, home: Path, cache: Path, tmp_path: Path
) -> None:
    own, other = tiny.folder(tmp_path / "own model"), tiny.folder(tmp_path / "other")
    for path in (own, other, own / "model.safetensors"):
        text(run("run", str(path), "a", "--dtype", "q8", "--max-new-tokens", "1"))
    pack(run, home, KOREAN)
    packed = set((cache / "packed").glob("*.safetensors"))
    files = sorted(tmp_path.rglob("*"))
    done = run("rm", str(own), "-y")
    told = f"soban: {own} is your own, which soban never deletes; --packed deletes what soban has packed of it\n"
    assert (done.returncode, done.stderr.decode()) == (2, told)
    assert "free again" in run("rm", str(own), "--packed", "-y").stderr.decode()
    left = set((cache / "packed").glob("*.safetensors"))
    assert left < packed and {path.name.rsplit("-", 2)[0] for path in left} == {"models--owner--korean-tiny", "other"}
    assert "nothing to delete" in run("rm", str(own), "--packed", "-y").stderr.decode()
    assert "nothing to delete" in run("rm", str(tmp_path), "--packed", "-y").stderr.decode()
    assert sorted(path for path in tmp_path.rglob("*") if "packed" not in path.parts and cache not in path.parents) == [
        path for path in files if "packed" not in path.parts and cache not in path.parents
    ]


def test_rm_asks_and_without_anybody_to_ask_deletes_nothing(run: Command, home: Path) -> None:
    before = scanned(home)
    done = run("rm", KOREAN)
    text(done, code=2)
    assert "delete owner/korean-tiny" in done.stderr.decode() and "--yes" in done.stderr.decode()
    assert scanned(home) == before


@pytest.mark.parametrize(
    ("typed", "code", "deleted"),
    [
        ("y\n", 0, True),
        ("n\n", 0, False),
        ("\n", 0, False),
        ("예\n", 0, True),
        ("\x03", 130, False),
        ("\x04", 0, False),
    ],
)
def test_rm_on_a_terminal(home: Path, cache: Path, typed: str, code: int, deleted: bool) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "soban", "rm", KOREAN]
    changes = {"HF_HOME": str(home), "SOBAN_CACHE": str(cache)}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment(**changes), start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(leader, 1000)
    os.write(leader, typed.encode())
    assert process.wait(timeout=20) == code
    os.close(leader)
    assert (KOREAN in scanned(home)) is not deleted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rm",), "nothing is named"),
        (("rm", "owner/korean-tinny", "-y"), "did you mean owner/korean-tiny?"),
        (("rm", KOREAN, "nobody/has-this", "-y"), "nobody/has-this is not on this PC"),
        (("rm", "../../x", "-y"), "no such file or folder"),
        (("rm", "/", "-y"), "is your own, which soban never deletes"),
        (("rm", "owner/..", "-y"), "no repository can be called that"),
        (("rm", f"{KOREAN}@other", "-y"), "is not on this PC"),
        (("rm", "", "-y"), "the model's name is empty"),
        (("pull", ""), "the model's name is empty"),
        (("show", ""), "the model's name is empty"),
        (("plan", " "), "the model's name is empty"),
        (("run", "", "hello"), "the model's name is empty"),
        (("search",), "nothing to look for"),
        (("search", "\x1b[31m"), "nothing to look for"),
        (("search", "x", "--limit", "0"), "out of range"),
        (("recommend", "--ram", "0"), "no amount of memory"),
        (("recommend", "--ram", "8,5"), "as in --ram 8.5"),
        (("recommend", "--ram", "nan"), "no amount of memory"),
        (("recommend", "--ram", "-8"), "no amount of memory"),
        (("recommend", "--lang", "corean"), "no language's code"),
        (("recommend", "--context", "0"), "too small"),
        (("recommend", "--task", "cook"), "is not known"),
        (("list", "gemma2"), "takes only flags"),
    ],
)
def test_what_cannot_be_meant_is_one_line(run: Command, home: Path, words: tuple[str, ...], said: str) -> None:
    before = scanned(home)
    done = run(*words)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and said in lines[0]
    assert scanned(home) == before


def test_two_revisions_share_their_files_and_go_one_by_one(run: Command, home: Path) -> None:
    folder = home / "hub" / "models--owner--korean-tiny"
    first = snapshot(home, KOREAN)
    second = folder / "snapshots" / ("f" * 40)
    shutil.copytree(first, second, symlinks=True)
    (folder / "refs" / "v2").write_text("f" * 40)
    told = json.loads(text(run("du", "--json")))
    assert told["bytes"] == sum(scanned(home).values())
    assert [one["name"] for one in told["models"]][-2:] == [KOREAN, f"{KOREAN}@v2"]
    for command in ("list", "du"):
        lines = text(run(command)).splitlines()
        assert sum(KOREAN in line for line in lines) == 1 and sum("also v2" in line for line in lines) == 1
    text(run("rm", f"{KOREAN}@v2", "-y"))
    assert first.is_dir() and not second.exists()
    text(run("run", str(first), "a", "--max-new-tokens", "1"))


def test_a_model_under_two_names_is_listed_once(run: Command, home: Path, cache: Path) -> None:
    """What other tools have fetched by another spelling, and what was packed before its model went."""
    pack(run, home, "google/gemma-2-2b-it")
    hub = home / "hub"
    shutil.copytree(hub / "models--google--gemma-2-2b-it", hub / "models--Google--Gemma-2-2B-it", symlinks=True)
    listed, fetched = text(run("list")), text(run("du")).split("packed for soban")[0]
    assert listed.count("gemma2:2b") == fetched.count("gemma2:2b") == 1
    assert "oogle/" not in listed + fetched
    assert json.loads(text(run("du", "--json")))["bytes"] == sum(scanned(home).values()) + sum(
        path.stat().st_size for path in (cache / "packed").glob("*.safetensors")
    )
    shutil.rmtree(hub / "models--google--gemma-2-2b-it")
    shutil.rmtree(hub / "models--Google--Gemma-2-2B-it")
    lines = text(run("du")).splitlines()
    assert any("gemma2:2b" in line and "its model is gone" in line for line in lines)
    assert "google/gemma" not in "".join(lines)


def test_a_repository_of_several_models_is_named_by_those_that_are_there(run: Command, home: Path) -> None:
    there = home / "hub" / "models--karpathy--tinyllamas"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text("a" * 40)
    snapshot = there / "snapshots" / ("a" * 40)
    (snapshot / "stories260K").mkdir(parents=True)
    for name in ("stories15M.bin", "stories260K/stories260K.bin", "stories260K/tok512.bin"):
        (snapshot / name).write_bytes(b"x")
    names = [one["name"] for one in json.loads(text(run("list", "--json")))]
    assert "stories:260k, stories:15m" in names
    done = run("rm", "stories42M")
    assert done.returncode == 2 and b"stories:260k, stories:15m" in done.stderr  # what else would go is said


def test_what_is_begun_counts_with_the_bytes_that_are_there(run: Command, home: Path) -> None:
    begun = home / "hub" / "models--owner--begun" / "blobs" / ("a" * 64 + ".part")
    with begun.open("wb") as file:
        file.truncate(5_000_000_000)  # a hole
        file.write(b"x" * 4096)
    listed = sum(one["bytes"] for one in json.loads(text(run("list", "--json"))))
    assert json.loads(text(run("du", "--json")))["bytes"] == listed < 1e9
    (models,) = (one for one in json.loads(text(run("doctor", "--json")))["disks"] if one["name"] == "models")
    assert models["bytes"] < 1e9
