"""`soban search`: models by words in their names, first in the catalogue, then on the hub."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from soban.base.errors import UserError
from soban.cli.list import commercial, runs
from soban.cli.terminal import console
from soban.cli.terminal.table import table, weights
from soban.hub import catalogue, languages, place
from soban.hub.catalogue import Entry
from soban.hub.recommend import speaks
from soban.hub.searching import Found, search
from soban.messages import translate
from soban.models import FAMILIES

EXAMPLES = """\
  soban search gemma
  soban search korean llama --limit 20       in a language: ko, korean, 한국어
  soban search ko --catalogue
"""


@dataclass(frozen=True)
class SearchOptions:
    """Look for models: first in the catalogue, by name, title, family and language; then on the hub.

    A language is found by its code or its name: ko, korean, 한국어.

    With HF_HUB_OFFLINE=1, or --catalogue, the network is not asked.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "WORD ..."})
    catalogue: bool = field(default=False, metadata={"help": "look in the catalogue only"})
    limit: int = field(default=10, metadata={"help": "models of the hub, the most fetched first"})
    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = SearchOptions


def call(options: SearchOptions) -> int:
    """Writes what was found to stdout; a hub that cannot be reached is a note, and the catalogue's models stand."""
    if not options.words or not all(word.strip() and word.isprintable() for word in options.words):
        raise UserError(
            "there is nothing to look for", hint="give a word of the model's name, as in soban search gemma"
        )
    if not 1 <= options.limit <= 100:
        raise UserError("--limit {value}: out of range", value=options.limit, hint="give a number from 1 to 100")
    entries = matching(options.words, catalogue.entries())
    offline = options.catalogue or place.is_offline()
    results: list[Found] = []
    problem: UserError | None = None
    if not offline:
        try:
            with console.Status(False) as status:
                status.show(translate("asking the hub ..."))
                results = search(options.words, options.limit)
        except UserError as error:
            problem = error
    if options.json:
        console.write(as_json(entries, results, answered=not offline and problem is None))
    else:
        console.write(as_text(entries, results))
    if problem:
        console.tell(f"soban: {problem}")
    elif place.is_offline() and not options.catalogue:
        console.tell(translate("soban: HF_HUB_OFFLINE is set, so the hub was not asked"))
    if not entries and not results and not options.json:
        reached = not offline and problem is None
        words = " ".join(options.words)
        if reached:
            advice = translate("nothing was found; try fewer or other words, or soban list --catalogue")
        elif options.catalogue:
            advice = translate("nothing was found in the catalogue; soban search {words} asks the hub", words=words)
        else:
            advice = translate(
                "nothing was found in the catalogue; with a network soban search {words} asks the hub. "
                "soban list shows what is on this PC, soban list --catalogue what has a short name", words=words
            )  # fmt: skip
        console.tell(advice)
    return 0


def matching(words: Sequence[str], entries: Sequence[Entry]) -> list[Entry]:
    """The entries in which every word occurs; a language's code or name has to be the whole word."""

    def has(entry: Entry, word: str) -> bool:
        texts = (entry.name, *entry.aliases, entry.title, entry.repository or "", entry.model_type or "", entry.kind)
        language = languages.code(word) or word
        return speaks(entry, language, catalogue.benchmarks()) or any(word in text.lower() for text in texts)

    return [entry for entry in entries if all(has(entry, word.lower()) for word in words)]


def as_text(entries: Sequence[Entry], results: Sequence[Found]) -> str:
    """Two tables: the catalogue's models, and the hub's."""
    parts = []
    if entries:
        heads = [
            translate("in the catalogue"), translate("weights"), translate("engine"), translate("commercial use"),
            translate("title"),
        ]  # fmt: skip
        rows = [[e.name, weights(e.parameters), runs(e), commercial(e), e.title] for e in entries]
        parts.append(table([heads, *rows], right=(1,)))
    if results:
        heads = [translate("on the hub"), translate("fetched a month"), translate("engine"), translate("consent")]
        consent = {True: translate("asked for"), False: ""}
        rows = [[one.id, _count(one.downloads), _engine(one), consent[one.gated]] for one in results]
        parts.append(table([heads, *rows], right=(1,), giving=0))
    return "\n".join(parts)


def _engine(one: Found) -> str:
    if one.model_type is None:
        return translate("not known")
    return translate("yes") if one.model_type in FAMILIES else translate("not yet")


def _count(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}K" if number >= 1e4 else str(number)


def as_json(entries: Sequence[Entry], results: Sequence[Found], answered: bool) -> str:
    """All of it; `hub` is null where it was not asked or did not answer."""
    own = [
        {"name": e.name, "title": e.title, "repository": e.repository, "parameters": e.parameters,
         "engine": e.model_type in FAMILIES, "commercial": e.commercial} for e in entries
    ]  # fmt: skip
    hub = [
        {"repository": one.id, "downloads": one.downloads, "model_type": one.model_type, "gated": one.gated,
         "engine": one.model_type in FAMILIES} for one in results
    ]  # fmt: skip
    return json.dumps({"catalogue": own, "hub": hub if answered else None}, ensure_ascii=False, indent=1) + "\n"
