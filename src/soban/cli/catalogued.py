"""What the catalogue knows of a model that is not fetched: each fact with the place where it was read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soban.base.errors import UserError
from soban.cli.terminal import console, sections
from soban.cli.terminal.sections import one_line
from soban.cli.terminal.wrapping import wrapped
from soban.hub import catalogue, meant
from soban.hub.catalogue import Entry, Source
from soban.hub.choosing import READ
from soban.messages import translate
from soban.models import FAMILIES


@dataclass(frozen=True)
class Fact:
    """One line of the table: what it is, what it says, and the names of the catalogue's facts that it comes from."""

    label: str
    value: str
    facts: tuple[str, ...]


def show(name: str, as_json: bool) -> int:
    """Writes what is known to stdout. Raises UserError for a model that is not in the catalogue."""
    repository = meant.require(name)
    entry = repository.entry
    if entry is None:
        raise UserError(
            "{name} is not on this PC, and the catalogue does not know it", name=name,
            hint="soban plan {name} asks the hub about it, soban pull {name} fetches it",
        )  # fmt: skip
    console.write(
        json.dumps(as_dict(entry, fetched=False), ensure_ascii=False, indent=1) + "\n" if as_json else text(entry)
    )
    return 0


def as_dict(entry: Entry, fetched: bool) -> dict[str, Any]:
    """Everything in plain values."""
    values = {fact: getattr(entry, fact) for fact in catalogue.FACTS} | {"scores": dict(entry.scores)}
    sources = {fact: {"url": source.url, "read": source.read.isoformat()} for fact, source in entry.sources}
    return {
        "name": entry.name, "title": entry.title, "kind": entry.kind, "aliases": list(entry.aliases),
        "fetched": fetched, "engine": entry.model_type in FAMILIES, **values, "sources": sources,
    }  # fmt: skip


def text(entry: Entry) -> str:
    """The facts with numbers behind them, and below what the numbers stand for."""
    total = sections.columns()
    numbers: dict[str, int] = {}
    sources = dict(entry.sources)
    rows = [(fact.label, _with_sources(fact, sources, numbers)) for fact in facts(entry) if fact.value]
    lines = sections.page([(f"{entry.name}: {one_line(entry.title)}", rows)], total)
    lines += [*wrapped(_how_to_get(entry), total), ""]
    read = {source.url: source.read.isoformat() for source in sources.values()}
    lines += [f"  [{number}] {url} ({read[url]})" for url, number in numbers.items()]
    return "\n".join(lines).rstrip() + "\n"


def _how_to_get(entry: Entry) -> str:
    """That it is not here, and whether it is worth fetching."""
    if entry.form not in READ:
        return translate("not on this PC, and in a form that soban does not read")
    if entry.model_type is not None and entry.model_type not in FAMILIES:
        return translate("not on this PC; soban has no engine for it yet, so it could be fetched but not run")
    return translate("not on this PC: soban pull {name} fetches it", name=entry.name)


def _with_sources(fact: Fact, sources: Mapping[str, Source], numbers: dict[str, int]) -> str:
    """The value, and the numbers of the addresses where it was read."""
    urls = dict.fromkeys(sources[name].url for name in fact.facts if name in sources)
    marks = "".join(f"[{numbers.setdefault(url, len(numbers) + 1)}]" for url in urls)
    return f"{fact.value} {marks}".rstrip()


def facts(entry: Entry) -> list[Fact]:
    """What is known, in the order of what people ask first."""
    gated = "" if entry.gated is None else translate("wanted by the hub") if entry.gated else translate("not needed")
    scores = [Fact(name, f"{score:g}", (f"scores.{name}",)) for name, score in entry.scores]
    return [
        Fact(translate("repository"), one_line(entry.repository or "", 100), ("repository",)),
        Fact(translate("family"), _family(entry), ("model_type",)),
        Fact(translate("parameters"), f"{entry.parameters:,}" if entry.parameters else "", ("parameters",)),
        Fact(translate("context"), f"{entry.context:,}" if entry.context else "", ("context",)),
        Fact(translate("languages"), " ".join(entry.languages), ("languages",)),
        Fact(translate("files"), _form(entry), ("form",)),
        Fact(translate("licence of the weights"), one_line(entry.weights_licence or "", 100), ("weights_licence",)),
        Fact(translate("licence of the code"), one_line(entry.code_licence or "", 100), ("code_licence",)),
        Fact(
            translate("terms of the data"),
            one_line(translate(entry.data_terms), 300) if entry.data_terms else "",
            ("data_terms",),
        ),
        Fact(translate("commercial use"), commercial(entry.commercial), ("commercial",)),
        Fact(translate("consent"), gated, ("gated",)),
        *scores,
    ]


def commercial(use: str | None) -> str:
    """What the licence says of commercial use; empty where nobody has read it."""
    return {"yes": translate("yes"), "no": translate("no"), "conditions": translate("under conditions")}.get(
        use or "", ""
    )


def _family(entry: Entry) -> str:
    if entry.model_type is None:
        return ""
    runs = translate("soban has an engine for it")
    return f"{entry.model_type}: {runs if entry.model_type in FAMILIES else translate('no engine for it yet')}"


def _form(entry: Entry) -> str:
    kinds = {
        "pickle": translate("pickle, which is never read: it can run any code"),
        "delta": translate("only the difference to another model, which soban does not join"),
    }
    return kinds.get(entry.form or "", entry.form or "")
