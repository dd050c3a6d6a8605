"""soban recommend and search: what suits this PC, what is found by name and language, without and with a hub."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from soban.base.machine import cpu_name
from soban.hub import catalogue, languages
from soban.hub.choosing import READ
from soban.hub.recommend import speaks
from soban.measure import limits
from soban.models import FAMILIES
from soban.ops import native
from tests.cli.conftest import Command, text


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "soban"


@pytest.fixture
def run(soban: Command, tmp_path: Path, cache: Path) -> Command:
    """The command without a network and with an empty cache."""

    def call(*words: str, **changes: str) -> "subprocess.CompletedProcess[bytes]":
        return soban(*words, HF_HOME=str(tmp_path / "hf"), SOBAN_CACHE=str(cache), HF_HUB_OFFLINE="1", **changes)

    return call


def test_advice_for_korean_names_what_runs(run: Command) -> None:
    shown = text(run("recommend", "--ram", "8", "--task", "chat", "--lang", "ko", "--commercial"))
    assert "1. qwen2.5:7b" in shown and "2. gemma2:2b" in shown and "KoMT-Bench 4.83/10" in shown
    assert "soban run qwen2.5:7b" in shown
    told = json.loads(text(run("recommend", "--ram", "8", "--lang", "ko", "--commercial", "--json")))
    assert told["models"][0]["name"] == "qwen2.5:7b" and told["wish"]["room"] == 6_000_000_000


def test_advice_without_any_fitting_model_says_so(run: Command) -> None:
    assert "No model of the catalogue" in text(run("recommend", "--ram", "0.5"))


def test_two_gigabytes_have_a_model(run: Command) -> None:
    assert "1. qwen2.5:0.5b" in text(run("recommend", "--ram", "2"))
    assert "1. smollm2:135m" in text(run("recommend", "--ram", "1"))


@pytest.mark.skipif(native.library() is None, reason="needs the native library")
def test_each_model_has_its_speed_on_this_pc_which_is_measured_once(
    run: Command, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(limits, "read_rates", lambda *_: ((1, 1, 1), [9e9, 10e9]))
    monkeypatch.setattr(limits, "QUIET", -1)
    shown = text(run("recommend", "--ram", "64", SOBAN_OPS="native"))
    told = json.loads(text(run("recommend", "--ram", "64", "--json", SOBAN_OPS="native")))
    assert told["wish"]["bandwidth"] == 10e9
    for one in told["models"]:
        assert one["tokens_per_second"] == pytest.approx(0.8 * 10e9 / one["weight_bytes"])
        assert f"about {one['tokens_per_second']:.1f} tokens/s on this PC" in shown
    speeds = [one["tokens_per_second"] >= 2.5 for one in told["models"]]
    assert speeds == sorted(speeds, reverse=True) and speeds[0]
    monkeypatch.setattr(limits, "read_rates", lambda *_: 1 / 0)  # it is remembered
    assert text(run("recommend", "--ram", "64", SOBAN_OPS="native")) == shown
    assert json.loads((cache / limits.MEMORY).read_text(encoding="utf-8")) == {
        f"{cpu_name()} {native.pool().threads}": 10e9
    }


def test_whoever_wants_consent_first_is_told_so(run: Command) -> None:
    asked = 0
    for words in (("--ram", "64"), ("--ram", "8"), ("--ram", "64", "--task", "write"), ("--ram", "64", "--lang", "ko")):
        told = json.loads(text(run("recommend", *words, "--json")))["models"]
        parts = re.split(r"(?m)^\d\. ", text(run("recommend", *words)))[1:]
        assert len(parts) == len(told) > 0
        for part, one in zip(parts, told, strict=True):
            assert ("soban login" in part) == bool(one["gated"])
            asked += bool(one["gated"])
    assert asked
    assert all(
        entry.gated
        for entry in catalogue.entries()
        if (entry.repository or "").startswith(("meta-llama/", "google/gemma"))
    )


def test_a_language_is_found_by_its_name(run: Command) -> None:
    korean = [entry.name for entry in catalogue.entries() if speaks(entry, "ko", catalogue.benchmarks())]
    named = [entry.name for entry in catalogue.entries() if "korean" in entry.title.lower()]
    for word in ("ko", "korean", "Korean", "한국어", "한국말"):
        found = [one["name"] for one in json.loads(text(run("search", word, "--json")))["catalogue"]]
        assert set(korean) | set(named) <= set(found) and "exaone4:1.2b" in found and "mistral:7b" not in found
    assert "mistral:7b" not in text(run("search", "thai")) and "llama3.1:8b" in text(run("search", "태국어"))
    for word in ("korean", "한국어"):
        assert text(run("recommend", "--ram", "8", "--lang", word)) == text(
            run("recommend", "--ram", "8", "--lang", "ko")
        )
    assert {code for entry in catalogue.entries() for code in entry.languages} <= languages.NAMES.keys()


def test_advice_without_any_fitting_model_says_which_wish_is_too_much(run: Command) -> None:
    told = text(run("recommend", "--ram", "0.6", "--lang", "ko", "--commercial"))
    assert "No model of the catalogue" in told and "soban search" in told and "soban list" in told
    counts = dict(re.findall(r"(?m)^- without (\S+).*: (\d+) would do$", told))
    entries = [entry for entry in catalogue.entries() if entry.kind == "chat" and entry.model_type in FAMILIES]
    possible = [
        entry for entry in entries
        if entry.commercial in ("yes", "conditions") and entry.parameters and entry.repository and entry.form in READ
    ]  # fmt: skip
    korean = [entry for entry in possible if speaks(entry, "ko", catalogue.benchmarks())]
    assert int(counts["--ram"]) == len(korean) > 0 and "--commercial" not in counts


def test_a_search_without_success_says_where_else_to_look(run: Command, soban: Command) -> None:
    told = run("search", "zzzz").stderr.decode()
    assert "soban search zzzz asks the hub" in told and "soban list" in told
    told = soban("search", "zzzz", "--catalogue").stderr.decode()
    assert "soban search zzzz asks the hub" in told


def test_this_pcs_memory_is_what_counts_where_none_is_given(run: Command) -> None:
    from soban.base.machine import memory_bytes

    assert json.loads(text(run("recommend", "--json")))["wish"]["memory"] == memory_bytes()


def test_the_search_without_a_network_is_in_the_catalogue_at_once(run: Command) -> None:
    start = time.perf_counter()
    done = run("search", "gemma2")
    assert "gemma2:2b" in text(done) and b"HF_HUB_OFFLINE" in done.stderr
    assert time.perf_counter() - start < 5
    assert [one["name"] for one in json.loads(text(run("search", "ko", "exaone", "--json")))["catalogue"]] == [
        "exaone3.5:2.4b", "exaone3.5:7.8b", "exaone4:1.2b",
    ]  # fmt: skip


LISTING = [
    {"id": "owner/llama-ko", "downloads": 123456, "gated": "manual", "config": {"model_type": "llama"}},
    {"id": "owner/other", "downloads": 7, "gated": False, "config": {"model_type": "unheard_of"}},
    {"id": "gpt2", "downloads": None, "gated": False},
    {"id": "../../evil", "downloads": 1}, {"id": "owner/\x1b[31mred"}, {"id": 5}, "nonsense",
]  # fmt: skip


class Listing(BaseHTTPRequestHandler):
    """A hub that only lists models."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        Listing.asked.append(parse_qs(urlsplit(self.path).query))
        body = json.dumps(LISTING).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listing_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_the_search_asks_the_hub_as_its_own_library_does(soban: Command, listing_hub: str, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    Listing.asked.clear()
    wanted = HfApi(endpoint=listing_hub, token=False).list_models(
        search="llama ko", sort="downloads", limit=3, expand=["downloads", "gated", "config"]
    )
    first = next(iter(wanted))
    spoken = HfApi(endpoint=listing_hub, token=False).list_models(
        search="llama", filter=["ko"], sort="downloads", limit=3, expand=["downloads", "gated", "config"]
    )
    next(iter(spoken))
    soban(
        "search",
        "한국어",
        "llama",
        "--limit",
        "3",
        HF_ENDPOINT=listing_hub,
        HF_HOME=str(tmp_path),
        NO_PROXY="127.0.0.1",
    )
    theirs, ours = Listing.asked[1:]
    assert {key: sorted(value) for key, value in theirs.items()} == {key: sorted(value) for key, value in ours.items()}
    del Listing.asked[1:]
    done = soban(
        "search",
        "llama",
        "ko",
        "--limit",
        "3",
        "--json",
        HF_ENDPOINT=listing_hub,
        HF_HOME=str(tmp_path),
        NO_PROXY="127.0.0.1",
    )
    hub = json.loads(text(done))["hub"]
    theirs, ours = Listing.asked
    assert {key: sorted(value) for key, value in theirs.items()} == {key: sorted(value) for key, value in ours.items()}
    assert (
        hub[0]["repository"] == first.id
        and hub[0]["downloads"] == first.downloads
        and hub[0]["gated"]
        and hub[0]["engine"]
    )


def test_what_the_hub_lists_is_checked_before_it_is_shown(soban: Command, listing_hub: str, tmp_path: Path) -> None:
    done = soban("search", "x", "--limit", "50", HF_ENDPOINT=listing_hub, HF_HOME=str(tmp_path), NO_PROXY="127.0.0.1")
    shown = text(done)
    assert "owner/llama-ko" in shown and "123K" in shown and "gpt2" in shown and "not yet" in shown
    assert "evil" not in shown and "\x1b" not in shown and "red" not in shown


def test_a_hub_that_is_not_there_is_a_note_and_the_catalogue_stands(soban: Command, tmp_path: Path) -> None:
    done = soban("search", "gemma2", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), NO_PROXY="127.0.0.1")
    assert "gemma2:2b" in text(done) and len(done.stderr.decode().splitlines()) == 1
