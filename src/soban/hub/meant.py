"""What may be meant by a word that names no model: near names, and whether it looks like a name at all."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from soban.base.errors import UserError
from soban.hub import names, place
from soban.hub.names import Repository
from soban.messages import translate

MODEL_FILES = (".bin", ".safetensors", ".gguf")
LIKELY, ALIKE = 0.75, 0.08  # of SequenceMatcher: a letter wrong in four; a difference that is none
MOST = 3
NUMBER = "0123456789.-"
NAME = re.compile(r"[A-Za-z0-9~._:/\\@-]+")  # what names and paths are made of
SHORT = 3  # letters of a name from which too many words differ by one: gpt, phi
PLAIN = re.compile(r"[A-Za-z]+[.:]*")  # a word of a sentence: "Hello...", "Summary:"


def require(name: str) -> Repository:
    """As `names.find`, where only a model can be meant: UserError, with the nearest names, for any other word."""
    if not name.strip():
        raise names.empty()
    repository = names.find(name)
    if repository is None:
        raise unknown(name)
    return repository


def unknown(word: str) -> UserError:
    """The error for a word that names no model and no file."""
    close = ", ".join(near(word))
    if is_path(word):
        return UserError(
            "{path}: no such file or folder", path=names.quotable(word), near=close,
            hint="did you mean {near}?" if close else "check the spelling",
        )  # fmt: skip
    return UserError(
        "no model {name}", name=names.quotable(word), near=close,
        hint="did you mean {near}?" if close else "soban list --catalogue shows those that have a short name",
    )  # fmt: skip


def no_prompt(word: str) -> UserError:
    """The same for a word that might have been meant as a prompt."""
    error = unknown(word)
    way = translate(error.hint or "", **error.fields)
    return UserError(error.template, hint="{way} (a prompt is given with -i)", way=way, **error.fields)


def no_place(word: str) -> UserError:
    """The same for a word that might have been meant as a new folder."""
    error = unknown(word)
    way = translate(error.hint or "", **error.fields)
    return UserError(error.template, hint="{way} (a new folder of that name is ./{name})", way=way, **error.fields)


def looks_like_name(word: str) -> bool:
    """Whether a single word is rather a name, mistyped or not here, than a prompt.

    That is a path, a word that is a slip away from a known name, and one with a digit, a colon, or any other sign that
    words of a sentence have not. Words that are not ASCII are prompts, for no model has such a name.
    """
    word = word.strip()
    if is_path(word):
        return True
    if not word.isascii() or not NAME.fullmatch(word) or not any(map(str.isalpha, word)):
        return False
    return not PLAIN.fullmatch(word) or _slipped(word.rstrip(".:").lower(), [*_catalogued(), *_here("")])


def is_path(word: str) -> bool:
    """Whether it ends as a model file does, or has a separator before any blank ("and/or" has, "what is 3/4" not)."""
    first = word.split(maxsplit=1)[0] if word.strip() else ""
    return word.endswith(MODEL_FILES) or "/" in first or "\\" in first


def near(word: str) -> list[str]:
    """What the word may stand for: names of the catalogue, models on this PC, and those in the folder that it points
    to. The nearest first, and at most three that are about as near."""
    if ":" in word and (closest := names.near(word)):
        return [closest]
    scores: dict[str, float] = {}
    for spelling, name in [*_catalogued(), *_here(word)]:
        scores[name] = max(scores.get(name, 0.0), _likeness(word.lower().rstrip(".:"), spelling))
    best = max(scores.values(), default=0.0)
    likely = [name for name, score in scores.items() if score >= max(LIKELY, best - ALIKE)]
    return sorted(likely, key=lambda name: -scores[name])[:MOST]


def _likeness(word: str, spelling: str) -> float:
    """From 0 to 1; a word without a number is as near to a name as to what the name is without its number."""
    bare = spelling.rstrip(NUMBER)
    ratios = [
        difflib.SequenceMatcher(None, word, other).ratio() for other in {spelling, bare if word.isalpha() else ""}
    ]
    return max(ratios)


def _catalogued() -> list[tuple[str, str]]:
    """(spelling, name) of the families of the catalogue, and of the other names that a model has."""
    return [(name, name) for name in names.spellings() if ":" not in name]


def _here(word: str) -> list[tuple[str, str]]:
    """(spelling, name) of the models in the hub's cache and in the folder where the word points."""
    spellings = []
    for folder in _listed(place.cache_folder()):
        if identity := place.identity(folder.name):
            spellings += [(identity.lower(), identity), (identity.rpartition("/")[2].lower(), identity)]
    parent = os.path.dirname(word)
    for path in _listed(Path(parent or ".")):
        if path.suffix in MODEL_FILES or (path / "config.json").is_file():
            name = os.path.join(parent, path.name)
            spellings += [(name.lower(), name), (os.path.join(parent, path.stem).lower(), name)]
    return spellings


def is_slip(word: str) -> bool:
    """Whether a word is one of the catalogue's names but for a letter or its number."""
    spellings = _catalogued()
    return any(_slipped(one, spellings) for one in (word.lower(), word.lower().rstrip(NUMBER)))


def _slipped(word: str, names_known: Iterable[tuple[str, str]]) -> bool:
    """Whether a known name would be this word but for its number, or one letter: "llama", "lama".

    What is only as near as `near` goes is no slip, or "table" were one for stablelm.
    """
    spellings = {spelling.rstrip(NUMBER) for spelling, _ in names_known}
    return any(
        len(name) >= SHORT and (word == name or (len(name) > SHORT and name[0] == word[:1] and _one_letter(word, name)))
        for name in spellings
    )


def _one_letter(one: str, other: str) -> bool:
    """Whether they differ by one letter that is missing, too much or wrong, or by two that changed places."""
    for end in (1, -1):  # what they have in common goes, first from the left and then from the right
        pairs = list(zip(one[::end], other[::end], strict=False))
        same = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
        one, other = one[::end][same:][::end], other[::end][same:][::end]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError):
        return []
