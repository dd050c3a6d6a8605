"""What is amiss, as `show` and `doctor` tell it: the problem, and below it what to do."""

from collections.abc import Sequence

from soban.base.errors import Finding
from soban.cli.terminal.sections import one_line
from soban.cli.terminal.wrapping import wrapped
from soban.messages import translate

AMISS = 1  # exit code of --strict


def code(findings: Sequence[Finding], strict: bool) -> int:
    """The exit code: notes are never held against anybody."""
    return AMISS if strict and any(finding.level == "warning" for finding in findings) else 0


def lines(findings: Sequence[Finding], total: int) -> list[str]:
    """Each with its file and what to do, warnings before notes."""
    if not findings:
        return [translate("nothing is amiss")]
    warnings = sum(finding.level == "warning" for finding in findings)
    page = [translate("warnings: {warnings}, notes: {notes}", warnings=warnings, notes=len(findings) - warnings)]
    for finding in findings:
        mark = "!" if finding.level == "warning" else "-"
        where = f"{finding.file}: " if finding.file and not finding.problem.startswith(f"{finding.file}: ") else ""
        for number, line in enumerate(wrapped(one_line(where + finding.problem, 600), total - 4)):
            page.append(f"  {mark if number == 0 else ' '} {line}")
        if finding.remedy:
            page += [f"    {line}" for line in wrapped(f"→ {one_line(finding.remedy, 300)}", total - 4)]
    return page
