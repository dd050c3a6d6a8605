"""`soban list`: the models on this PC, or those of the catalogue."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from soban.base.units import of_bytes
from soban.cli.held import bytes_of, packed_of, revisions, together
from soban.cli.terminal import console
from soban.cli.terminal.table import table, weights
from soban.hub import catalogue, neighbours, store
from soban.hub.catalogue import Entry
from soban.hub.neighbours import Neighbour
from soban.loading import custom
from soban.loading.custom import CustomModel
from soban.messages import translate
from soban.models import FAMILIES
from soban.packing import stored

EXAMPLES = """\
  soban list                      what is on this PC
  soban list --catalogue          what has a short name, and may be fetched
  soban list --catalogue --json
"""
NOT_READ = ("pickle", "delta")


@dataclass(frozen=True)
class ListOptions:
    """List the models on this PC: size, what soban has packed of them, when they were last used."""

    catalogue: bool = field(default=False, metadata={"help": "list the models that have a short name instead"})
    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = ListOptions


def call(options: ListOptions) -> int:
    """Writes the list to stdout."""
    if options.catalogue:
        entries = catalogue.entries()
        console.write(catalogue_json(entries) if options.json else catalogue_table(entries))
        return 0
    models, packed, others = store.models(), stored.packed_files(), neighbours.neighbours()
    own = custom.every()
    if options.json:
        report = [_as_dict(model, packed) for model in models] + [_told_of_other(other, packed) for other in others]
        report += [_told_of_own(one) for one in own]
        console.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    elif models or others or own:
        console.write(models_table(models, packed, others, own))
    else:
        console.tell(
            translate("no models here yet: soban recommend tells what suits this PC, soban pull MODEL fetches it")
        )
    return 0


def models_table(
    models: Sequence[store.Held], packed: Sequence[stored.Kept], others: Sequence[Neighbour] = (),
    own: Sequence[CustomModel] = (),
) -> str:  # fmt: skip
    """A line for each model; of other programs' models their owner is said, of one's own what they are made of."""
    head = (translate("model"), translate("fetched"), translate("packed"), translate("last used"), translate("state"))
    rows = [head]
    for group in together(models):
        forms = [one for model in group for one in packed_of(model, packed) if one.kind != "tokenizer"]
        last = max(model.used for model in group)
        rows.append(
            (
                store.name_of(group[0]), of_bytes(bytes_of(group)),
                _forms(forms), _day(last), revisions(group) if group[0].complete else translate("not complete"),
            )
        )  # fmt: skip
    for other in others:
        whose = translate("{owner}'s", owner=other.owner)
        rows.append((other.name, of_bytes(other.bytes), _forms(_packed_of(other, packed)), _day(other.used), whose))
    for one in own:
        rows.append((one.name, "", "", _day(one.changed), translate("made of {model}", model=one.modelfile.base)))
    return table(rows, right=(1,), giving=0)


def _forms(packed: Sequence[stored.Kept]) -> str:
    return ", ".join(f"{one.kind} {of_bytes(one.bytes)}" for one in packed)


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment)) if moment else ""


def _packed_of(other: Neighbour, packed: Sequence[stored.Kept]) -> list[stored.Kept]:
    """What soban has packed of another program's model."""
    path = other.path.resolve()
    return [one for one in packed if one.source == path and one.kind != "tokenizer"]


def _told_of_other(other: Neighbour, packed: Sequence[stored.Kept]) -> dict[str, Any]:
    return {
        "name": other.name, "owner": other.owner, "path": str(other.path), "bytes": other.bytes, "used": other.used,
        "packed": _packed_told(_packed_of(other, packed)),
    }  # fmt: skip


def _told_of_own(one: CustomModel) -> dict[str, Any]:
    return {"name": one.name, "path": str(one.path), "from": one.modelfile.base, "modelfile": one.modelfile.text()}


def _packed_told(packed: Sequence[stored.Kept]) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "bytes": one.bytes, "path": str(one.path)} for one in packed]


def _as_dict(model: store.Held, packed: Sequence[stored.Kept]) -> dict[str, Any]:
    return {
        "name": store.name_of(model), "repository": model.id, "revision": model.revision, "folder": str(model.folder),
        "bytes": model.bytes, "complete": model.complete, "used": model.used,
        "packed": _packed_told(packed_of(model, packed)),
    }  # fmt: skip


def catalogue_table(entries: Sequence[Entry]) -> str:
    """A line for each model of the catalogue; what is not known stays empty."""
    rows = [
        (
            translate("model"), translate("weights"), translate("context"), translate("languages"),
            translate("commercial use"), translate("engine"),
        )
    ]  # fmt: skip
    for entry in entries:
        rows.append(
            (
                entry.name, weights(entry.parameters), _tokens(entry.context), _languages(entry.languages),
                commercial(entry), runs(entry),
            )
        )  # fmt: skip
    return table(rows, right=(1, 2), giving=5)


def runs(entry: Entry) -> str:
    """Whether soban runs a model's family and reads its files, or why not."""
    if entry.form in NOT_READ:
        return translate("no: pickle") if entry.form == "pickle" else translate("no: delta")
    if entry.model_type is None:
        return translate("not known")
    return translate("yes") if entry.model_type in FAMILIES else translate("not yet")


def commercial(entry: Entry) -> str:
    """What the licence says of commercial use; empty where nobody has read it."""
    if entry.commercial is None:
        return ""
    words = {"yes": translate("yes"), "no": translate("no"), "conditions": translate("conditions")}
    return words[entry.commercial]


def _languages(codes: Sequence[str]) -> str:
    """Korean first: it is what many of our users look for."""
    ordered = sorted(codes, key=lambda code: (code != "ko", code != "en"))
    return " ".join(ordered[:3]) + (f" +{len(ordered) - 3}" if len(ordered) > 3 else "")


def _tokens(count: int | None) -> str:
    return "" if count is None else f"{count // 1024}K" if count >= 1024 else str(count)


def catalogue_json(entries: Sequence[Entry]) -> str:
    """Everything of the catalogue, each fact with its source."""
    report = []
    for entry in entries:
        facts = {name: getattr(entry, name) for name in catalogue.FACTS if name != "scores"}
        sources = {name: {"url": source.url, "read": source.read.isoformat()} for name, source in entry.sources}
        report.append(
            {
                "name": entry.name, "title": entry.title, "kind": entry.kind, "aliases": entry.aliases,
                "files": entry.files, **facts, "scores": dict(entry.scores), "engine": entry.model_type in FAMILIES,
                "sources": sources,
            }
        )  # fmt: skip
    return json.dumps(report, ensure_ascii=False, indent=1) + "\n"
