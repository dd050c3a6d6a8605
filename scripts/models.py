"""docs/models.md: the catalogue of models as a page, each fact a link to where it was read.

python scripts/models.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from soban.cli.terminal.table import weights  # noqa: E402
from soban.hub import catalogue  # noqa: E402
from soban.hub.catalogue import Entry  # noqa: E402
from soban.models import FAMILIES  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
HEAD = """\
# Models that have a short name

`soban run gemma2:2b`, `soban pull llama3.2`, `soban plan mistral`: these names stand for repositories of the Hugging
Face Hub. A family's name alone stands for the model in **bold**, which is tuned to answer where there is such a one; a
model that only goes on writing has `-base` in its name. Large and small letters are the same. Any other model goes by
`owner/name`, `owner/name@revision` or the address of its page, and a folder or file by its path: where a file or folder
of that name exists, it is the one that is meant.

Each fact is a link to the page where it was read, and the list at the end says when. What nobody has read is left
empty; nothing is from memory. A licence is told as its page names it: read it before you rely on it. *Commercial use*
is what the licence of the weights says; the data that a model was taught with may have terms of its own.

*Engine* says whether soban runs the family: it runs {families} now. A pickle is a file that could run any code when it
is opened, so soban does not read it; a delta is a difference that has to be added to another model's weights.

This page is made from `src/soban/hub/catalogue.toml` by `python scripts/models.py`; to add a model, edit that file: its
head explains the form.
"""
COLUMNS = ("model", "repository", "weights", "context", "languages", "licence of the weights", "commercial use",
           "training data", "code", "consent", "engine", "files", "tokenizer", "scores")  # fmt: skip


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    return 0


def page() -> str:
    """The whole page: a table for each family, and the sources."""
    families: dict[str, list[Entry]] = {}
    for entry in catalogue.entries():
        families.setdefault(entry.name.partition(":")[0], []).append(entry)
    parts = [HEAD.format(families=", ".join(FAMILIES))]
    parts += [family(name, entries) for name, entries in families.items()]
    return "\n".join([*parts, sources(catalogue.entries())])


def family(name: str, entries: Sequence[Entry]) -> str:
    """A family's table, without the columns in which nothing is known."""
    rows = [row(entry, catalogue.defaults()[name] == entry.name) for entry in entries]
    kept = [i for i in range(len(COLUMNS)) if any(cells[i] for cells in rows)]
    lines = [f"| {' | '.join(cells[i] for i in kept)} |" for cells in (COLUMNS, *rows)]
    return "\n".join([f"## {name}\n", lines[0], "|---" * len(kept) + "|", *lines[1:], ""])


def row(entry: Entry, default: bool) -> tuple[str, ...]:
    """The cells of a model, each known fact with its source."""

    def fact(name: str, shown: str | None) -> str:
        source = entry.source(name)
        return "" if not shown or source is None else f"[{shown.replace('|', '/')}][{source.key}]"

    name = f"**{entry.name}**" if default else entry.name
    also = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
    licence = fact("weights_licence", entry.weights_licence)
    scores = ", ".join(fact(f"scores.{benchmark}", f"{benchmark} {value:g}") for benchmark, value in entry.scores)
    return (
        name + also, fact("repository", entry.repository), fact("parameters", weights(entry.parameters)),
        fact("context", f"{entry.context:,}" if entry.context else ""), fact("languages", " ".join(entry.languages)),
        licence, fact("commercial", entry.commercial), fact("data_terms", entry.data_terms),
        fact("code_licence", entry.code_licence), fact("gated", "asked for" if entry.gated else ""), engine(entry),
        fact("form", entry.form), tokenizer(entry), scores,
    )  # fmt: skip


def engine(entry: Entry) -> str:
    """Whether soban runs it, or why not."""
    if entry.form in ("pickle", "delta"):
        return f"no: {entry.form}"
    source = entry.source("model_type")
    if source is None:
        return "not known"
    return f"{'yes' if entry.model_type in FAMILIES else 'not yet'} ([{entry.model_type}][{source.key}])"


def tokenizer(entry: Entry) -> str:
    """Where it is to be had, if not in the repository."""
    source = entry.source("tokenizer")
    if source is None or entry.tokenizer is None:
        return ""
    return f"[{entry.tokenizer.rpartition('/')[2]}]({entry.tokenizer}), as [here][{source.key}]"


def sources(entries: Sequence[Entry]) -> str:
    """Every page that something was read on, and the day; the links above lead here by their keys."""
    found = {source.key: source for entry in entries for _, source in entry.sources}
    ordered = [found[key] for key in sorted(found)]
    lines = [f"| [{source.key}] | {source.read} | {source.url.split('/')[2]} |" for source in ordered]
    links = [f"[{source.key}]: {source.url}" for source in ordered]
    return "\n".join(["## Sources\n", "| source | read on | site |", "|---|---|---|", *lines, "", *links, ""])


if __name__ == "__main__":
    sys.exit(main())
