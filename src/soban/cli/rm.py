"""`soban rm`: deletes models from the hub's cache, and what soban has packed of them."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.cli.held import agreed, packed_of
from soban.cli.terminal import console
from soban.hub import names, neighbours, store
from soban.hub.store import Held
from soban.loading import custom
from soban.loading.custom import CustomModel
from soban.messages import translate
from soban.packing import stored
from soban.packing.stored import Kept

EXAMPLES = """\
  soban rm gemma2:2b              the model, and what soban has packed of it
  soban rm gemma2:2b --packed     only what is packed: it is made again when it is needed
  soban rm my-model --packed      of a folder of your own that is all that can be deleted
  soban rm --spare                packed files whose model has gone or changed
"""


@dataclass(frozen=True)
class RmOptions:
    """Delete models from this PC: from the cache of the hub, which other programs use too, and soban's packed files.

    It asks first. A folder or file of your own is never deleted.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL ...]"})
    packed: bool = field(default=False, metadata={"help": "delete only what soban has packed of the models"})
    spare: bool = field(default=False, metadata={"help": "delete packed files that nothing needs any more"})
    yes: bool = field(default=False, metadata={"short": "-y", "help": "do not ask"})


OPTIONS = RmOptions


def call(options: RmOptions) -> int:
    """Deletes, after a question, and tells how much room there is now. Nothing is deleted where a name is unknown."""
    if not options.words and not options.spare:
        raise UserError("nothing is named", hint="give a model, as in soban rm gemma2:2b; soban list shows them")
    named_models = _distinct([one for word in options.words if (one := _own_model(word)) is not None])
    words = [word for word in options.words if _own_model(word) is None]
    models, packed = store.models(), stored.packed_files()
    own = [path for word in words if (path := own_path(word)) is not None]
    if own and not options.packed:
        raise UserError(
            "{path} is your own, which soban never deletes", path=own[0],
            hint="--packed deletes what soban has packed of it",
        )  # fmt: skip
    doomed = _distinct([model for word in words if own_path(word) is None for model in matches(word, models)])
    files = _distinct([one for model in doomed for one in packed_of(model, packed)])
    files = _distinct([*files, *(one for path in own for one in made_of(path, packed))])
    if options.spare:
        files = _distinct([*files, *(one for one in packed if one.spare)])
    if options.packed:
        doomed, named_models = [], []
    if not doomed and not files and not named_models:
        console.tell(translate("there is nothing to delete"))
        return 0
    if not options.yes and not agreed(question(doomed, files, named_models)):
        console.tell(translate("nothing is deleted"))
        return 0
    freed = 0
    for one in files:  # first: they are mapped by whoever runs the model, and on Windows that is told here
        freed += stored.remove(one)
    for model in doomed:
        freed += store.remove(model)
        console.tell(translate("deleted: {name}", name=store.name_of(model)))
    for own_model in named_models:
        custom.remove(own_model)
        console.tell(translate("deleted: {name}", name=own_model.name))
    if files or doomed:
        console.tell(translate("{size} are free again", size=of_bytes(freed)))
    return 0


def _distinct(items: "list") -> "list":
    return list(dict.fromkeys(items))


def own_path(word: str) -> Path | None:
    """The file or folder that a word is the path of; None for a name, and for what is not there."""
    path = system.extended(Path(word))
    return path if word.strip() and os.path.lexists(path) else None


def made_of(path: Path, packed: Sequence[Kept]) -> list[Kept]:
    """The packed files that were made of a folder of one's own, or of a file."""
    whole = path.resolve()
    return [
        one for one in packed
        if one.source == whole or (one.source is not None and one.source.is_file() and one.source.parent == whole)
    ]  # fmt: skip


def matches(word: str, models: Sequence[Held]) -> list[Held]:
    """The models on this PC that a name means: all revisions, unless it names one. UserError where there is none."""
    if not word.strip():
        raise names.empty()
    if neighbours.is_name(word):
        raise UserError(
            "{name} belongs to another program, and soban deletes nothing of others", name=console.shortened(word),
            hint="delete it there: ollama rm, or LM Studio's list of models",
        )  # fmt: skip
    repository = names.find(word)
    if repository is not None:
        mine = [model for model in models if model.id.lower() == repository.id.lower()]
        if (revision := repository.revision) != names.MAIN:
            mine = [model for model in mine if model.revision == revision or model.folder.name.startswith(revision)]
        if mine:
            return mine
    all_names = [store.name_of(model) for model in models]
    near = difflib.get_close_matches(word, [*all_names, *(model.id for model in models)], 1, cutoff=0.5)
    raise UserError(
        "{name} is not on this PC", name=console.shortened(word), near=near[0] if near else "",
        hint="did you mean {near}?" if near else "soban list shows what is",
    )  # fmt: skip


def _own_model(word: str) -> CustomModel | None:
    """The model that somebody has given that name, unless a file or folder is called so."""
    return custom.find(word) if own_path(word) is None else None


def question(models: Sequence[Held], files: Sequence[Kept], own: Sequence[CustomModel] = ()) -> str:
    """What is about to go, in one line."""
    parts = [f"{store.name_of(model)} ({of_bytes(model.bytes)})" for model in models]
    parts += [translate("the name {name}", name=one.name) for one in own]
    if files:
        size = of_bytes(sum(one.bytes for one in files))
        parts.append(translate("{count} packed files ({size})", count=len(files), size=size))
    return translate("delete {things}?", things=", ".join(parts))
