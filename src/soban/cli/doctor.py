"""`soban doctor`: what this PC and this installation are like, and the cure for what is wrong with them."""

import getpass
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soban.cli.terminal import console, findings, sections
from soban.cli.terminal.sections import one_line, size
from soban.cli.terminal.wrapping import FIRM
from soban.messages import translate

SHORTEST_NAME = 3  # letters of a user's name from which it is told from other words
EXAMPLES = """\
  soban doctor
  soban doctor --network                  also ask the hub
  soban doctor --report > report.txt      to send with a bug: without your name, paths and tokens
"""


@dataclass(frozen=True)
class DoctorOptions:
    """Check this PC and this installation: what there is, what is wrong, and what to do about it.

    Nothing is sent anywhere; only --network asks the hub whether it can be reached.
    """

    network: bool = field(default=False, metadata={"help": "also ask the hub whether it can be reached"})
    report: bool = field(
        default=False, metadata={"help": "in English, fit for a bug: no name, no home folder, no tokens"}
    )
    strict: bool = field(default=False, metadata={"help": "exit code 1 where something is amiss"})
    json: bool = field(default=False, metadata={"help": "write JSON, with everything in it"})


OPTIONS = DoctorOptions


def call(options: DoctorOptions) -> int:
    """Writes it to stdout. 1 where there are warnings and --strict is given."""
    from soban.measure.checkup import checkup
    from soban.measure.surroundings import cleaned

    report = checkup(options.network)
    if options.report:
        os.environ["SOBAN_LANG"] = "en"  # the words of this process from here on
        report = cleaned(report, impersonal)  # before lines are broken, perhaps in the middle of a name
    if options.json:
        plain = {**report, "findings": [finding.as_json() for finding in report["findings"]]}
        text = json.dumps(plain, ensure_ascii=False, indent=1, default=str) + "\n"
    else:
        text = "\n".join(as_text(report)) + "\n"
    console.write(text)
    return findings.code(report["findings"], options.strict)


def impersonal(text: str) -> str:
    """The text without the home folder's path and the user's name."""
    for home in _homes():
        text = text.replace(home, "~")
    for name in _names():
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<user>", text, flags=re.IGNORECASE)
    return text


def _homes() -> list[str]:
    try:
        home = Path.home()
    except (RuntimeError, OSError):
        return []
    homes = {str(home), str(home.resolve()), os.environ.get("USERPROFILE", "")}
    return sorted((path for path in homes if len(path) > 1), key=len, reverse=True)


def _names() -> list[str]:
    """The user's names: that of the account, and of the home folder."""
    try:
        names = {getpass.getuser()}
    except (KeyError, OSError, ImportError):
        names = set()
    names |= {os.path.basename(home) for home in _homes()}
    return sorted((name for name in names if len(name) >= SHORTEST_NAME), key=len, reverse=True)


def as_text(report: Mapping[str, Any]) -> list[str]:
    """The sections one below the other, their values in one column, and what is amiss at the end."""
    total = sections.columns()
    parts = [
        (translate("this PC"), pc(report["processor"])),
        (translate("memory of the PC"), memory(report["memory"])),
        (translate("folders"), [row for disk in report["disks"] for row in folder(disk)]),
        (translate("installation"), installation(report)),
        (translate("hub"), hub(report)),
        (translate("terminal"), terminal(report["terminal"])),
    ]
    variables = [(one_line(name, 40), one_line(value, 120)) for name, value in report["environment"].items()]
    lines = sections.page(parts, total)
    if any(value for _, value in variables):
        lines += sections.page([(translate("environment"), variables)], total)
    return lines + findings.lines(report["findings"], total)


def pc(processor: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The processor and what of it is used."""
    quota = translate(", {quota:.1f} by the control group", quota=processor["quota"]) if processor["quota"] else ""
    library = processor["library"]
    return [
        (translate("processor"), one_line(processor["name"])),
        (translate("system"), f"{one_line(processor['system'])}, {one_line(processor['architecture'])}"),
        (
            translate("cores"),
            translate(
                "{cores}, {fast} of them fast, {allowed} allowed{quota}", cores=processor["cores"],
                fast=processor["fast"], allowed=processor["allowed"], quota=quota,
            ),
        ),
        (translate("threads"), "?" if processor["threads"] is None else str(processor["threads"])),
        (translate("instructions"), _instructions(library["sets"])),
        (translate("computes with"), library["chosen"] or "NumPy"),
    ]  # fmt: skip


def _instructions(sets: list[dict[str, Any]]) -> str:
    """Those that the processor claims; one that failed when it was tried says so."""
    return ", ".join(
        one["name"] if one["works"] else translate("{isa} (fails)", isa=one["name"]).replace(" ", FIRM) for one in sets
    )


def memory(amounts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What there is, in gigabytes."""
    swap = amounts["swap"]
    return [
        (translate("built in"), size(amounts["built_in"]) if amounts["built_in"] else "?"),
        (translate("free"), "?" if amounts["free"] is None else size(amounts["free"])),
        (translate("allowed"), "" if amounts["limit"] is None else size(amounts["limit"])),
        (
            translate("swap"),
            "" if swap is None else translate("{size}, {free} free", size=size(swap), free=size(amounts["swap_free"]))
            if swap
            else translate("none"),
        ),
    ]  # fmt: skip


def folder(disk: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One of the folders that soban fills."""
    names = {
        "packed": translate("packed weights"),
        "models": translate("models"),
        "temporary": translate("temporary files"),
    }
    contents = "" if disk["bytes"] is None else translate("holds {size}, ", size=size(disk["bytes"]))
    if not disk["counted"]:
        contents = translate("holds more than {size}, ", size=size(disk["bytes"]))
    room = translate("{free} of {total} free", free=size(disk["free"]), total=size(disk["total"]))
    return [(names[disk["name"]], f"{_path(disk['path'])}\n{contents}{room}")]


def _path(path: str) -> str:
    """A path, which is not broken at its blanks."""
    return one_line(path, 200).replace(" ", FIRM)


def installation(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions: soban's, Python's, the library's, and those of the packages."""
    install, packages, library = report["soban"], report["packages"], report["processor"]["library"]
    place = translate("in a virtual environment") if install["environment"] else translate("the system's own")
    extras = ", ".join(
        translate("{extra}: complete", extra=extra)
        if state["complete"]
        else translate("{extra}: not installed ({missing})", extra=extra, missing=" ".join(state["missing"]))
        for extra, state in packages["extras"].items()
    )
    return [
        ("soban", f"{install['version']}\n{_path(install['folder'])}"),
        ("Python", f"{install['python']}, {install['implementation']}, {place}\n{_path(install['executable'])}"),
        (translate("native library"), translate("missing") if library["path"] is None else f"ABI {library['version']}"),
        (translate("packages"), _versions(packages)),
        (translate("extras"), extras),
    ]


def _versions(packages: Mapping[str, Any]) -> str:
    """Name and version of each; one that is newer than what was tried has a mark."""
    from soban.measure.surroundings import numbers

    newer = [
        name for name, highest in packages["tried"].items()
        if name in packages["versions"] and numbers(packages["versions"][name]) > numbers(highest)
    ]  # fmt: skip
    listed = ", ".join(
        f"{name}{FIRM}{version}{'*' if name in newer else ''}" for name, version in packages["versions"].items()
    )
    return listed + (translate("\n* newer than what soban was tried with") if newer else "")


def hub(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where models come from; never the token."""
    facts, token, network = report["hub"], report["hub"]["token"], report.get("network")
    places = [part for part in (token["variable"], token["file"]) if part]
    place = translate("{one} and {other}", one=places[0], other=places[1]) if len(places) == 2 else "".join(places)
    presence = translate("there is one: {place}", place=place) if token["present"] else translate("none")
    rows = [
        (translate("address"), facts["endpoint"] or "?"),
        (translate("network"), translate("forbidden by HF_HUB_OFFLINE") if facts["offline"] else translate("allowed")),
        (translate("token"), presence + (translate(", mode {mode}", mode=token["mode"]) if token["mode"] else "")),
    ]
    if network:
        answer = (
            translate("answers within {seconds:.1f} s", seconds=network["seconds"])
            if network["reached"]
            else translate("does not answer")
        )
        rows.append((translate("the hub"), answer + _accepted(network["token"])))
    return rows


def _accepted(token: Mapping[str, Any] | None) -> str:
    if token is None:
        return ""
    return translate(", and takes the token") if token["accepted"] else translate(", and refuses the token")


def terminal(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How text goes in and out."""
    page = translate(", code page {page}", page=facts["code_page"]) if facts["code_page"] else ""
    width = translate("{columns} columns", columns=facts["columns"]) if facts["terminal"] else translate("no terminal")
    return [
        (translate("language"), {"ko": translate("Korean"), "en": "English"}.get(facts["language"], facts["language"])),
        (translate("locale"), one_line(facts["locale"])),
        (
            translate("encoding"),
            translate(
                "{stdout}; the system's: {preferred}; file names: {file_names}{page}", stdout=facts["stdout"],
                preferred=facts["preferred"], file_names=facts["file_names"], page=page,
            ),
        ),
        (translate("output"), width),
    ]  # fmt: skip
