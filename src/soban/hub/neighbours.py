"""Models that other programs have fetched to this PC: Ollama, LM Studio, llama.cpp. Found, and never written to."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import last_use
from soban.hub.names import quotable
from soban.weights import ollama
from soban.weights.naming import SPLIT, gguf_models

LIBRARY = ("registry.ollama.ai", "library")  # where Ollama's own models come from; its names leave it out
LATEST = "latest"  # Ollama's tag where none is said
MOST_FILES = 20_000  # looked at in one program's folder


@dataclass(frozen=True)
class Neighbour:
    """A model of another program: its name here, whose it is, the path to open, and what it takes of the disk."""

    name: str
    owner: str
    path: Path
    bytes: int
    used: float  # seconds since 1970


def neighbours() -> list[Neighbour]:
    """All of them, by program and name."""
    return [neighbour for program in PROGRAMS.values() for neighbour in program()]


def is_name(name: str) -> bool:
    """Whether a word names a model of another program: ollama/gemma2:2b, lmstudio/publisher/model."""
    return name.partition("/")[0].lower() in PROGRAMS and "/" in name and not any(map(str.isspace, name))


def locate(name: str) -> Path | None:
    """The model of such a name; None for a word that is no such name. Raises UserError where it is not here."""
    if not is_name(name):
        return None
    prefix = name.partition("/")[0].lower()
    models = {neighbour.name.lower(): neighbour.path for neighbour in PROGRAMS[prefix]()}
    for spelling in (name.lower(), f"{name.lower()}:{LATEST}"):
        if spelling in models:
            return models[spelling]
    raise UserError(
        "{name}: there is no such model of {owner}'s on this PC", name=quotable(name), owner=OWNERS[prefix],
        there=", ".join(sorted(models)[:5]) or "-", hint="there are: {there}",
    )  # fmt: skip


def _ollama() -> Iterator[Neighbour]:
    own = os.environ.get("OLLAMA_MODELS")
    services = ("/usr/share/ollama/.ollama/models", "/var/lib/ollama/models")  # of the system's own user
    for folder in [Path(own)] if own else [Path.home() / ".ollama" / "models", *map(Path, services)]:
        manifests = folder / "manifests"
        for path in _files(manifests):
            parts = path.relative_to(manifests).parts
            if len(parts) != 4 or path.name.startswith("."):
                continue
            *place, model, tag = parts
            usual = place[0] == LIBRARY[0]
            before = () if tuple(place) == LIBRARY else place[1:] if usual else place
            try:
                size = sum(blob.stat().st_size for blob, _ in ollama.layers(path).values() if blob.is_file())
            except UserError:
                continue  # no model
            yield Neighbour("/".join(("ollama", *before, f"{model}:{tag}")), "Ollama", path, size, last_use(path))


def _lm_studio() -> Iterator[Neighbour]:
    pointer, home = Path.home() / ".lmstudio-home-pointer", Path.home() / ".lmstudio"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        home = Path(pointer.read_text(encoding="utf-8").strip())
    for folder in (home / "models", Path.home() / ".cache" / "lm-studio" / "models"):
        by_model: dict[tuple[str, ...], list[Path]] = {}
        for path in _files(folder):
            parts = path.relative_to(folder).parts
            if len(parts) == 3 and path.name.lower().endswith(".gguf"):
                by_model.setdefault(parts[:2], []).append(path)
        for parts, paths in by_model.items():
            forms = gguf_models(path.name for path in paths)
            for name in forms:
                stem = "" if len(forms) == 1 else f"/{_stem(name)}"
                yield _gguf(f"lmstudio/{'/'.join(parts)}{stem}", "LM Studio", folder.joinpath(*parts, name))


def _llama_cpp() -> Iterator[Neighbour]:
    if own := os.environ.get("LLAMA_CACHE"):
        folder = Path(own)
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "llama.cpp"
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "llama.cpp"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama.cpp"
    for name in gguf_models(path.name for path in _files(folder) if path.parent == folder):
        yield _gguf(f"llama.cpp/{_stem(name)}", "llama.cpp", folder / name)


PROGRAMS: dict[str, Callable[[], Iterator[Neighbour]]] = {
    "ollama": _ollama, "lmstudio": _lm_studio, "llama.cpp": _llama_cpp,
}  # fmt: skip
OWNERS = {"ollama": "Ollama", "lmstudio": "LM Studio", "llama.cpp": "llama.cpp"}


def _gguf(name: str, owner: str, path: Path) -> Neighbour:
    """A model that is a GGUF file, or several of which `path` is the first."""
    split = SPLIT.search(path.name)
    beside = path.parent.glob(f"{path.name[: split.start()]}-?????-of-{split['count']}.gguf") if split else [path]
    sizes = [file.stat().st_size for file in beside if file.is_file()]
    return Neighbour(name, owner, path, sum(sizes), last_use(path))


def _stem(name: str) -> str:
    return SPLIT.sub("", name) if SPLIT.search(name) else name[: -len(".gguf")]


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder; none where there is no such folder, or we may not look."""
    count = 0
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            yield Path(at, name)
