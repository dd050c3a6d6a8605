"""A bench's figures as text, Markdown, CSV or JSON; several PCs side by side."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.base.files import unreadable
from soban.base.units import of_bytes
from soban.messages import padded, translate, width

Report = dict[str, Any]
LARGEST = 10 << 20  # bytes of a file of results
ENDINGS = {".md": "markdown", ".csv": "csv", ".json": "json"}


def write(reports: Sequence[Report], format: str) -> str:
    """One or several reports in a format of `FORMATS`, with a line break at the end."""
    return FORMATS[format](reports)


def read(path: str) -> list[Report]:
    """The reports in a file that `--format json` made. Raises UserError for any other file."""
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError("it is too large")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        value = None
    reports = value if isinstance(value, list) else [value]
    if not reports or not all(_is_report(report) for report in reports):
        raise UserError(
            "{path} holds no results of soban bench", path=path,
            hint="make some with soban bench --format json --out {path}",
        )  # fmt: skip
    return reports


def _is_report(report: Any) -> bool:
    """Whether the tables can be made of it."""
    try:
        rows(report)
        flat(report)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError):
        return False
    return True


def rows(report: Report) -> list[tuple[str, str]]:
    """What the table says, line by line: a name and a value."""
    pc, memory, limits = report["pc"], report["memory"], report["limits"]
    lines = [
        (translate("PC"), _clean(pc["cpu"])),
        (
            translate("cores, threads used, instructions"),
            f"{int(pc['cores'])}, {int(report['threads'])}, {_clean(report['isa'])}",
        ),
        (translate("memory of the PC"), of_bytes(pc["memory"])),
        (translate("system"), _clean(pc["system"])),
        ("soban", _clean(report["soban"])),
        (translate("model, weights, cache"), ", ".join(_clean(report[name]) for name in ("model", "dtype", "cache"))),
        (
            translate("weights"),
            translate(
                "{size}; {body:.2f} bits each, the output's {head:.2f}", size=of_bytes(report["weight_bytes"]),
                body=report["body_bits"], head=report["head_bits"],
            ),
        ),
        (
            translate("time of an answer, without loading"),
            translate("{seconds:.2f} s (64 tokens read, 128 written)", seconds=report["answer_seconds"]),
        ),
        (translate("loading"), translate("{seconds:.2f} s", seconds=report["load_seconds"])),
        (translate("first token, with loading"), translate("{seconds:.2f} s", seconds=report["first_token_seconds"])),
        (translate("reading {tokens} tokens", tokens=report["prefill"]["tokens"]), _rate(report["prefill"], peak=True)),
        *_parts(report["prefill"]),
    ]  # fmt: skip
    for decode in report["decode"]:
        lines.append((translate("writing after {tokens} tokens", tokens=decode["context"]), _rate(decode, peak=False)))
        lines += _parts(decode, decode["context"])
    if report["characters_per_second"]:
        rate = translate("{rate:.0f}/s", rate=report["characters_per_second"])
        lines.append((translate("characters"), rate))
    if memory:
        own, mapped = of_bytes(memory["anonymous"]), of_bytes(memory["mapped"])
        lines.append((translate("memory"), translate("{own} + {mapped} mapped files", own=own, mapped=mapped)))
    if limits:
        peaks = ", ".join(f"{_clean(name)} {rate / 1e9:.0f}" for name, rate in limits["multiply_adds"].items())
        lines.append((translate("bandwidth measured"), f"{limits['bandwidth'] / 1e9:.1f} GB/s"))
        lines.append((translate("int8 peak measured"), f"{peaks} G/s"))
    return lines


def _parts(rate: dict[str, Any], context: int | None = None) -> list[tuple[str, str]]:
    """A line that tells where the time of a step goes, where that was counted."""
    parts = rate.get("parts")
    if not parts:
        return []
    name = (
        translate("time of reading") if context is None else translate("time of writing after {tokens}", tokens=context)
    )
    text = translate(
        "products {products:.0%}, attention {attention:.0%}, norms and all else {rest:.0%}", products=parts["products"],
        attention=parts["attention"], rest=parts["rest"],
    )  # fmt: skip
    return [(name, text)]


def _rate(rate: dict[str, Any], peak: bool) -> str:
    """Tokens per second, and their share of what bounds them: the int8 `peak`, or the bandwidth."""
    text = translate(
        "{median:.1f} tokens/s ({low:.1f} - {high:.1f}, {times}x)", median=rate["median"], low=rate["low"],
        high=rate["high"], times=int(rate["times"]),
    )  # fmt: skip
    if not rate["share"]:
        return text
    if peak:
        return f"{text}, {translate('{share:.0%} of the int8 peak', share=rate['share'])}"
    return f"{text}, {translate('{share:.0%} of the bandwidth', share=rate['share'])}"


def _clean(text: Any) -> str:
    """Text from a stranger's file: one line, nothing that a terminal would obey."""
    return "".join(c for c in str(text) if c.isprintable())[:100]


def columns(reports: Sequence[Report]) -> list[list[str]]:
    """The table: a row for each name that some report has, in order; a column for each report."""
    tables = [dict(rows(report)) for report in reports]
    names = list(dict.fromkeys(name for report in tables for name in report))
    return [[name, *(report.get(name, "") for report in tables)] for name in names]


def text(reports: Sequence[Report]) -> str:
    table = columns(reports)
    widths = [max(width(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join("  ".join(map(padded, row, widths)).rstrip() for row in table) + "\n"


def markdown(reports: Sequence[Report]) -> str:
    head, *rest = ([cell.replace("|", "\\|") for cell in row] for row in columns(reports))
    line = "|".join(["", *(["---"] * len(head)), ""])
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rest)]) + "\n"


def flat(report: Report) -> dict[str, Any]:
    """One level of names and plain values, the same for every report."""
    pc, memory, limits = report["pc"], report["memory"] or {}, report["limits"] or {}
    short, long = report["decode"][0], report["decode"][-1]
    return {
        "when": report["when"], "cpu": pc["cpu"], "cores": pc["cores"], "memory": pc["memory"], "system": pc["system"],
        "soban": report["soban"], "threads": report["threads"], "isa": report["isa"], "model": report["model"],
        "dtype": report["dtype"], "cache": report["cache"], "weight_bytes": report["weight_bytes"],
        "body_bits": report["body_bits"],
        "head_bits": report["head_bits"], "answer_seconds": report["answer_seconds"],
        "load_seconds": report["load_seconds"], "first_token_seconds": report["first_token_seconds"],
        "prompt_tokens": report["prefill"]["tokens"], "prefill_per_second": report["prefill"]["median"],
        "prefill_share": report["prefill"]["share"], "context": short["context"],
        "decode_per_second": short["median"], "decode_share": short["share"], "long_context": long["context"],
        "long_decode_per_second": long["median"], "long_decode_share": long["share"],
        "characters_per_second": report["characters_per_second"], "anonymous_bytes": memory.get("anonymous"),
        "mapped_bytes": memory.get("mapped"), "bandwidth": limits.get("bandwidth"),
    }  # fmt: skip


def as_csv(reports: Sequence[Report]) -> str:
    lines = [flat(report) for report in reports]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def as_json(reports: Sequence[Report]) -> str:
    return json.dumps(reports[0] if len(reports) == 1 else list(reports), ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Sequence[Report]], str]] = {
    "text": text, "markdown": markdown, "csv": as_csv, "json": as_json,
}  # fmt: skip
