"""From a name to an answer: asked, explained, fetched, packed, and the second time without the network."""

import dataclasses
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import soban
from soban.base.errors import UserError
from soban.cli.held import packed_of
from soban.hub import catalogue, moving, names, store
from soban.packing import stored
from tests.cli.conftest import called
from tests.cli.tiny import llama2c
from tests.hub.stub import Hub, Model, Token
from tests.processes import ended
from tests.tiny import make_model

SOURCE = Path(__file__).resolve().parents[2] / "src"
WORDS = ("--greedy", "--max-new-tokens", "8", "--dtype", "q8", "-q")


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    return make_model(tmp_path / "gemma", chat=True)


def put(hub: Hub, folder: Path, name: str = "google/gemma-2-2b-it", **about: object) -> Model:
    hub.models[name] = Model({path.name: path for path in folder.iterdir()}, **about)  # type: ignore[arg-type]
    return hub.models[name]


def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(SOURCE), "SOBAN_LANG": "en", "SOBAN_CACHE": str(tmp_path / "cache")}
    return {**os.environ, **hub.environment(tmp_path / "home"), **own}


def run(hub: Hub, tmp_path: Path, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**environment(hub, tmp_path), "SOBAN_OPS": "native", **changes}
    done = called("run", *words, *WORDS, **surroundings)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_name_of_the_catalogue_is_fetched_packed_and_answers(hub: Hub, gemma: Path, tmp_path: Path) -> None:
    put(hub, gemma)
    wanted = run(hub, tmp_path, str(gemma), "대한민국의 수도에 대해 알려줘")
    first = run(hub, tmp_path, "gemma2:2b", "대한민국의 수도에 대해 알려줘")
    assert first.returncode == 0, first.stderr
    assert first.stdout == wanted.stdout != ""
    assert "gemma2:2b (google/gemma-2-2b-it) is not on this PC" in first.stderr
    assert "packing google/gemma-2-2b-it as q8" in first.stderr
    assert "Traceback" not in first.stderr


def test_what_was_fetched_is_there_at_once_without_the_network(hub: Hub, gemma: Path, tmp_path: Path) -> None:
    put(hub, gemma)
    first = run(hub, tmp_path, "gemma2:2b", "hello")
    before = len(hub.requests)
    again = run(hub, tmp_path, "gemma2:2b", "hello")
    offline = run(hub, tmp_path, "google/gemma-2-2b-it", "hello", HF_HUB_OFFLINE="1")
    assert first.stdout == again.stdout == offline.stdout
    assert len(hub.requests) == before
    assert again.stderr == offline.stderr == ""


def test_offline_and_not_here_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, "gemma2:2b", "hello", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "HF_HUB_OFFLINE" in done.stderr
    assert not hub.requests


def test_a_gated_model_in_a_pipe_says_which_step_is_missing(hub: Hub, gemma: Path, tmp_path: Path) -> None:
    put(hub, gemma, gated="manual")
    done = run(hub, tmp_path, "gemma2:2b", "hello")
    assert done.returncode == 2 and "/google/gemma-2-2b-it" in done.stderr and "soban login" in done.stderr
    hub.tokens["hf_of_somebody"] = Token(consented={"google/gemma-2-2b-it"})
    done = run(hub, tmp_path, "gemma2:2b", "hello", HF_TOKEN="hf_of_somebody")
    assert done.returncode == 0, done.stderr
    assert "hf_of_somebody" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(
    "answer, fetched",
    [
        (b"\n", True),
        (b"n\n", False),
        ("아뇨\n".encode(), False),
        (b"nope\nno.\n", False),
        ("blah\nㅛ\n".encode(), True),
    ],
)
def test_on_a_terminal_the_user_is_asked(hub: Hub, gemma: Path, tmp_path: Path, answer: bytes, fetched: bool) -> None:
    put(hub, gemma)
    ours, theirs = pty.openpty()
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "run", "gemma2:2b", "hello", *WORDS], stdin=theirs, stdout=subprocess.PIPE,
        stderr=theirs, env=environment(hub, tmp_path),
    )) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"[Y/n]" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, answer)
        assert process.stdout is not None
        written = process.stdout.read()
    assert b"to fetch: " in shown and b"licence: " in shown
    assert process.returncode == (0 if fetched else 2)
    assert bool(written) == fetched == bool(hub.content_requests("model.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(
    "name, size", [("gemma2:2b", b"to fetch: about 5.23 GB, into "), ("owner/gated", b"to fetch: not known how much")]
)
def test_before_a_gated_model_is_fetched_its_size_and_the_room_are_told(
    hub: Hub, gemma: Path, tmp_path: Path, name: str, size: bytes
) -> None:
    put(hub, gemma, gated="manual")
    put(hub, gemma, "owner/gated", gated="manual")
    ours, theirs = pty.openpty()
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "run", name, "hello", *WORDS], stdin=theirs, stdout=subprocess.PIPE,
        stderr=theirs, env=environment(hub, tmp_path),
    )):  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"[Y/n]" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"n\n")
    shown = b" ".join(shown.split())
    assert size in shown and re.search(rb"\(\d[\d.]* [kMGT]B free\)", shown), shown


def test_the_library_fetches_by_name(hub: Hub, gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    put(hub, gemma, "somebody/some-model")
    model = soban.load("somebody/some-model")
    assert model.generate("hello", max_new_tokens=4) == soban.load(gemma).generate("hello", max_new_tokens=4)
    with pytest.raises(UserError, match="somebody/another"):
        soban.load("somebody/another")


def test_a_folder_goes_before_a_name(hub: Hub, gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "google").mkdir()
    gemma.rename(tmp_path / "google" / "gemma-2-2b-it")
    monkeypatch.chdir(tmp_path)
    assert soban.load("google/gemma-2-2b-it").generate("hello", max_new_tokens=2)
    assert not hub.requests


def test_a_llama2c_model_brings_its_tokenizer_from_where_it_lies(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = llama2c(tmp_path / "made")
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    entry = next(entry for entry in catalogue.entries() if "stories15M" in entry.aliases)
    assert entry.tokenizer is not None and entry.tokenizer.endswith("/tokenizer.bin")
    own = dataclasses.replace(entry, tokenizer=f"{hub.url}/elsewhere/words/resolve/main/tokenizer.bin")
    monkeypatch.setattr(names, "_by_name", lambda: {"stories15m": own})
    hub.models["karpathy/tinyllamas"] = Model({"stories15M.bin": path, "stories42M.bin": b"not wanted"})
    hub.models["elsewhere/words"] = Model({"tokenizer.bin": path.with_name("tokenizer.bin")})
    wanted = soban.load(path).generate("abc", max_new_tokens=5, do_sample=False)
    assert soban.load("stories15M").generate("abc", max_new_tokens=5, do_sample=False) == wanted
    assert not hub.content_requests("stories42M.bin")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert soban.load("stories15M").generate("abc", max_new_tokens=5, do_sample=False) == wanted


def test_what_is_packed_is_still_there_after_the_cache_was_moved_twice(
    hub: Hub, gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    put(hub, gemma)
    soban.load("gemma2:2b", dtype="q8")
    before = sorted((tmp_path / "cache" / "packed").iterdir())
    for number in (1, 2):
        moving.move(tmp_path / f"disk{number}", lambda progress: None)
    soban.load("gemma2:2b", dtype="q8")
    assert sorted((tmp_path / "cache" / "packed").iterdir()) == before
    assert {one.state for one in stored.packed_files()} == {"current"}
    (held,) = store.models()
    assert len(packed_of(held, stored.packed_files())) == len(stored.packed_files()) > 0
