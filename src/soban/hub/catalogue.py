"""The catalogue of models: what catalogue.toml says of each, and where every fact was read."""

import datetime
import functools
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.toml")
COMMERCIAL = ("yes", "no", "conditions")
# tuned to answer; writes on; tells stories; text in, text out; makes vectors; ranks documents
KINDS = ("chat", "base", "story", "rewrite", "embed", "rank")
FORMS = ("safetensors", "pickle", "delta", "llama2.c")  # what the repository holds
NOT_SHARED = ("repository", "form", "scores")  # what `like` does not take over


@dataclass(frozen=True)
class Source:
    """Where a fact was read, and when."""

    key: str  # by which the file names it
    url: str
    read: datetime.date


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue. What has no source is None, or empty."""

    name: str  # "gemma2:2b"
    title: str
    kind: str  # of KINDS
    aliases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # patterns of the repository's files that it is made of; none: the usual ones
    # Facts, each with its source:
    repository: str | None = None  # owner/name on the hub
    model_type: str | None = None  # config.json's, which names the family
    form: str | None = None  # of FORMS
    parameters: int | None = None
    cache: tuple[int, int, int] | None = None  # layers, key-value heads, size of a head
    context: int | None = None  # tokens
    languages: tuple[str, ...] = ()  # two-letter codes that its makers name
    code_licence: str | None = None
    weights_licence: str | None = None
    data_terms: str | None = None
    commercial: str | None = None  # of COMMERCIAL: whether the weights' licence allows it
    gated: bool | None = None  # whether the hub asks for consent first
    tokenizer: str | None = None  # the address of its tokenizer, where the repository has none that fits
    scores: tuple[tuple[str, float], ...] = ()  # benchmark, published score
    sources: tuple[tuple[str, Source], ...] = ()

    def source(self, fact: str) -> Source | None:
        """Where a fact was read; "scores.MMLU" is that of a score."""
        return dict(self.sources).get(fact)


FACTS = tuple(field.name for field in fields(Entry))[5:-1]


@dataclass(frozen=True)
class Benchmark:
    """What a published score measures."""

    name: str
    language: str
    most: float


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All models of the catalogue, in the file's order."""
    return tuple(entry for family, about in _read()["family"].items() for entry in _family(family, about))


@functools.cache
def defaults() -> dict[str, str]:
    """Family -> the name that it alone stands for: "gemma2" -> "gemma2:2b"."""
    return {family: f"{family}:{about['default']}" for family, about in _read()["family"].items()}


@functools.cache
def benchmarks() -> dict[str, Benchmark]:
    """The benchmarks by name."""
    return {name: Benchmark(name, **about) for name, about in _read()["benchmark"].items()}


@functools.cache
def _sources() -> dict[str, Source]:
    return {key: Source(key, **about) for key, about in _read()["source"].items()}


@functools.cache
def _read() -> dict[str, Any]:
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    tables: dict[str, Any] = reader.loads(FILE.read_text(encoding="utf-8"))
    return tables


def _family(family: str, about: Mapping[str, Any]) -> list[Entry]:
    shared = {key: value for key, value in about.items() if key not in ("tags", "default")}
    return [_entry(f"{family}:{tag}", _with_model(shared, about["tags"], own)) for tag, own in about["tags"].items()]


def _with_model(shared: Mapping[str, Any], tags: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for a model: its family's facts, those of the one that it is `like`, and its own."""
    model = tags[own["like"]] if "like" in own else {}
    return {
        **shared,
        **{key: value for key, value in model.items() if key in FACTS and key not in NOT_SHARED},
        **{key: value for key, value in own.items() if key != "like"},
    }


def _entry(name: str, about: Mapping[str, Any]) -> Entry:
    values, sources = {}, []
    for key, value in about.items():
        if key not in FACTS:
            values[key] = _frozen(value)
            continue
        if key == "scores":
            values[key] = tuple((benchmark, float(score)) for benchmark, (score, _) in value.items())
            sources += [(f"scores.{benchmark}", _sources()[source]) for benchmark, (_, source) in value.items()]
        else:
            values[key] = _frozen(value[0])
            sources.append((key, _sources()[value[1]]))
    return Entry(name=name, **values, sources=tuple(sources))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
