"""Where a model's files lie: at a path, or in the hub's cache under its name; what is not on this PC is fetched."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from soban import messages
from soban.base import system

if TYPE_CHECKING:
    from soban.hub.names import Repository


def fetch_quietly(repository: "Repository") -> Path:
    """The folder of a model that is fetched now, with one note about it. Raises UserError."""
    from soban.hub import download

    messages.warn("fetching {model} from the hub: {id}", model=repository, id=repository.id)
    return download.pull(repository, lambda progress: None)


def locate(name: str | Path, fetch: Callable[["Repository"], Path] = fetch_quietly) -> Path:
    """The folder or file of a model; a path goes before a name. `fetch` brings what is not in the hub's cache.

    Raises UserError for a word that is neither.
    """
    if isinstance(name, str) and not name.strip():
        from soban.hub import names

        raise names.empty()
    path = system.extended(Path(name))
    if isinstance(name, Path) or os.path.lexists(path):
        return path
    from soban.hub import meant, names, neighbours, store  # the catalogue, which most starts can do without
    from soban.loading import custom

    if (own := custom.find(name)) is not None:
        return own.path
    if (other := neighbours.locate(name)) is not None:
        return other
    repository = names.find(name)
    if repository is None:
        raise meant.unknown(name)
    folder = store.complete_folder(repository) or fetch(repository)
    return _single_file(folder, repository) or folder


def _single_file(folder: Path, repository: "Repository") -> Path | None:
    """The .bin of a llama2.c model, or the first GGUF file of a form, of which a repository may hold several."""
    if repository.form is not None:
        from soban.hub import store

        return store.form_file(folder, repository.form)
    if repository.entry is None or repository.entry.form != "llama2.c":
        return None
    return folder / repository.entry.files[0]
