"""Models that somebody has given a name: a Modelfile each, small files in soban's own folder."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError
from soban.base.files import open_regular
from soban.base.leftovers import temporary
from soban.hub import names
from soban.hub.names import quotable
from soban.loading.modelfile import MOST, Modelfile, parse

SUFFIX = ".modelfile"
LATEST = ":latest"  # what Ollama's programs put behind a name
BUNDLED = "soban"  # what a server calls the bundled model
NAME = re.compile(r"\w[\w.-]{0,63}(:\w[\w.-]{0,63})?")


@dataclass(frozen=True)
class CustomModel:
    """One of them: its name, its file, what that says, and when it was written (seconds since 1970)."""

    name: str
    path: Path
    modelfile: Modelfile
    changed: float


def folder() -> Path:
    """Where the files are."""
    return system.state_folder() / "models"


def path_of(name: str) -> Path:
    """The file of a name; a colon, which Windows has no room for, is written @."""
    return folder() / f"{name.removesuffix(LATEST).lower().replace(':', '@')}{SUFFIX}"


def find(name: str) -> CustomModel | None:
    """The model of that name; None where there is none. Raises UserError for a file that is damaged."""
    if not NAME.fullmatch(name):
        return None
    path = path_of(name)
    return read(path) if path.is_file() else None


def read(path: Path) -> CustomModel:
    """What such a file says."""
    with open_regular(path) as file:
        text = file.read(4 * MOST + 1).decode("utf-8", "replace")
    name = path.name.removesuffix(SUFFIX).replace("@", ":")
    return CustomModel(name, path, parse(text, str(path)), path.stat().st_mtime)


def described(word: str | Path) -> CustomModel | None:
    """The model of one's own that a word names, or that a path is the file of; None for others."""
    if isinstance(word, Path):
        return read(word) if word.suffix == SUFFIX and word.is_file() else None
    path = system.extended(Path(word))
    return described(path) if os.path.lexists(path) else find(word)


def base_of(word: str) -> str | None:
    """The model that one of one's own is made of; other words as they are; None for the bundled one."""
    own = described(word)
    if own is None:
        return word
    return None if own.modelfile.base == BUNDLED else own.modelfile.base


def adapter_of(word: str) -> str | None:
    """The folder of the adapter that belongs to a model of one's own; None where there is none."""
    own = described(word)
    return own.modelfile.adapter if own else None


def every() -> list[CustomModel]:
    """All of them, by name."""
    return [read(path) for path in sorted(folder().glob(f"*{SUFFIX}"))] if folder().is_dir() else []


def keep(name: str, modelfile: Modelfile) -> CustomModel:
    """Gives a model a name; what had it before is replaced. Raises UserError for a name that cannot be had."""
    short = name.removesuffix(LATEST)
    if not NAME.fullmatch(short) or names.DEVICE.fullmatch(short):
        raise UserError(
            "{name}: no name for a model of one's own", name=quotable(name),
            hint="letters, digits and . _ - make one, and perhaps a tag behind a colon",
        )  # fmt: skip
    if short.lower() in names.spellings() or short.lower() == BUNDLED:
        raise UserError("{name} is the name of another model", name=quotable(name), hint="choose another name")
    if (other := find(modelfile.base)) is not None:  # whose file may change, or go
        modelfile = modelfile.on(other.modelfile)
    text = modelfile.text()
    path = path_of(short)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = temporary(path)
    new.write_text(text, encoding="utf-8", newline="\n")
    os.replace(new, path)
    return read(path)


def copy(source: str, name: str) -> CustomModel:
    """Another name for a model: one of one's own, or any other. Raises UserError as `keep` does."""
    own = find(source)
    modelfile = own.modelfile if own else with_paths(Modelfile(source), Path.cwd())
    return keep(name, modelfile)


def with_paths(modelfile: Modelfile, beside: Path) -> Modelfile:
    """The same, with paths that hold wherever it is used from: those in it count from the folder that it lies in."""
    base, adapter = modelfile.base, modelfile.adapter
    if os.path.exists(beside / Path(base).expanduser()) and find(base) is None:
        base = str((beside / Path(base).expanduser()).resolve())
    if adapter is not None:
        path = (beside / Path(adapter).expanduser()).resolve()
        if not path.exists():
            raise UserError(
                "{path}: no such file or folder", path=adapter,
                hint="ADAPTER takes the folder of an adapter that peft saved, or a GGUF file",
            )  # fmt: skip
        adapter = str(path)
    return replace(modelfile, base=base, adapter=adapter)


def remove(one: CustomModel) -> None:
    """From now on nobody is called that. The model that it is made of stays."""
    one.path.unlink(missing_ok=True)
