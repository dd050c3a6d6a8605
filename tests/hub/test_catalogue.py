"""The catalogue: every fact has a source and a day, names do not collide, and families without an engine say so."""

import datetime
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from soban.hub import catalogue, meant, names
from soban.hub.catalogue import COMMERCIAL, FACTS, FORMS, KINDS, Entry
from soban.hub.recommend import series
from soban.models import FAMILIES
from tests.scripts import script

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = catalogue.entries()
every = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@every
def test_every_filled_fact_has_an_address_and_a_day(entry: Entry) -> None:
    wanted = {fact for fact in FACTS if fact != "scores" and getattr(entry, fact) not in (None, ())}
    wanted |= {f"scores.{benchmark}" for benchmark, _ in entry.scores}
    assert {fact for fact, _ in entry.sources} == wanted
    for _, source in entry.sources:
        address = urlsplit(source.url)
        assert address.scheme == "https" and "." in address.netloc and len(address.path) > 1
        assert datetime.date(2026, 11, 1) <= source.read <= datetime.date.today()


@every
def test_the_values_are_of_the_kinds_that_the_head_of_the_file_promises(entry: Entry) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+:[a-z0-9.-]+", entry.name) and entry.title and entry.kind in KINDS
    assert entry.form in (None, *FORMS) and entry.commercial in (None, *COMMERCIAL) and entry.gated in (None, True)
    assert all(re.fullmatch(r"[a-z]{2}", language) for language in entry.languages)
    assert entry.cache is None or (
        len(entry.cache) == 3 and all(type(size) is int and size > 0 for size in entry.cache)
    )
    for number in (entry.parameters, entry.context):
        assert number is None or (type(number) is int and number > 0)
    for benchmark, value in entry.scores:
        assert 0 <= value <= catalogue.benchmarks()[benchmark].most


@every
def test_the_name_leads_to_the_repository(entry: Entry) -> None:
    for name in (entry.name, entry.name.upper(), *entry.aliases):
        found = names.find(name)
        assert found is not None and found.entry == entry and found.id == entry.repository


@every
def test_the_size_in_the_name_is_that_of_the_weights(entry: Entry) -> None:
    """A judge of the counts: the digits that the makers themselves put into the name."""
    said = re.search(r"(?<![a-z])(\d+(?:\.\d+)?)(k|m|b\d?)\b", entry.name.partition(":")[2].removesuffix("-base"))
    if said is None or entry.parameters is None or entry.name.endswith("-128k"):
        return
    size = float(said[1]) * {"k": 1e3, "m": 1e6, "b": 1e9}[said[2][0]]
    if said[2][0] == "b" and said[2][1:]:
        size += float(said[2][1:]) * 1e8  # BLOOM's 1b7 is 1.7 billion
    # "2B" of Gemma 2 is 2.6 billion, "7B" of Gemma is 8.5: names round down, never by more than a third
    assert 0.75 * size <= entry.parameters <= 1.34 * size


def test_names_and_other_names_do_not_collide() -> None:
    said = [*catalogue.defaults(), *(word.lower() for entry in ENTRIES for word in (entry.name, *entry.aliases))]
    assert len(said) == len(set(said))


def test_a_repository_is_named_once_unless_its_models_name_their_files() -> None:
    held: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        held.setdefault(str(entry.repository).lower(), []).append(entry)
    for entries in held.values():
        assert len(entries) == 1 or all(entry.files for entry in entries)
    assert not any(pattern.startswith(("/", ".")) or ".." in pattern for entry in ENTRIES for pattern in entry.files)


def test_the_family_alone_stands_for_a_model_that_answers() -> None:
    by_name = {entry.name: entry for entry in ENTRIES}
    for family, name in catalogue.defaults().items():
        default = by_name[name]
        others = [entry for entry in ENTRIES if entry.name.startswith(f"{family}:")]
        assert default.kind == "chat" or not any(entry.kind == "chat" for entry in others)
    assert names.find("gemma2").id == "google/gemma-2-2b-it"  # type: ignore[union-attr]
    assert names.find("gemma2:2b-base").id == "google/gemma-2-2b"  # type: ignore[union-attr]


def test_all_that_was_asked_for_is_there() -> None:
    wanted = """gemma gemma2 gemma3 llama2 llama3 llama3.1 llama3.2 alpaca vicuna koalpaca polyglot-ko stablelm
    stable-vicuna gpt2 gptj gpt4all-j dolly1 dolly2 bloom t5 phi2 phi3 phi3.5 mistral qwen2.5 qwen3 smollm2
    exaone3.5 exaone4 kanana1.5 midm2.0 ax4.0 hyperclovax-seed solar stories"""
    assert set(wanted.split()) <= catalogue.defaults().keys()
    for name in ("gemma2:2b", "gemma2:9b", "gemma2:27b", "stories260K", "stories15M", "stories42M", "stories110M"):
        assert names.find(name) is not None


def test_only_families_that_have_a_file_are_said_to_run() -> None:
    waits = {entry.name.partition(":")[0] for entry in ENTRIES if entry.model_type not in FAMILIES}
    assert waits == {
        "alpaca", "stablelm", "t5",
        "kanana1.5", "midm2.0", "ax4.0", "hyperclovax-seed",  # whose config.json nobody has read
    }  # fmt: skip


def test_a_model_of_one_file_names_it_and_says_where_its_tokenizer_is() -> None:
    for entry in ENTRIES:
        if entry.form == "llama2.c":
            assert [name for name in entry.files if name.endswith("K.bin") or name.endswith("M.bin")]
            assert entry.tokenizer or any("tok" in name for name in entry.files)


def test_the_counts_of_gemma_follow_from_its_shapes() -> None:
    """Gemma 2 2B, by hand: the embedding, and per layer attention, three matrices of the MLP and four norms."""
    entry = meant.require("gemma2:2b").entry
    assert entry is not None
    layers, heads, size = entry.cache or (0, 0, 0)
    width, inner, queries = 2304, 9216, 8
    layer = width * size * (2 * queries + 2 * heads) + 3 * width * inner + 4 * width
    assert entry.parameters == 256000 * width + layers * layer + width
    assert 2 * 2 * layers * heads * size == 104 * 1024  # bytes a token in float16, as docs say


def test_no_source_is_listed_in_vain() -> None:
    used = {source.key for entry in ENTRIES for _, source in entry.sources}
    assert used == set(catalogue._sources())


def test_versions_of_a_series_count_as_one() -> None:
    kinds = {series(entry) for entry in ENTRIES if entry.name.startswith(("llama", "gemma", "qwen"))}
    assert kinds == {"llama", "gemma", "qwen"}


def test_the_page_of_models_is_up_to_date() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == script("models").page(), "python scripts/models.py"
    assert set(re.findall(r"\]\[([^\]]+)\]", page)) == set(re.findall(r"^\[([^\]]+)\]: https", page, re.MULTILINE))


def test_reading_the_catalogue_brings_nothing_heavy() -> None:
    code = "import sys, soban.hub.names; print(sys.modules.keys() & {'numpy', 'huggingface_hub', 'tomllib', 'httpx2'})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert done.stdout == "set()\n"
