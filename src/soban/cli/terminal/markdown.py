"""Markdown in a terminal, drawn while it streams: every character stays, only its look changes.

Taking the escape sequences out of what comes back gives the text that went in (with the line breaks of a `Flow`, if
there is one), so that what a mouse selects is what the model wrote. A mark (`**`, `#`, three backticks) is dim; what it
marks is bold, italic or coloured, until the closing mark or the end of the line. At most a few characters wait: those
that may still become a mark.
"""

import re

from soban.cli.terminal.flow import Flow

RESET, DIM, BOLD, ITALIC, CODE = "0", "2", "1", "3", "36"  # of Select Graphic Rendition, ECMA-48
# A terminal obeys control characters, and a model must not command it: pictures of them are shown instead.
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
LINE_MARK = re.compile(
    r"[ \t]*(?:(?P<fence>`{3,}|~{3,})|(?P<heading>#{1,6} )|(?P<quote>>)|(?P<item>[-*+] |\d{1,9}[.)] ))"
)
BEGINNING_OF_ONE = re.compile(r"[ \t]*(?:`*|~*|#{0,6}|[-*+]?|\d{1,9}[.)]?)")
MARKS = "*_`"
LONGEST_RUN = 3  # marks that mean something together; more of them are an ornament


def printable(text: str) -> str:
    """The text as a terminal may have it: no control characters but tabs and the ends of lines."""
    return text.replace("\r", "").translate(PICTURES)


class Markdown:
    """Draws pieces of a text: `feed` them in turn, then `finish`."""

    def __init__(self, flow: Flow | None = None) -> None:
        """`flow` breaks the lines between words, but those of code; None leaves them to the terminal."""
        self.flow = flow
        self.held = ""  # what may still become a mark
        self.fence = ""  # the mark that opened the block of code in which we are
        self.look = ""  # in force at the terminal
        self._begin_line()

    def _begin_line(self) -> None:
        self.line_begins = True
        self.line_look = ""  # of a heading, or of the line of a fence
        self.code = 0  # backticks that opened a piece of code, and will close it
        self.open: list[str] = []  # the marks of emphasis in force
        self.before = "\n"  # the character drawn last

    def feed(self, text: str) -> str:
        """What to write for the next piece of the text."""
        self.held += printable(text)
        return self._draw(last=False)

    def finish(self) -> str:
        """What was held back, and the terminal's own look again."""
        return self._draw(last=True) + self._turn("")

    def _draw(self, last: bool) -> str:
        out = []
        while self.held:
            if self.line_begins:
                mark = self._line_mark(last)
                if mark is None:
                    break
                out.append(self._put(mark, DIM))
            elif self.held[0] in MARKS and not self.fence and self.line_look != DIM:
                run = re.match(r"(.)\1*", self.held)
                assert run is not None
                if run.end() == len(self.held) <= LONGEST_RUN and not last:
                    break
                out.append(self._run(run[0], self.held[run.end() : run.end() + 1]))
            else:
                out.append(self._plain())
        return "".join(out)

    def _line_mark(self, last: bool) -> str | None:
        """The mark that begins this line, maybe none; None where more of the line must be seen first."""
        mark = LINE_MARK.match(self.held)
        unsure = BEGINNING_OF_ONE.fullmatch(self.held) or (mark and mark["fence"] and mark.end() == len(self.held))
        if unsure and not last:
            return None
        if self.fence and not (mark and (mark["fence"] or "").startswith(self.fence)):
            mark = None
        self.line_begins = bool(mark and mark["quote"])  # a quotation may hold all that a line may
        if not mark:
            return ""
        if mark["fence"]:
            self.fence = "" if self.fence else mark["fence"]
            self.line_look = DIM
        elif mark["heading"]:
            self.line_look = BOLD
        return mark[0]

    def _run(self, run: str, after: str) -> str:
        """A run of one mark in the middle of a line: it opens, closes, or means itself."""
        if self._switches(run, after):
            return self._put(run, DIM)
        return self._put(run, self._style())

    def _switches(self, run: str, after: str) -> bool:
        """Whether the run is a mark; what it opens or closes is so from now on."""
        if run[0] == "`":
            if self.code not in (0, len(run)):
                return False
            self.code = 0 if self.code else len(run)
            return True
        if self.code or self.before == "\\" or self.before == run[0] or len(run) > LONGEST_RUN:
            return False
        if "".join(self.open) == run and not self.before.isspace():
            self.open = []
            return True
        if run in self.open and not self.before.isspace() and not (run[0] == "_" and _latin(after)):
            self.open = self.open[: self.open.index(run)]
            return True
        inside_word = self.before.isalnum() if run[0] == "_" else _latin(self.before) and _latin(after)
        if not after.strip() or inside_word or run in self.open:
            return False
        self.open.append(run)
        return True

    def _plain(self) -> str:
        """Up to the next mark, or a line's end."""
        if self.held[0] == "\n":
            text = self._put("\n", "")  # no look crosses it, so none colours the rest of the terminal's line
            self._begin_line()
            return text
        end = re.search(r"\n" if self.fence else r"[\n*_`]", self.held[1:])
        return self._put(self.held[: end.start() + 1 if end else None], self._style())

    def _style(self) -> str:
        if self.line_look == DIM:
            return DIM
        if self.fence or self.code:
            return CODE
        widths = {len(mark) for mark in self.open}
        bold = self.line_look == BOLD or bool(widths & {2, 3})
        return ";".join([*([BOLD] if bold else []), *([ITALIC] if widths & {1, 3} else [])])

    def _put(self, text: str, look: str) -> str:
        """The text in that look; it is no longer held."""
        if not text:
            return ""
        self.held = self.held[len(text) :]
        self.before = text[-1]
        turned = self._turn(look)
        if self.flow is None:
            return turned + text
        return self.flow.turn(turned) + self.flow.text(text, whole=bool(self.fence) or self.line_look == DIM)

    def _turn(self, look: str) -> str:
        """The escape sequence that brings another look, where it is another."""
        if look == self.look:
            return ""
        self.look = look
        return f"\x1b[{RESET};{look}m" if look else f"\x1b[{RESET}m"


def _latin(character: str) -> bool:
    """Whether it is a letter or digit that Korean particles are not: `**강조**는` closes, `2**3` is arithmetic."""
    return character.isascii() and character.isalnum()
