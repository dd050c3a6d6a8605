"""What the commands about models on this PC share: their names, the packed files that belong to them, questions."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.hub import names, place, store
from soban.hub.store import Held
from soban.messages import translate
from soban.packing.stored import Kept


def together(models: Sequence[Held]) -> list[tuple[Held, ...]]:
    """The models, each with all revisions of it that are here and by whatever spelling: the usual revision first."""
    groups: dict[tuple[Path, str], list[Held]] = {}
    for model in models:
        groups.setdefault((model.cache, model.id.lower()), []).append(model)
    return [tuple(sorted(group, key=lambda model: model.revision != names.MAIN)) for group in groups.values()]


def bytes_of(group: Sequence[Held]) -> int:
    """What they take on the disk; files that several revisions share count once."""
    if len(group) == 1:
        return group[0].bytes
    repositories = {place.model_folder(model.cache, model.id) for model in group}
    folders = [folder / part for folder in repositories for part in ("blobs", "snapshots")]
    files = [Path(at, name) for folder in folders for at, _, listed in os.walk(folder) for name in listed]
    return store.bytes_of([path for path in files if not path.is_symlink()])


def revisions(group: Sequence[Held]) -> str:
    """The revisions beside the usual one, for a remark; empty where there are none."""
    others = ", ".join(model.revision[:12] for model in group[1:])
    return translate("also {revisions}", revisions=others) if others else ""


def known_as(identity: str) -> str:
    """The name by which a repository is known: the catalogue's where it has just one."""
    entries = names.entries_of(identity)
    return entries[0].name if len(entries) == 1 else identity


def packed_of(model: Held, packed: Sequence[Kept]) -> list[Kept]:
    """The packed files that were made of a model."""
    folder = model.folder.resolve()
    return [one for one in packed if one.source is not None and _within(one.source, folder)]


def owner_of(one: Kept, models: Sequence[Held]) -> Held | None:
    """The model of the hub's cache that a packed file was made of."""
    source = one.source
    if source is None:
        return None
    return next((model for model in models if _within(source, model.folder.resolve())), None)


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def agreed(question: str) -> bool:
    """Whether the user says yes. Raises UserError where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError("{question} nobody is there to be asked", question=question, hint="give --yes")
    answer = console.ask(f"{question} [y/N] ")
    if answer is None:
        console.tell("")
    return (answer or "").strip().lower() in console.YES
