"""The report of `soban data`: what was read, what was left out and why, and what was made, in 80 columns."""

from pathlib import Path
from typing import Any

from soban.base.units import of_bytes
from soban.cli.terminal.table import truncate
from soban.messages import translate
from soban.messages import width as columns

WIDTH = 78
LABEL, COUNT = 24, 12  # columns
MOST_FILES = 8
MOST_TRIED = 4  # sizes of vocabulary, the last ones

REASONS = {
    "short": lambda: translate("too short"),
    "long": lambda: translate("too long"),
    "empty": lambda: translate("nothing but blanks"),
    "broken": lambda: translate("broken characters"),
    "symbols": lambda: translate("mostly signs"),
    "repetitive": lambda: translate("repeats itself"),
    "language": lambda: translate("another language"),
    "personal": lambda: translate("personal data"),
    "duplicates": lambda: translate("duplicates"),
    "near-duplicates": lambda: translate("near-duplicates"),
    "roles": lambda: translate("unknown roles"),
    "order": lambda: translate("turns out of order"),
    "unanswered": lambda: translate("no answer"),
    "silent": lambda: translate("an empty turn"),
}
PERSONAL = {
    "email": lambda count: translate("e-mail {count:,}", count=count),
    "phone": lambda count: translate("phone {count:,}", count=count),
    "resident": lambda count: translate("resident number {count:,}", count=count),
    "card": lambda count: translate("card {count:,}", count=count),
    "account": lambda count: translate("account {count:,}", count=count),
}
SPLITS = {
    "train": lambda: translate("to learn from"),
    "validation": lambda: translate("held out"),
    "test": lambda: translate("held out to the end"),
}


def table(report: dict[str, Any], out: Path | None, samples: int) -> str:
    """The whole report."""
    lines = [*_files(report["files"], report["files_ignored"], samples), ""]
    lines.append(_row(translate("documents read"), report["documents"], report["bytes"]))
    for why, count in sorted(report["left_out"].items(), key=lambda item: -item[1]):
        lines.append(_row("  - " + REASONS[why](), count))
        lines += _examples(report, why)
    lines.append(_row(translate("documents kept"), report["kept"], report["kept_bytes"]))
    if report["near_duplicates_kept"]:
        lines.append(_row("  " + translate("near-duplicates"), report["near_duplicates_kept"]))
    lines += _personal(report["personal"]) + _examples(report, "personal")
    if "splits" in report:
        lines += ["", *_splits(report)]
    if out is not None:
        lines += ["", _label(translate("written to"), LABEL) + str(out)]
    return "\n".join(lines) + "\n"


def _files(files: list[dict[str, Any]], ignored: dict[str, int], samples: int) -> list[str]:
    """A line for each of the first files: what it was taken for."""
    lines: list[str] = []
    for file in files[: len(files) if samples else MOST_FILES]:
        about = [file["encoding"], file["fields"] and translate("field {name}", name=file["fields"])]
        counts = [translate("{count:,} documents", count=file["documents"])]
        if file["broken"]:
            counts.append(translate("{count:,} broken", count=file["broken"]))
        if file["empty"]:
            counts.append(translate("{count:,} without text", count=file["empty"]))
        note = file["problem"] and translate("passed over")
        lines.append(
            one_line("  ".join([one_line(file["name"], 34), *filter(None, about), *([note] if note else counts)]))
        )
        for text in file["samples"][:samples]:
            lines.append(one_line("    | " + " / ".join(text.split("\n"))))
    if not samples and len(files) > MOST_FILES:
        lines.append(translate("... and {count:,} files more", count=len(files) - MOST_FILES))
    if ignored:
        kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in sorted(ignored.items()))
        lines.append(one_line(translate("not read: {kinds}", kinds=kinds)))
    return lines


def _examples(report: dict[str, Any], why: str) -> list[str]:
    """What was left out for this reason, if examples were asked for."""
    examples = report.get("examples", {}).get(why, [])
    return [one_line("      | " + " / ".join(text.split("\n"))) for text in examples]


def _personal(counts: dict[str, Any]) -> list[str]:
    kinds = [PERSONAL[kind](count) for kind, count in counts.items() if kind in PERSONAL]
    if not kinds:
        return []
    label = translate("personal data masked") if counts["what"] == "mask" else translate("personal data")
    return [one_line(_label(label, LABEL + COUNT - 6) + "  " + ", ".join(kinds))]


def _splits(report: dict[str, Any]) -> list[str]:
    lines = []
    for name, split in report["splits"].items():
        tokens = translate("{count:,} tokens", count=split["tokens"])
        lines.append(_row(SPLITS[name](), split["documents"], split["bytes"]) + f"   {tokens}")
    entries = translate("{count:,} entries", count=report["tokenizer"]["entries"])
    total = {key: sum(split[key] for split in report["splits"].values()) for key in ("bytes", "tokens")}
    rate = translate("{rate:.2f} bytes a token", rate=total["bytes"] / total["tokens"])
    lines.append(_label(translate("tokenizer"), LABEL) + f"{entries}, {rate}")
    if trials := report["tokenizer"]["tried"]:
        figures = ", ".join(f"{one['entries']:,}: {one['bits_per_byte']:.2f}" for one in trials[-MOST_TRIED:])
        lines.append(one_line(_label("  " + translate("bits per byte"), LABEL) + figures))
    return lines


def _row(label: str, count: int, size: int | None = None) -> str:
    line = _label(label, LABEL) + f"{count:>{COUNT},}"
    return line if size is None else f"{line}{of_bytes(size):>12}"


def _label(text: str, width: int) -> str:
    return text + " " * max(1, width - columns(text))


def one_line(text: str, width: int = WIDTH) -> str:
    """The text as far as it fits, on one line, without control characters."""
    return truncate("".join(sign if sign.isprintable() else " " for sign in text), width)
