"""docs/errors.md: every error that soban tells its user, what to do about it, and its Korean, from the code itself.

python scripts/errors.py       (python dev.py messages does it too)
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from messages import ERRORS, PACKAGE, PO, literals, name_of, read_po

JOINED = "{problem}; {remedy}"  # as UserError joins them
PAGE = PACKAGE.parents[1] / "docs" / "errors.md"
HEAD = """\
# What soban says when something is wrong

An error is one line: what is wrong, its value, and what to do. `{path}` and its like stand for the value. The exit code
is 2, and `--debug` shows where in the code it was. SOBAN_LANG=ko says it in Korean, whatever the system's language.
What is unexpected, a mistake of soban's own, ends with exit code 1 and leaves a report in the cache folder.

This page is made from the code by `python dev.py messages`.
"""


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    return 0


def page() -> str:
    """The whole page, a table for each of soban's packages."""
    korean = read_po(PO)
    parts = [HEAD]
    tables: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        rows = tables.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), [])
        found = errors(ast.parse(path.read_text(encoding="utf-8")))
        rows += [row for row in dict.fromkeys(found) if row not in rows]
    for name, rows in tables.items():
        if rows:
            lines = [f"| {cell(told(row, {}))} | {cell(told(row, korean))} |" for row in sorted(rows)]
            parts.append("\n".join([f"\n## {name}\n", "| English | 한국어 |", "|---|---|", *lines, ""]))
    return "".join(parts)


def errors(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(what is wrong, what to do) of every UserError that is written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ERRORS:
            hints = [text for word in node.keywords if word.arg == "hint" for text in literals(word.value)]
            for text in [text for value in node.args[:1] for text in literals(value)]:
                yield from ((text, hint) for hint in hints or [""])


def told(row: tuple[str, str], catalogue: dict[str, str]) -> str:
    """The line as it is said, its fields in braces."""
    told = [catalogue.get(text) or text for text in row if text]
    line = catalogue.get(JOINED, JOINED).format(problem=told[0], remedy=told[1]) if len(told) > 1 else told[0]
    return line.replace("{{", "{").replace("}}", "}")


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
