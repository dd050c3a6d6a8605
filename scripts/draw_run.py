"""The README's picture: runs soban and draws what a terminal shows as an SVG.

python scripts/draw_run.py docs/run.svg 'soban run "Once upon a time" --seed 2' 'soban run "옛날 옛적에" --seed 4'
"""

import html
import os
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

COLUMNS, LEFT, TOP, LINE, CHARACTER = 92, 24, 58, 22, 8.4
STYLE = """<style>
text { font: 14px ui-monospace, "Cascadia Mono", Menlo, Consolas, "D2Coding", "Noto Sans Mono CJK KR", monospace;
       fill: #dcd7cd; white-space: pre }
.command { fill: #f5d28e; font-weight: 600 } .talk { fill: #8f9a8b }
</style>"""


def main() -> int:
    target, commands = Path(sys.argv[1]), sys.argv[2:]
    lines: list[tuple[str, str]] = []
    for command in commands:
        lines += [("command", line) for line in wrapped(f"$ {command}")]
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(
            words,
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            env={**os.environ, "SOBAN_LANG": "en"},
        )
        if done.returncode:
            sys.exit(done.stderr)
        lines += [("text", line) for line in wrapped(done.stdout.rstrip("\n"))]
        lines += [("talk", line) for line in wrapped(done.stderr.rstrip("\n"))]
        lines.append(("text", ""))
    target.write_text(drawing(lines[:-1]), encoding="utf-8", newline="\n")
    return 0


def wrapped(text: str) -> list[str]:
    """Lines of at most COLUMNS columns, broken between words; a Hangul syllable takes two."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and width(f"{line} {word}") > COLUMNS:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def drawing(lines: list[tuple[str, str]]) -> str:
    wide, high = round(2 * LEFT + COLUMNS * CHARACTER), TOP + LINE * len(lines) + 12
    dots = "".join(
        f'<circle cx="{LEFT + 20 * n}" cy="24" r="6" fill="{colour}"/>'
        for n, colour in enumerate(("#d9736a", "#d9b46a", "#8fb573"))
    )
    rows = "\n".join(
        f'<text class="{kind}" x="{LEFT}" y="{TOP + LINE * n}">{html.escape(text, quote=False)}</text>'
        for n, (kind, text) in enumerate(lines)
        if text
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'role="img" aria-label="soban writes in a terminal">\n{STYLE}\n<rect width="{wide}" height="{high}" rx="10" '
        f'fill="#26221e"/>\n{dots}\n{rows}\n</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
