"""TinyStories from a server on loopback: fetched in pieces, checked, unpacked, and made into shards step by step."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from soban.errors import UserError
from soban.learn.data import fetching, shards, tinystories
from soban.learn.data.prepare import Preparation, prepare

PATH = f"/datasets/{tinystories.REPOSITORY}/resolve/main/{tinystories.ARCHIVE}"


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return made.getvalue()


def story(number: int) -> dict[str, object]:
    words = ["fox", "river", "bridge", "shell", "walked", "found", "little", "brother", "told", "near", "old", "sun"]
    drawn = [words[hash_of(number, place) % len(words)] for place in range(40)]
    return {"story": " ".join(drawn) + ".", "instruction": {"prompt:": "x"}, "summary": "s", "source": "GPT-4"}


def hash_of(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


CONTENT = archive(
    {
        f"data{shard:02}.json": json.dumps([story(100 * shard + number) for number in range(100)]).encode()
        for shard in range(2)
    }
    | {"../../evil.json": b"[]", "README.md": b"x"}
)


@dataclass
class Server:
    """A hub: what it has, what goes wrong, and what was asked of it."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)  # after so many bytes a connection breaks, one after the other
    etag: str | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def digest(self) -> str:
        return self.etag or hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    held = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == PATH:  # the hub sends to another server, and says what the file is
                self.send_response(302)
                self.send_header("Location", f"{held.url}/cdn")
                self.send_header("X-Linked-Etag", f'"{held.digest()}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path != "/cdn":
                self.send_error(404)
                return
            asked = self.headers["Range"]
            held.asked.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and held.ranges else 0
            if start >= len(held.content):
                self.send_error(416)
                return
            self.send_response(206 if asked and held.ranges else 200)
            self.send_header("Content-Length", str(len(held.content) - start))
            self.end_headers()
            self.wfile.write(held.content[start:][: held.cuts.pop(0) if held.cuts else None])

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{running.server_address[1]}"
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", held.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield held
    running.shutdown()
    running.server_close()


def fetch(path: Path) -> None:
    fetching.fetch(tinystories.REPOSITORY, tinystories.ARCHIVE, path, lambda done, total: None)


def test_a_download_goes_on_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 500]
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_another_run_goes_on_where_the_first_was_stopped(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total == len(CONTENT)
        raise KeyboardInterrupt

    server.cuts = [700]
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch(tinystories.REPOSITORY, tinystories.ARCHIVE, tmp_path / "a", stop)
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.asked[1] == "bytes=700-"


def test_a_file_that_was_replaced_meanwhile_is_fetched_from_its_beginning(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 300)
    (tmp_path / "a.part.json").write_text('{"etag": "old"}', encoding="utf-8")
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ranges = [1000], False
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_is_all_there_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.json").write_text(json.dumps({"etag": server.digest()}), encoding="utf-8")
    fetch(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_damaged_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.etag = "0" * 64
    with pytest.raises(UserError, match="arrived damaged"):
        fetch(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(tmp_path / "a")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="forbids the network"):
        fetch(tmp_path / "a")


def test_the_three_steps_give_shards_with_the_vocabulary_that_was_learnt(server: Server, tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    out = tmp_path / "data"
    with pytest.raises(UserError, match=r"no TinyStories in it.*download"):
        tinystories.stories(out, lambda *told: None, fetch=False)
    files = tinystories.stories(out, lambda *told: None, fetch=True)
    assert [Path(path).name for path in files] == ["data00.json", "data01.json"]
    assert not (tmp_path / "evil.json").exists() and not list(tmp_path.rglob("evil*"))
    asked = len(server.asked)
    assert tinystories.stories(out, lambda *told: None, fetch=True) == files and len(server.asked) == asked

    wanted = Preparation(files, out, vocab_size=300, beside=tinystories.BESIDE)
    folder = tinystories.train_vocabulary(wanted, lambda *told: None)
    judge = spm.SentencePieceProcessor(model_file=str(folder / "tok300.model"))
    assert judge.vocab_size() == 300
    prepare(tinystories.with_vocabulary(wanted))
    opened = shards.Shards(out)
    stories = {str(story(number)["story"]) for number in range(200)}
    for ids in opened.documents:
        text = judge.decode(ids.tolist())
        assert text in stories and [1, *judge.encode(text), 2] == ids.tolist()
    assert opened.entries == 300 and (out / tinystories.FOLDER / "data00.json").is_file()
    with pytest.raises(UserError, match="not 280 entries"):
        tinystories.with_vocabulary(Preparation(files, out, vocab_size=280))
