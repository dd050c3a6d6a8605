"""The Korean catalogue: finds every text in the code, adds what is missing to ko.po, and compiles ko.mo.

    python scripts/messages.py     (or python dev.py messages)

New texts come with an empty translation, which is to be written by hand; those that the code has no more are left out.
"""

import ast
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "soban"
PO = PACKAGE / "messages" / "ko.po"
CATALOGUE = PACKAGE / "hub" / "catalogue.toml"
ERRORS = ("UserError", "AccessError", "NoConnectionError", "CacheUnavailableError", "Misfit", "TooLarge")
SAYING = (*ERRORS, "warn", "translate", "say")  # functions whose first argument is a text
HELP_KEYS = ("help", "off_help")  # of dictionaries that describe flags
HEADER = "Content-Type: text/plain; charset=UTF-8\nLanguage: ko\n"


def main() -> int:
    texts, catalogue = used_texts(), read_po(PO)
    kept = {text: catalogue.get(text, "") for text in texts}
    PO.write_text(po(kept), encoding="utf-8", newline="\n")
    PO.with_suffix(".mo").write_bytes(mo(kept))
    missing = [text for text, korean in kept.items() if not korean]
    stale = [text for text in catalogue if text not in kept]
    print(f"{len(kept)} texts, {len(missing)} without a translation, {len(stale)} left out")
    for text in missing:
        print(f"  {text!r}")
    return 1 if missing else 0


def used_texts() -> list[str]:
    """Every text that the code may show, in the order of files and lines, and the catalogue's terms of data."""
    found: dict[str, None] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in file_texts(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(text)
    for text in re.findall(r'(?m)^data_terms = \["(.*?)", "', CATALOGUE.read_text(encoding="utf-8")):
        found.setdefault(text)
    return list(found)


def file_texts(tree: ast.Module) -> Iterator[str]:
    """The texts of one file: what is said, its hints, the help of flags, what commands and their examples say."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in SAYING:
            for value in [*node.args[:1], *(word.value for word in node.keywords if word.arg == "hint")]:
                yield from literals(value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in HELP_KEYS:
                    yield from literals(value)
        elif isinstance(node, ast.Assign) and name_of(node.targets[0]) == "EXAMPLES":
            for examples in literals(node.value):
                yield from re.findall(r"(?m)^ {2}\S.*?\S {2,}(\S.*)$", examples)
        elif isinstance(node, ast.ClassDef) and node.name.endswith("Options"):
            yield ast.get_docstring(node) or ""


def name_of(place: ast.expr) -> str:
    return place.attr if isinstance(place, ast.Attribute) else getattr(place, "id", "")


def literals(node: ast.expr) -> Iterator[str]:
    """The strings that an expression may be; none where it is not written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def read_po(path: Path) -> dict[str, str]:
    """Texts and translations; of gettext's format what `po` writes, and comments."""
    entries: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith("msgid "):
            entries.append([json.loads(line[6:])])
        elif line.startswith("msgstr "):
            entries[-1].append(json.loads(line[7:]))
        elif line.startswith('"'):
            entries[-1][-1] += json.loads(line)
    return {text: korean for text, korean in entries if text}


def po(catalogue: dict[str, str]) -> str:
    """The catalogue as gettext's text format."""
    first = "# Korean. `python dev.py messages` brings it up to date; translate what is empty.\n"
    return first + "\n".join(
        f"msgid {quoted(text)}\nmsgstr {quoted(korean)}\n" for text, korean in {"": HEADER, **catalogue}.items()
    )


def quoted(text: str) -> str:
    """As a string of C, one line of it for each line of the text."""
    lines = text.splitlines(keepends=True)
    parts = [json.dumps(line, ensure_ascii=False) for line in (lines if len(lines) < 2 else ["", *lines])]
    return "\n".join(parts) or '""'


def mo(catalogue: dict[str, str]) -> bytes:
    """The catalogue as gettext's binary format: a header, two tables of (length, offset), and the strings."""
    entries = sorted(
        {"": HEADER, **{k: v for k, v in catalogue.items() if v}}.items(), key=lambda item: item[0].encode()
    )
    strings = [text.encode() for column in zip(*entries, strict=True) for text in column]
    count, start = len(entries), 28 + 16 * len(entries)
    table, body = b"", b""
    for string in strings:
        table += struct.pack("<2I", len(string), start + len(body))
        body += string + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, start) + table + body


if __name__ == "__main__":
    sys.exit(main())
