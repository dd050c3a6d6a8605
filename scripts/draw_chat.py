"""A chat in a terminal as an SVG: drives `soban chat` through tmux and draws the screen at the end.

python scripts/draw_chat.py docs/images/chat.svg
"""

import html
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

COLUMNS, ROWS = 96, 30
COMMAND = "soban chat --seed 8 --no-history"
SOURCE = Path(__file__).resolve().parents[1] / "src"
ASKED = ("이야기 하나 해 줘.", "누구 이야기야?", "누구를 만났어?")
KEYS = (*ASKED, "/stats", None, "/s")  # None: nothing more is sent
LEFT, TOP, LINE, CHARACTER = 24, 58, 22, 8.4
COLOURS = {"31": "#d9736a", "32": "#8fb573", "33": "#f5d28e", "34": "#8aa6c8", "35": "#c79bb8", "36": "#9cc7b8"}
STYLE = """<style>
text { font: 14px ui-monospace, "Cascadia Mono", Menlo, Consolas, "D2Coding", "NanumGothicCoding",
       "Noto Sans Mono CJK KR", monospace; fill: #dcd7cd; white-space: pre }
</style>"""


def main() -> int:
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(drawing(session()), encoding="utf-8", newline="\n")
    return 0


def session() -> str:
    """The last screen of the session, with escape sequences."""
    server = ["tmux", "-u", "-L", "soban-picture"]

    def tmux(*words: str) -> str:
        return subprocess.run([*server, *words], capture_output=True, encoding="utf-8", check=True).stdout

    def settled() -> str:
        before = ""
        while (now := tmux("capture-pane", "-p", "-e")) != before:
            before = now
            time.sleep(1.5)
        return now

    python = f"env LANG=C.UTF-8 PYTHONPATH={SOURCE} {sys.executable} -m"
    command = f"echo '$ {COMMAND}'; SOBAN_LANG=en {python} {COMMAND}"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), command)
    try:
        settled()
        send = True
        for text in KEYS:
            if text is None:
                send = False
                continue
            tmux("send-keys", "-l", text)
            if send:
                tmux("send-keys", "Enter")
            settled()
        return settled()
    finally:
        subprocess.run([*server, "kill-server"], capture_output=True, check=False)


def runs(screen: str) -> Iterator[tuple[int, int, str, frozenset[str]]]:
    """(row, column, text, attributes) of pieces of one look and one width; a look goes on from line to line."""
    row = column = 0
    look: frozenset[str] = frozenset()
    found: list[tuple[int, int, str, frozenset[str]]] = []
    for sequence, character in re.findall(r"\x1b\[([0-9;]*)m|((?s:.))", screen.rstrip("\n")):
        if not character:
            for code in (sequence or "0").split(";"):
                if code in COLOURS or code == "39":
                    look -= COLOURS.keys()
                look = frozenset() if code == "0" else look | {code}
        elif character == "\n":
            row, column = row + 1, 0
        else:
            found.append((row, column, character, look))
            column += width(character)
    for (row, look, _), group in groupby(found, lambda cell: (cell[0], cell[3], width(cell[2]))):
        pieces = list(group)
        yield row, pieces[0][1], "".join(piece[2] for piece in pieces), look


def width(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def drawn(row: int, column: int, text: str, look: frozenset[str]) -> str:
    """A piece of text, as wide as its columns whatever the font."""
    start = len(text) - len(text.lstrip(" "))
    text, column = text.strip(" "), column + start
    if not text:
        return ""
    x, length = LEFT + column * CHARACTER, sum(map(width, text)) * CHARACTER
    colour = next((f' style="fill: {COLOURS[code]}"' for code in sorted(look & COLOURS.keys())), "")
    weight = ' font-weight="600"' if "1" in look else ""
    dim = ' opacity=".55"' if "2" in look else ""
    return (
        f'<text x="{x:.1f}" y="{TOP + LINE * row}" textLength="{length:.1f}"{colour}{weight}{dim}>'
        f"{html.escape(text, quote=False)}</text>"
    )


def drawing(screen: str) -> str:
    rows = screen.rstrip("\n").count("\n") + 1
    wide, high = round(2 * LEFT + COLUMNS * CHARACTER), TOP + LINE * rows + 4
    dots = "".join(
        f'<circle cx="{LEFT + 20 * n}" cy="24" r="6" fill="{colour}"/>'
        for n, colour in enumerate(("#d9736a", "#d9b46a", "#8fb573"))
    )
    texts = "\n".join(filter(None, (drawn(*run) for run in runs(screen))))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'role="img" aria-label="soban chat in a terminal">\n{STYLE}\n<rect width="{wide}" height="{high}" rx="10" '
        f'fill="#26221e"/>\n{dots}\n{texts}\n</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
