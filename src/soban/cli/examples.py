"""The examples of a help text: commands as they are typed, and what is said of them in the user's language."""

import re

from soban.cli.terminal.wrapping import hanging
from soban.messages import translate, width

COMMENTED = re.compile(r"( {2}\S.*?\S) {2,}(\S.*)")  # scripts/messages.py finds the comments in the same way
INDENT = 6 * " "  # of a comment that has no room beside its command


def text_of(examples: str, columns: int) -> str:
    """The examples, their comments translated; where the columns are too few a comment stands below its command."""
    lines = []
    for line in examples.splitlines():
        if match := COMMENTED.fullmatch(line):
            comment = translate(match[2])
            if width(beside := line[: match.start(2)] + comment) <= columns:
                lines.append(beside)
            else:
                lines += [match[1], *hanging(INDENT, comment, columns)]
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
