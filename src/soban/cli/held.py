"""What the commands about models on this PC share: their names, the packed files that belong to them, questions."""

import sys
from collections.abc import Sequence
from pathlib import Path

from soban.cli import console
from soban.errors import UserError
from soban.hub import names, store
from soban.hub.store import Held
from soban.weights.kept import Kept


def name_of(held: Held) -> str:
    """The name by which a model is fetched, run and removed: the catalogue's where it has one.

    A repository may hold several models of a file each: those that are there are named.
    """
    if held.revision != names.MAIN:
        return f"{held.id}@{held.revision[:12]}"
    entries = names.known(held.id)
    if len(entries) > 1:
        entries = tuple(entry for entry in entries if store.is_complete(held.folder, entry.files))
    return ", ".join(entry.name for entry in entries) or held.id


def packed_of(held: Held, packed: Sequence[Kept]) -> list[Kept]:
    """The packed files that were made of a model."""
    folder = held.folder.resolve()
    return [one for one in packed if one.source is not None and _within(one.source, folder)]


def owner_of(one: Kept, models: Sequence[Held]) -> Held | None:
    """The model of the hub's cache that a packed file was made of."""
    source = one.source
    if source is None:
        return None
    return next((held for held in models if _within(source, held.folder.resolve())), None)


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
