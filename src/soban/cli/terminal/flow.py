"""Lines that break between words while a text streams: a word that no longer fits is taken back and begins the next."""

import re
from collections.abc import Callable

from soban.messages import width

TAB = 8
FREE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese and Japanese, which have no blanks
PART = re.compile(rf"(?P<end>\n)|(?P<blank>[ \t])|(?P<free>[{FREE}])|(?P<word>[^\n \t{FREE}]+)")
USUAL = "\x1b[0m"
LOOK = re.compile("\x1b\\[[0-9;]*m")


class Flow:
    """Lays out pieces of a text for a terminal that obeys escape sequences; what comes back is to be written at once.

    A word that is longer than a line is left to the terminal, which breaks it anywhere. So is a line in the middle of
    which the terminal was resized, up to its next blank.
    """

    def __init__(self, columns: Callable[[], int]) -> None:
        """`columns`: of the terminal, as wide as it is now."""
        self._columns = columns
        self._look = ""  # the escape sequence in force
        self._begin_line()

    def _begin_line(self) -> None:
        self._room = self._columns()  # the last of them stays free: a cursor behind it is in no column
        self._column = 0  # where the cursor is
        self._full = False  # a blank did not fit: what comes next begins a line
        self._begin_word()

    def _begin_word(self) -> None:
        self._word, self._start, self._word_look = "", self._column, self._look

    def turn(self, look: str) -> str:
        """Another look from here on, given as the escape sequence that sets it, whatever it was before."""
        self._look = look or self._look
        if self._word:
            self._word += look
        else:
            self._word_look = self._look
        return look

    def text(self, text: str, whole: bool = False) -> str:
        """The text with its line breaks; `whole`: its lines are left as they are, for they are code."""
        return "".join(self._place(match[0], str(match.lastgroup), whole) for match in PART.finditer(text))

    def _place(self, part: str, kind: str, whole: bool) -> str:
        if kind == "end":
            self._begin_line()
            return part
        resized = self._room != self._columns()
        size = TAB - self._column % TAB if part == "\t" else width(part)
        fits = self._column + size < self._room
        if kind == "blank":
            if self._full or not (whole or (fits and not resized)):
                self._full = True
                return ""
            self._column += size
            self._begin_word()
            return part
        if self._full:
            self._begin_line()
            return "\n" + self._advance(part)
        if kind == "free":
            self._begin_word()
        if fits or whole or resized or self._start == 0:
            return self._advance(part)
        return self._next_line(part)

    def _next_line(self, part: str) -> str:
        """The word, and this part of it, at the beginning of the next line; what stood of it in this one is erased."""
        back = f"\r\x1b[{self._start}C\x1b[K" if self._word else ""
        word, look = self._word, self._word_look
        self._begin_line()
        self._word_look = look
        turned = (look or USUAL) if LOOK.search(word) else ""  # the word's own looks are in force now
        return back + "\n" + turned + self._advance(word + part)

    def _advance(self, text: str) -> str:
        """The text, which belongs to the word; the cursor moves as the terminal moves it."""
        self._word += text
        for character in LOOK.sub("", text):
            size = width(character)
            self._column = size if self._column + size > self._room else self._column + size
        return text
