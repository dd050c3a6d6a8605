"""What is amiss, as `show` and `doctor` tell it: the problem, and below it what to do."""

from collections.abc import Sequence

from soban.base.errors import Finding
from soban.cli.terminal.sections import shown
from soban.cli.terminal.wrapping import wrapped
from soban.messages import translate

AMISS = 1  # exit code of --strict


def code(found: Sequence[Finding], strict: bool) -> int:
    """The exit code: notes are never held against anybody."""
    return AMISS if strict and any(finding.level == "warning" for finding in found) else 0


def lines(found: Sequence[Finding], total: int) -> list[str]:
    """Each with its file and what to do, warnings before notes."""
    if not found:
        return [translate("nothing is amiss")]
    warnings = sum(finding.level == "warning" for finding in found)
    made = [translate("warnings: {warnings}, notes: {notes}", warnings=warnings, notes=len(found) - warnings)]
    for finding in found:
        mark = "!" if finding.level == "warning" else "-"
        where = f"{finding.file}: " if finding.file and not finding.problem.startswith(f"{finding.file}: ") else ""
        for number, line in enumerate(wrapped(shown(where + finding.problem, 600), total - 4)):
            made.append(f"  {mark if number == 0 else ' '} {line}")
        if finding.remedy:
            made += [f"    {line}" for line in wrapped(f"→ {shown(finding.remedy, 300)}", total - 4)]
    return made
