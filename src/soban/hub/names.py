"""What a model is called: a name of the catalogue, owner/name on the hub, or the address of its page.

A path is not a name: whoever takes both looks for a file or folder of that name first.
"""

import difflib
import functools
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from soban.base.errors import UserError
from soban.hub import catalogue
from soban.hub.catalogue import Entry

MAIN = "main"
LONGEST = 96  # characters of each part, as on the hub
PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")  # of owner/name, or of a branch's name
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows makes no such file or folder
# A repository, or its page, and the form of it that is meant, as Ollama and llama.cpp write it.
FORMED = re.compile(r"(?P<name>(?:https?://)?[^:\\]+/[^:\\]+):(?P<form>[A-Za-z0-9][A-Za-z0-9_.-]{0,39})")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
ELSEWHERE = ("datasets", "spaces", "collections", "docs", "papers", "blog")  # first words of other pages of the hub


@dataclass(frozen=True)
class Repository:
    """A model's place on the hub, and what the catalogue says of it; or the place of data to train on."""

    id: str  # owner/name
    revision: str = MAIN
    entry: Entry | None = None
    kind: Literal["models", "datasets"] = "models"
    form: str | None = None  # which of a repository's GGUF files: Q4_K_M

    @property
    def page(self) -> str:
        """Its page's address below the hub's."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def __str__(self) -> str:
        return self.id if self.form is None else f"{self.id}:{self.form}"


def find(name: str) -> Repository | None:
    """The repository that a name stands for; None where the word names no model, as a prompt does.

    Raises UserError for paths, for what no repository can be called, and for a tag that a family has not.
    """
    word = name.strip()
    if not word or any(character.isspace() for character in word):
        return None
    if not word.isprintable():
        _refuse(name)
    if (formed := FORMED.fullmatch(word)) is not None:
        whole = find(formed["name"])
        return None if whole is None else replace(whole, form=formed["form"], entry=None)
    if (entry := _by_name().get(word.lower())) is not None:
        return _of(entry, word)
    if "://" in word or word.lower().startswith(HOSTS):
        return _from_address(word)
    if word in (".", "..") or word.startswith(("/", "./", "../", "~/")) or "\\" in word or DRIVE.match(word):
        raise UserError(
            "{name}: there is no such file or folder, and it is no name of a model", name=quotable(name),
            hint="check the spelling",
        )  # fmt: skip
    short, at, _ = word.partition("@")
    if at and (entry := _by_name().get(short.lower())) is not None:
        raise UserError(
            "{name}: short names take no revision", name=quotable(name), repository=entry.repository or "owner/name",
            revision=quotable(word.partition("@")[2]), hint="write {repository}@{revision}",
        )  # fmt: skip
    family, colon, _ = word.partition(":")
    if colon and "/" not in word and (family.lower() in catalogue.defaults() or near(word)):
        _unknown(word)
    if "/" not in word or not word.isascii():
        return None
    identity, at, revision = word.partition("@")
    return _checked(identity, revision if at else MAIN, word)


def empty() -> UserError:
    """What is wrong with a name that is nothing but blanks: as a path it would be the current folder."""
    return UserError("the model's name is empty", hint="give a name or a path")


def near(name: str) -> str | None:
    """The catalogue's name that may be meant by one that it does not have; of equally near ones the default."""
    word = name.strip().lower()
    defaults = catalogue.defaults()
    family = word.partition(":")[0]
    if family not in _by_name():
        family = next(iter(difflib.get_close_matches(family, defaults, 1, cutoff=0.75)), "")
    if ":" in word and family in defaults:
        of_it = [other for other in _by_name() if other.startswith(f"{family}:")]
        return max(of_it, key=lambda other: (_likeness(word, other), other == defaults[family]))
    return next(iter(difflib.get_close_matches(word, _by_name(), 1, cutoff=0.75)), None)


def spellings() -> Collection[str]:
    """All names of the catalogue in lower case."""
    return _by_name().keys()


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def entries_of(identity: str) -> tuple[Entry, ...]:
    """The catalogue's models that are made of a repository: mostly one, or none."""
    return _by_repository().get(identity.lower(), ())


@functools.cache
def _by_name() -> dict[str, Entry]:
    """Every name of the catalogue in lower case: families, family:tag, and other names."""
    by_name = {entry.name: entry for entry in catalogue.entries()}
    table = {family: by_name[name] for family, name in catalogue.defaults().items()}
    for entry in catalogue.entries():
        table |= {word.lower(): entry for word in (entry.name, *entry.aliases)}
    return table


@functools.cache
def _by_repository() -> dict[str, tuple[Entry, ...]]:
    table: dict[str, tuple[Entry, ...]] = {}
    for entry in catalogue.entries():
        if entry.repository:
            table[entry.repository.lower()] = (*table.get(entry.repository.lower(), ()), entry)
    return table


def _of(entry: Entry, word: str) -> Repository:
    if entry.repository is None:
        raise UserError(
            "{name}: the catalogue knows no place that has it", name=word,
            hint="name a repository, as in soban pull owner/name",
        )  # fmt: skip
    return Repository(entry.repository, MAIN, entry)


def _from_address(word: str) -> Repository:
    """The repository whose page an address opens: https://huggingface.co/owner/name, also with /tree/branch."""
    try:
        address = urlsplit(word if "://" in word else f"https://{word}")
        host = (address.hostname or "").lower()
    except ValueError:
        _refuse(word)
    own = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
    if host not in (*HOSTS, own) or address.scheme not in ("https", "http"):
        raise UserError(
            "{name}: not an address of the hub", name=quotable(word),
            hint="give one that begins with https://huggingface.co/, or owner/name",
        )  # fmt: skip
    parts = [part for part in address.path.split("/") if part]
    if parts[:1] and parts[0] in ELSEWHERE:
        raise UserError(
            "{name}: this page is not a model's",
            name=quotable(word),
            hint="open the model's page, and copy its address",
        )
    identity = "/".join(parts[:2])
    revision = "/".join(parts[3:]) if parts[2:3] == ["tree"] and parts[3:] else MAIN
    if parts[2:3] in (["blob"], ["resolve"]) and parts[3:]:
        revision = parts[3]  # a file's address: the model that it belongs to
    return _checked(identity, revision, word)


def _checked(identity: str, revision: str, word: str) -> Repository:
    """The repository, with the catalogue's entry where just one is made of it."""
    parts = identity.split("/")
    if len(parts) != 2 or "--" in identity or identity.lower().endswith(".git"):
        _refuse(word)
    if not all(_fit(part) for part in (*parts, *revision.split("/"))):
        _refuse(word)
    entries = entries_of(identity)
    own = entries[0].repository if entries else None  # as its owner writes it
    return Repository(own or identity, revision, entries[0] if len(entries) == 1 else None)


def _fit(part: str) -> bool:
    return len(part) <= LONGEST and bool(PART.fullmatch(part)) and ".." not in part and not DEVICE.fullmatch(part)


def _refuse(name: str) -> NoReturn:
    raise UserError(
        "{name}: no repository can be called that", name=quotable(name), most=LONGEST,
        hint="a name is owner/name, each at most {most} letters, digits, dots, dashes and underscores",
    )  # fmt: skip


def _unknown(name: str) -> NoReturn:
    if other := near(name):
        raise UserError("no model {name}", name=quotable(name), near=other, hint="did you mean {near}?")
    raise UserError(
        "no model {name}", name=quotable(name), hint="soban list --catalogue shows those that have a short name"
    )


def quotable(name: str) -> str:
    """A stranger's text in a message: its beginning, nothing that a terminal would obey."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    return text if len(text) <= 60 else text[:59] + "…"
