"""`soban du`: what models take on the disk, and what of it can go."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from soban.base import system
from soban.base.units import of_bytes
from soban.cli.held import bytes_of, known_as, owner_of, revisions, together
from soban.cli.terminal import console
from soban.cli.terminal.table import table
from soban.hub import place, store
from soban.hub.store import Held
from soban.messages import translate
from soban.packing import stored
from soban.packing.stored import Kept

EXAMPLES = """\
  soban du
  soban du --json
"""


@dataclass(frozen=True)
class DuOptions:
    """Show what models take on the disk: in the cache of the hub, and packed for soban. Tells what can go."""

    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = DuOptions


def call(options: DuOptions) -> int:
    """Writes the sizes to stdout."""
    models, packed = store.models(), stored.packed_files()
    console.write(as_json(models, packed) if options.json else as_text(models, packed))
    return 0


def as_text(models: Sequence[Held], packed: Sequence[Kept]) -> str:
    """The two caches, each with its folder, the largest first; then the sums."""
    fetched = [
        (
            of_bytes(size),
            store.name_of(group[0]),
            revisions(group) if group[0].complete else translate("not complete: soban pull goes on"),
        )
        for size, group in sorted(((bytes_of(group), group) for group in together(models)), key=lambda one: -one[0])
    ]
    packs = [(of_bytes(one.bytes), f"{_name(one, models)}  {one.kind}".rstrip(), remark(one)) for one in packed]
    parts = [
        _section(translate("fetched, in {folder}", folder=place.cache_folder()), fetched),
        _section(translate("packed for soban, in {folder}", folder=system.cache_folder() / "packed"), packs),
    ]
    total = sum(map(bytes_of, together(models))) + sum(one.bytes for one in packed)
    lines = [translate("together {size}", size=of_bytes(total))]
    if spare := sum(one.bytes for one in packed if one.spare):
        lines.append(translate("{size} can go: soban rm --spare", size=of_bytes(spare)))
    return "\n".join([*parts, *lines]) + "\n"


def _section(head: str, rows: "list[tuple[str, str, str]]") -> str:
    return (
        head
        + "\n"
        + (table(rows, right=(0,), giving=1, label=1, heads=False) if rows else translate("   nothing") + "\n")
    )


def _name(one: Kept, models: Sequence[Held]) -> str:
    """The name of the model that a packed file was made of."""
    if owner := owner_of(one, models):
        return store.name_of(owner)
    identity = place.identity(one.name)
    return known_as(identity) if identity else one.name


def remark(one: Kept) -> str:
    """Whether a packed file can go, and why."""
    words = {
        "current": "",
        "changed": translate("can go: its model has changed"),
        "gone": translate("can go: its model is gone"),
        "unknown": translate("made by an older soban"),
        "begun": translate("is being made just now"),
        "unfinished": translate("can go: left behind half made"),
    }
    return words[one.state]


def as_json(models: Sequence[Held], packed: Sequence[Kept]) -> str:
    """All files and sums, for programs."""
    report = {
        "hub_cache": str(place.cache_folder()),
        "packed_cache": str(system.cache_folder() / "packed"),
        "models": [
            {"name": store.name_of(model), "repository": model.id, "bytes": model.bytes, "complete": model.complete,
             "folder": str(model.folder)} for model in models
        ],
        "packed": [
            {"name": _name(one, models), "kind": one.kind, "bytes": one.bytes, "path": str(one.path),
             "source": None if one.source is None else str(one.source), "state": one.state} for one in packed
        ],
        "bytes": sum(map(bytes_of, together(models))) + sum(one.bytes for one in packed),
        "spare_bytes": sum(one.bytes for one in packed if one.spare),
    }  # fmt: skip
    return json.dumps(report, ensure_ascii=False, indent=1) + "\n"
