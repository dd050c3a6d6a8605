"""Downloads into the hub's cache, judged by what the stub has sent and by huggingface_hub's own client."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save as serialised

from soban.base import system
from soban.base.errors import UserError
from soban.hub import download, fetching, partial, session, store
from soban.hub.catalogue import Entry
from soban.hub.fetching import Progress
from soban.hub.names import Repository
from soban.weights.opening import open_checkpoint
from tests.hub.stub import Fault, Hub, Model, etag
from tests.hub.test_stub import client

NAME = "owner/model"
MODEL = Repository(NAME)
WEIGHTS = random.Random(1).randbytes(3_000_000)
SMALL: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}" * 50,
    "README.md": b"# a model",
    "LICENSE": b"do what you like",
}
FILES: dict[str, bytes | Path] = {**SMALL, "model.safetensors": WEIGHTS}


def quiet(_: Progress) -> None:
    """Shows nothing."""


def pull(repository: Repository = MODEL) -> Path:
    return download.pull(repository, quiet)


def in_process(code: str = "") -> subprocess.Popen[bytes]:
    """A pull in a process of its own, after `code`."""
    source = (
        f"{code}\nfrom soban.hub import download\nfrom soban.hub.names import Repository\n"
        f"download.pull(Repository({NAME!r}), lambda p: None)"
    )
    return subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.PIPE)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def partial_path(cache: Path, name: str = "model.safetensors", data: bytes = WEIGHTS) -> Path:
    return cache / "models--owner--model" / "blobs" / etag(name, data)


def wait_for(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_model_is_fetched_once_and_the_real_client_finds_it_without_the_network(hub: Hub, tmp_path: Path) -> None:
    hub.models[NAME] = Model(dict(FILES))
    assert store.complete_folder(MODEL) is None
    folder = pull()
    assert contents(folder) == FILES
    assert store.complete_folder(MODEL) == folder
    assert hub.sent("model.safetensors") == len(WEIGHTS)
    count = hub.sent()
    assert pull() == folder and hub.sent() == count
    code = f"import huggingface_hub as h; print(h.snapshot_download({NAME!r}), h.hf_hub_download({NAME!r}, 'LICENSE'))"
    said = client(hub, tmp_path / "home", code, HF_HUB_OFFLINE="1").split()
    assert [os.path.realpath(line) for line in said] == [os.path.realpath(p) for p in (folder, folder / "LICENSE")]


def test_what_the_real_client_has_fetched_is_found_and_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.models[NAME] = Model(dict(FILES))
    done = client(hub, tmp_path / "home", f"import huggingface_hub as h; print(h.snapshot_download({NAME!r}))")
    folder = store.complete_folder(MODEL)
    assert folder == Path(done.strip())
    count = hub.sent()
    assert pull() == folder and hub.sent() == count


def test_only_the_files_that_a_model_needs_are_fetched(hub: Hub) -> None:
    useless = {
        "pytorch_model.bin": b"pickle", "original/consolidated.00.pth": b"twice", "consolidated.safetensors": b"twice",
        "onnx/model.onnx": b"x", "model.gguf": b"x", "picture.png": b"x", "tf_model.h5": b"x", "notes/README.md": b"x",
    }  # fmt: skip
    hub.models[NAME] = Model({**FILES, **useless})
    assert contents(pull()) == FILES


def test_what_sentence_transformers_left_beside_a_model_comes_along(hub: Hub) -> None:
    own: dict[str, bytes | Path] = {
        "modules.json": b"[]", "sentence_bert_config.json": b"{}", "config_sentence_transformers.json": b"{}",
        "1_Pooling/config.json": b"{}", "2_Dense/config.json": b"{}", "2_Dense/model.safetensors": b"w" * 100,
    }  # fmt: skip
    others = {"2_Dense/pytorch_model.bin": b"p", "onnx/model.onnx": b"o", "1_Pooling/notes.txt": b"n"}
    hub.models[NAME] = Model({**FILES, **own, **others})
    assert contents(pull()) == {**FILES, **own}


def test_of_a_sharded_model_the_shards_of_its_index_are_fetched(hub: Hub) -> None:
    shards = {f"model-{n}-of-2.safetensors": random.Random(n).randbytes(50_000) for n in (1, 2)}
    index = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
    files = {**SMALL, **shards, "model.safetensors.index.json": index}
    hub.models[NAME] = Model({**files, "model.fp16-1-of-1.safetensors": b"another"})
    folder = pull()
    assert contents(folder) == files and store.complete_folder(MODEL) == folder
    (folder / "model-2-of-2.safetensors").unlink()
    assert store.complete_folder(MODEL) is None


PARTS = [f"x-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]


@pytest.mark.parametrize("names", [["model-00001-of-00001.safetensors"], PARTS])
def test_the_only_weights_are_fetched_by_any_name_and_are_what_is_run(hub: Hub, names: list[str]) -> None:
    files = {**SMALL, "config.json": b"{}"} | {
        name: serialised({f"t{number}": np.ones(3, np.float32)}) for number, name in enumerate(names)
    }
    hub.models[NAME] = Model({**files, "consolidated.safetensors": b"twice"})
    folder = pull()
    assert contents(folder) == files and store.complete_folder(MODEL) == folder
    assert open_checkpoint(folder).tensors.keys() == {f"t{number}" for number in range(len(names))}
    (folder / names[-1]).unlink()
    assert store.complete_folder(MODEL) is None


@pytest.mark.parametrize("names", [["a.safetensors", "b.safetensors"], PARTS[:2]])
def test_weights_of_which_it_is_open_what_belongs_together_are_refused_before_they_are_fetched(
    hub: Hub, names: list[str]
) -> None:
    hub.models[NAME] = Model({**SMALL, **dict.fromkeys(names, WEIGHTS)})
    with pytest.raises(UserError, match=f"2 files of weights, and no index .* first is {names[0]}"):
        pull()
    assert not hub.sent()


def story(*files: str) -> Repository:
    return Repository(NAME, entry=Entry("story:x", "A story", "story", files=files))


def test_the_catalogue_says_which_file_of_a_repository_of_many_models(hub: Hub) -> None:
    hub.models[NAME] = Model({"stories15M.bin": b"1" * 20_000, "stories42M.bin": b"2", "README.md": b""})
    repository = story("stories15M.bin")
    folder = pull(repository)
    assert list(contents(folder)) == ["stories15M.bin"] and store.complete_folder(repository) == folder
    other = story("stories42M.bin")
    assert store.complete_folder(other) is None
    assert pull(other) == folder and store.complete_folder(other) == folder


def test_a_repository_without_safetensors_is_refused_with_what_it_holds(hub: Hub) -> None:
    hub.models[NAME] = Model({**SMALL, "pytorch_model.bin": b"pickle"})
    with pytest.raises(UserError, match=r"no safetensors in it, only PyTorch \(pickle\)"):
        pull()
    assert not hub.sent()


def test_connections_are_used_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "SEGMENT", 200_000)
    monkeypatch.setattr(fetching, "SMALL", 0)
    hub.models[NAME] = Model(dict(FILES))
    assert contents(pull()) == FILES
    assert len(hub.content_requests("model.safetensors")) == 15
    assert hub.connections <= 4  # the listing's, and one to each host; one to spare


def test_a_connection_that_breaks_again_and_again_costs_no_byte_twice(hub: Hub) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(cut=200_000)})
    assert contents(pull()) == FILES
    assert hub.sent("model.safetensors") == len(WEIGHTS)
    assert len(hub.content_requests("model.safetensors")) == len(WEIGHTS) // 200_000


def test_a_killed_process_is_continued_by_another_where_it_stopped(hub: Hub, cache: Path) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(rate=2e6, times=1)})
    blob = partial_path(cache)
    killed = in_process()
    wait_for(lambda: partial.there(blob, len(WEIGHTS)) > 500_000)
    killed.kill()
    killed.communicate()
    there, before = partial.there(blob, len(WEIGHTS)), len(hub.requests)
    assert there < len(WEIGHTS) and store.complete_folder(MODEL) is None
    assert in_process().wait() == 0
    assert contents(store.complete_folder(MODEL) or Path()) == FILES
    ranges = [one.range for one in hub.requests[before:] if one.path.startswith("/cdn/")]
    assert ranges == [f"bytes={there}-{len(WEIGHTS) - 1}"]


def test_after_a_power_cut_only_what_is_damaged_is_fetched_again(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "SEGMENT", 1_000_000)
    monkeypatch.setattr(fetching, "SMALL", 0)
    blob = partial_path(cache)
    begun = partial.Partial(blob, len(WEIGHTS))
    for index, length in ((0, 1_000_000), (1, 400_000), (2, 300_000)):
        begun.add(index, WEIGHTS[index * 1_000_000 :][:length])
    begun.close()
    with blob.with_name(blob.name + ".part").open("r+b") as file:
        file.seek(1_200_000)
        file.write(bytes(1000))  # counted, but never reached the disk
    hub.models[NAME] = Model(dict(FILES))
    assert contents(pull()) == FILES
    assert hub.sent("model.safetensors") == 1_000_000 + 700_000


def test_another_content_begins_anew_and_what_was_begun_of_the_old_one_goes(hub: Hub, cache: Path) -> None:
    old = partial.Partial(partial_path(cache), len(WEIGHTS))
    old.add(0, WEIGHTS[:1000])
    old.close()
    new = WEIGHTS[::-1]
    hub.models[NAME] = Model({**FILES, "model.safetensors": new})
    assert (pull() / "model.safetensors").read_bytes() == new
    assert hub.sent("model.safetensors") == len(new)
    assert not list(cache.glob("*/blobs/*.part*"))


def test_a_wrong_hash_is_noticed_in_lfs_and_in_git(hub: Hub, cache: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        data = FILES[name]
        assert isinstance(data, bytes)
        hub.models[NAME] = Model(dict(FILES), faults={name: Fault(content=data[:-1] + b"!", times=1)})
        assert contents(pull()) == FILES  # the second time it was right
        store.remove(store.models()[0])
        hub.models[NAME].faults[name].times = -1
        with pytest.raises(UserError, match=f"{name} arrives damaged, twice"):
            pull()
        assert store.complete_folder(MODEL) is None
        assert not list(cache.glob("*/snapshots/*/*"))


def test_a_damaged_beginning_is_noticed_at_the_end(hub: Hub, cache: Path) -> None:
    begun = partial.Partial(partial_path(cache), len(WEIGHTS))
    begun.add(0, b"x" * 1000)  # with a checksum that fits
    begun.close()
    hub.models[NAME] = Model(dict(FILES))
    assert contents(pull()) == FILES


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit for the size of files")
def test_a_full_disk_keeps_what_is_there(hub: Hub, cache: Path) -> None:
    hub.models[NAME] = Model(dict(FILES))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))"
    full = in_process(limit)
    assert b"the disk is full, with 1.50 MB still to come" in full.communicate()[1]
    assert partial.there(partial_path(cache), len(WEIGHTS)) == 1_500_000
    assert contents(pull()) == FILES


def test_room_is_looked_for_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.models[NAME] = Model(dict(FILES))
    monkeypatch.setattr(download, "free_bytes", lambda _: download.SPARE + 1_000_000)
    with pytest.raises(UserError, match=r"3\.00 MB to fetch, 1\.00 MB free; make room for 2\.00 MB more"):
        pull()
    assert hub.sent() <= len(FILES["config.json"])  # by which it is known whether the model can be run


def test_what_is_held_needs_no_network_and_offline_opens_no_socket(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.models[NAME] = Model(dict(FILES))
    folder = pull()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    start = time.monotonic()
    assert store.complete_folder(MODEL) == folder
    assert [held.id for held in store.models()] == [NAME]
    with pytest.raises(UserError, match="owner/other is not on this PC, and HF_HUB_OFFLINE=1 forbids"):
        pull(Repository("owner/other"))
    assert time.monotonic() - start < 0.5


def test_a_silent_server_is_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "READ", 0.3)
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(wait=1.0, times=1)})
    assert contents(pull()) == FILES
    hub.models[NAME].faults["config.json"] = Fault(wait=1.0)
    store.remove(store.models()[0])
    with pytest.raises(UserError, match=r"sends nothing for 0 seconds; run the same command again"):
        pull()


def test_a_server_that_trickles_is_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SLOWEST", 1e6)
    monkeypatch.setattr(fetching, "PATIENCE", 0.3)
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(rate=3e5, times=2)})
    start = time.monotonic()
    assert contents(pull()) == FILES
    assert time.monotonic() - start < 4.0  # where all of it would take ten seconds
    assert len(hub.content_requests("model.safetensors")) == 3


def test_a_busy_server_is_given_time(hub: Hub) -> None:
    faults = {
        "model.safetensors": Fault(status=503, times=2),
        "config.json": Fault(status=429, times=1, headers={"Retry-After": "1"}),
    }
    hub.models[NAME] = Model(dict(FILES), faults=faults)
    start = time.monotonic()
    assert contents(pull()) == FILES
    assert time.monotonic() - start >= 1.0
    store.remove(store.models()[0])
    hub.models[NAME].faults = {"config.json": Fault(status=429, headers={"Retry-After": "3600"})}
    with pytest.raises(UserError, match="asks to wait 60 minutes"):
        pull()
    hub.models[NAME].faults = {"config.json": Fault(status=500)}
    with pytest.raises(UserError, match=r"cannot answer now \(status 500\); run the same command again later"):
        pull()


def test_redirects_do_not_carry_the_token_to_another_host(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.hub.stub import Token

    hub.tokens["hf_secret"] = Token()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.models[NAME] = Model(dict(FILES))
    hub.moved["old/name"] = NAME
    assert contents(pull(Repository("old/name"))) == FILES
    hosts = {(one.host.partition(":")[0], one.authorization) for one in hub.requests}
    assert hosts == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/owner/model/resolve/main/config.json", "redirects without end"),
        ("file:///etc/passwd", "redirects to file:///etc/passwd, which is not safe"),
        ("http://[::1", "which is not safe|Invalid URL"),
    ],
)
def test_redirects_that_lead_nowhere_are_refused(hub: Hub, target: str, said: str) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"config.json": Fault(redirect=target)})
    with pytest.raises(UserError, match=said):
        pull()


@pytest.mark.parametrize("size", [len(WEIGHTS) + 1, len(WEIGHTS) - 1, 10 * len(WEIGHTS)])
def test_a_listing_that_lies_about_a_size_is_caught(hub: Hub, size: int) -> None:
    lie = {"lfs": {"oid": etag("model.safetensors", WEIGHTS), "size": size, "pointerSize": 1}}
    hub.models[NAME] = Model(dict(FILES), listing={"model.safetensors": lie})
    with pytest.raises(UserError, match=f"listed with {size:,} bytes, and the server has {len(WEIGHTS):,}"):
        pull()
    assert store.complete_folder(MODEL) is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(headers={"Content-Range": "bytes 0-2999999/3000000"}), "another part of the file"),
        (Fault(headers={"Content-Range": "bytes 1000-2999999/3000001"}), "the server has 3,000,001"),
        (Fault(headers={"Content-Range": "nonsense"}), "another part of the file"),
        (Fault(headers={"Content-Length": "5000000"}, times=-1, cut=2_999_000), None),
        (Fault(status=416), "has another number"),
        (Fault(status=204), "has another number"),
        (Fault(headers={"Transfer-Encoding": "chunked"}), None),
    ],
)
def test_an_answer_that_lies_is_caught_or_survived(hub: Hub, cache: Path, fault: Fault, said: str | None) -> None:
    begun = partial.Partial(partial_path(cache), len(WEIGHTS))
    begun.add(0, WEIGHTS[:1000])
    begun.close()
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": fault})
    try:
        assert contents(pull()) == FILES
    except UserError as error:
        assert said is None or said in str(error)
        assert store.complete_folder(MODEL) is None
    else:
        assert said is None


class Wide(fetching.Width):
    """Four connections from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self._settled = 4, True


@pytest.mark.parametrize("width", [fetching.Width, Wide])
def test_a_server_without_ranges_is_read_from_the_beginning(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, width: type[fetching.Width]
) -> None:
    monkeypatch.setattr(fetching, "Width", width)
    monkeypatch.setattr(partial, "SEGMENT", 500_000)
    monkeypatch.setattr(fetching, "SMALL", 0)
    begun = partial.Partial(partial_path(cache), len(WEIGHTS))
    begun.add(0, WEIGHTS[:1000])
    begun.add(3, WEIGHTS[1_500_000:1_600_000])
    begun.close()
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(whole=True)})
    assert contents(pull()) == FILES
    assert width is Wide or hub.sent("model.safetensors") == len(WEIGHTS)
    assert len(hub.content_requests("model.safetensors")) <= 5


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json", "a/../../evil.json", "/etc/evil.json", "C:/evil.json", "C:evil", "a\\..\\evil.json",
        "a\nb.json", "\x1b[2Jx", "..", "a\u202eb", "\\\\server\\share\\x",
    ],
)  # fmt: skip
def test_a_file_name_that_leads_elsewhere_is_refused_in_one_line(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.models[NAME] = Model({**FILES, name: b"evil"})
    with pytest.raises(UserError, match="could lie outside of the model's folder") as error:
        pull()
    assert str(error.value).isprintable()
    assert not hub.sent() and not list(tmp_path.rglob("*evil*"))


def test_names_that_some_system_cannot_make_are_left_out(hub: Hub) -> None:
    hub.models[NAME] = Model({**FILES, "what?.json": b"", "aux.json": b"", "LICENSE. ": b"", "n" * 300: b""})
    assert contents(pull()) == FILES


@pytest.mark.parametrize("commit", ["../../../../evil", "main", "0" * 39, "g" * 40])
def test_a_commit_that_is_none_is_refused(hub: Hub, tmp_path: Path, commit: str) -> None:
    hub.models[NAME] = Model(dict(FILES), commit=commit)
    with pytest.raises(UserError, match="not one that this version understands"):
        pull()
    assert not hub.sent()


@pytest.mark.parametrize(
    "lie",
    [
        {"oid": "../../evil"},
        {"size": -1},
        {"size": 1e9},
        {"size": "7"},
        {"size": None},
        {"oid": None},
        {"size": 1 << 60},
    ],
)
def test_a_listing_of_nonsense_is_refused(hub: Hub, lie: dict[str, object]) -> None:
    hub.models[NAME] = Model(dict(FILES), listing={"config.json": lie})
    with pytest.raises(UserError, match="not one that this version understands"):
        pull()
    assert not hub.sent()


def test_a_config_of_100_megabytes_is_refused_before_it_is_fetched(hub: Hub) -> None:
    hub.models[NAME] = Model(dict(FILES), listing={"config.json": {"size": 100_000_000}})
    with pytest.raises(UserError, match=r"its config\.json is said to have 100,000,000 bytes"):
        pull()
    assert not hub.sent()


@pytest.mark.parametrize("index", [b"[]", b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}', b"[" * 100_000, b"\xff"])
def test_an_index_of_nonsense_is_refused(hub: Hub, index: bytes) -> None:
    hub.models[NAME] = Model({**SMALL, "model.safetensors.index.json": index})
    with pytest.raises(UserError, match="does not say which files hold the weights"):
        pull()


def test_an_index_that_points_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "../../evil.safetensors"}}).encode()
    hub.models[NAME] = Model({**SMALL, "model.safetensors.index.json": index})
    with pytest.raises(UserError, match="which is not there"):
        pull()


def test_two_processes_fetch_a_file_once(hub: Hub) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(rate=3e6)})
    both = [in_process(), in_process()]
    assert [process.wait() for process in both] == [0, 0]
    assert hub.sent("model.safetensors") == len(WEIGHTS)


@pytest.mark.parametrize("hard", [True, False])
def test_without_links_the_files_lie_in_the_snapshot_and_everybody_finds_them(
    hub: Hub, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, hard: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no right to")

    monkeypatch.setattr(os, "symlink", refuse)
    if not hard:
        monkeypatch.setattr(os, "link", refuse)
    files = {**FILES, "NOTICE": b"do what you like"}  # the same content twice
    hub.models[NAME] = Model(dict(files))
    folder = pull()
    assert contents(folder) == files
    assert not [path for path in folder.iterdir() if path.is_symlink()] and store.complete_folder(MODEL) == folder
    assert bool(contents(cache / "models--owner--model" / "blobs")) == hard
    assert abs(store.models()[0].bytes - sum(len(data) for data in contents(folder).values())) < 5000
    count = hub.sent()
    assert pull() == folder and hub.sent() == count
    code = f"import huggingface_hub as h; print(h.snapshot_download({NAME!r}))"
    assert client(hub, tmp_path / "home", code, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_SYMLINKS="1").strip() == str(folder)


@pytest.mark.parametrize(("each", "together", "expected"), [(4e6, None, range(4, 9)), (None, 8e6, range(1, 5))])
def test_there_are_as_many_connections_as_help(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, each: float | None, together: float | None, expected: range
) -> None:
    monkeypatch.setattr(partial, "SEGMENT", 500_000)
    monkeypatch.setattr(fetching, "SMALL", 1000)
    monkeypatch.setattr(fetching, "WINDOW", 0.15)
    data = random.Random(3).randbytes(8_000_000)
    hub.models[NAME] = Model({**SMALL, "model.safetensors": data}, faults={"model.safetensors": Fault(rate=each)})
    hub.rate = together
    widths: list[int] = []
    original = fetching.Width.look

    def look(self: fetching.Width, done: int, busy: bool) -> None:
        original(self, done, busy)
        widths.append(self.now)

    monkeypatch.setattr(fetching.Width, "look", look)
    assert (pull() / "model.safetensors").read_bytes() == data
    assert widths[-1] in expected
    assert hub.sent("model.safetensors") == len(data)


def test_progress_grows_and_ends_at_the_whole(hub: Hub) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(rate=6e6)})
    seen: list[Progress] = []
    download.pull(MODEL, seen.append)
    done = [one.done for one in seen]
    assert done == sorted(done) and len(set(done)) > 5
    assert seen[-1].done == seen[-1].total == sum(len(data) for data in FILES.values() if isinstance(data, bytes))
    assert any(3e6 < one.speed < 12e6 and one.left is not None for one in seen)


def test_an_interrupt_leaves_what_has_come(hub: Hub, cache: Path) -> None:
    hub.models[NAME] = Model(dict(FILES), faults={"model.safetensors": Fault(rate=1e6, times=1)})

    def interrupting(progress: Progress) -> None:
        if progress.done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.pull(MODEL, interrupting)
    wait_for(lambda: threading.active_count() < 20)
    there = partial.there(partial_path(cache), len(WEIGHTS))
    assert 0 < there < len(WEIGHTS)
    held = store.models()[0]
    assert not held.complete and held.bytes >= there
    assert not huggingface_hub.scan_cache_dir(cache).warnings
    before = len(hub.requests)
    assert contents(pull()) == FILES
    assert f"bytes={there}-{len(WEIGHTS) - 1}" in [one.range for one in hub.requests[before:]]


@pytest.mark.parametrize("links", range(len(FILES)))
def test_a_model_is_not_held_before_its_last_link(hub: Hub, monkeypatch: pytest.MonkeyPatch, links: int) -> None:
    hub.models[NAME] = Model(dict(FILES))
    made: list[Path] = []
    original = download._link

    def killed(blob: Path, pointer: Path, size: int, twins: list[Path]) -> None:
        if len(made) == links:
            raise KeyboardInterrupt
        original(blob, pointer, size, twins)
        made.append(pointer)

    monkeypatch.setattr(download, "_link", killed)
    with pytest.raises(KeyboardInterrupt):
        pull()
    assert store.complete_folder(MODEL) is None
    assert len(made) == links and all(not held.complete for held in store.models())
    monkeypatch.setattr(download, "_link", original)
    sent = hub.sent()
    assert contents(pull()) == FILES and hub.sent() == sent


def test_a_large_download_is_remembered_for_forecasts(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    hub.models[NAME] = Model(FILES)
    pull()
    assert system.recalled(fetching.NETWORK) == {}  # too small to tell
    monkeypatch.setattr(fetching, "TELLING", 1000)
    hub.models["owner/other"] = Model({**FILES, "tokenizer.json": b"{}" + b" " * 50_000})
    pull(Repository("owner/other"))
    assert 1000 < system.recalled(fetching.NETWORK)["bytes_per_second"] < 1e10
