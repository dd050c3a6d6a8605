"""A model that was named and is not on this PC: what it would take is told, the user is asked, and it is fetched."""

import sys
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import free_bytes
from soban.base.units import of_bytes
from soban.cli.terminal import console
from soban.hub import choosing, place
from soban.hub.names import Repository
from soban.messages import translate
from soban.models import FAMILIES

BYTES = 2  # of a weight, as nearly all models are published
NO = ("n", "no", "ㅜ", "아니", "아니요", "아니오", "아뇨")


def bring(repository: Repository) -> Path:
    """The folder of a model, fetched now. On a terminal the user is asked first.

    Raises UserError where he says no, and for a model that the catalogue knows not to run here.
    """
    from soban.cli import pull

    choosing.check_form(repository)
    if repository.entry and (family := repository.entry.model_type) is not None and family not in FAMILIES:
        raise UserError(
            "{model}: soban has no engine for {family} models yet", model=repository, family=family,
            hint="choose another model: soban list --catalogue shows which have one",
        )  # fmt: skip
    terminal = _can_ask()
    if terminal and not place.is_offline():
        _ask(repository)
    elif not place.is_offline():
        console.tell(translate("soban: {model} is not on this PC and is fetched now", model=_title(repository)))
    return pull.fetch(repository, wait=terminal, to_run=True)


def _can_ask() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _ask(repository: Repository) -> None:
    console.tell(translate("{model} is not on this PC yet.", model=_title(repository)))
    for line in _facts(repository):
        console.tell(f"  {line}")
    while True:
        reply = console.ask(translate("Fetch it? [Y/n] "))
        answer = (reply or "").strip().rstrip(".!").lower()
        if reply is None or answer in NO:
            raise UserError(
                "{model} was not fetched", model=repository, hint="name a model that is here: soban list shows them"
            )
        if not answer or answer in console.YES:
            return


def _title(repository: Repository) -> str:
    """Its short name, if it has one, and its place on the hub."""
    return f"{repository.entry.name} ({repository.id})" if repository.entry else repository.id


def _facts(repository: Repository) -> list[str]:
    """What somebody wants to know before; what nobody knows is left out."""
    from soban.hub import access, download

    entry, folder = repository.entry, place.cache_folder()
    lines, size = [], ""
    try:
        with console.Status(False) as status:
            status.show(translate("asking the hub ..."))
            size = of_bytes(download.bytes_to_fetch(repository))
    except access.AccessError:
        lines.append(translate("Its makers want a login and their terms accepted first: that is asked for next."))
        if entry and entry.parameters:
            size = translate("about {size}", size=of_bytes(BYTES * entry.parameters))
    free = of_bytes(free_bytes(folder))
    lines.insert(
        0,
        translate("to fetch: {size}, into {folder} ({free} free)", size=size, folder=folder, free=free)
        if size
        else translate("to fetch: not known how much, into {folder} ({free} free)", folder=folder, free=free),
    )
    if entry and entry.weights_licence:
        lines.append(translate("licence: {licence}", licence=entry.weights_licence) + _commercial(entry.commercial))
    return lines


def _commercial(use: str | None) -> str:
    phrases = {
        "yes": translate("commercial use: yes"),
        "no": translate("commercial use: no"),
        "conditions": translate("commercial use: on conditions"),
    }
    return f"; {phrases[use]}" if use in phrases else ""
