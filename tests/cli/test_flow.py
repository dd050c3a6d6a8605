"""Lines that break between words while they stream, on a screen that obeys what a terminal obeys."""

import random
import re

from soban.cli.terminal.flow import Flow
from soban.cli.terminal.markdown import Markdown
from soban.messages import width

WORDS = [
    "a", "of", "the", "story", "Once", "upon", "time,", "was", "there", "Gomi's", "(one)", '"Help!"', "12", "3.14",
    "snake_case", "**bold**", "*it*", "`code", "x`", "옛날", "옛적에", "나리라는", "귀여운", "아이가", "살았어요.",
    '"안녕!"', "딸기", "네", "토끼🐇와", "한국어와English", "café", "-", "pneumonoultramicroscopic",
    "https://example.org/a/very/long/address/that/no/line/holds", "動物園", "日本語の文章",
]  # fmt: skip


class Screen:
    """Rows of (character, look); wide characters are not torn, and the row goes on when a character no longer fits."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.x, self.look = columns, [[]], 0, ""
        self.wrapped: set[int] = set()  # rows that the terminal itself went on to
        self.y = 0

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", text, re.DOTALL):
            if part.startswith("\x1b"):
                self._obey(part[2:-1], part[-1])
            elif part == "\r":
                self.x = 0
            elif part == "\n":
                self._down()
            elif part == "\t":
                for _ in range(8 - self.x % 8):
                    self._put(" ")
            else:
                self._put(part)

    def _obey(self, number: str, name: str) -> None:
        if name == "m":
            self.look = number
        elif name == "C":
            self.x += int(number or 1)
            assert self.x < self.columns
        else:
            assert (name, number) == ("K", "")
            row = self.rows[self.y]
            while row and self._end(row[:-1]) >= self.x:
                row.pop()

    def _end(self, row: "list[tuple[str, str]]") -> int:
        return sum(width(character) for character, _ in row)

    def _down(self) -> None:
        self.rows.append([])
        self.y, self.x = self.y + 1, 0

    def _put(self, character: str) -> None:
        if self.x + width(character) > self.columns:
            self._down()
            self.wrapped.add(self.y)
        assert self._end(self.rows[self.y]) == self.x, "written over"
        self.rows[self.y].append((character, self.look))
        self.x += width(character)

    def lines(self) -> list[str]:
        return ["".join(character for character, _ in row) for row in self.rows]


def pieces(text: str, chance: random.Random) -> list[str]:
    cuts = sorted(chance.choices(range(len(text) + 1), k=len(text) // 3))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def laid(text: str, columns: int) -> list[str]:
    """The judge: each line filled with as many words as fit before its last column; a longer word is torn anywhere."""
    made = []
    for line in text.split("\n"):
        rows = [""]
        for word in line.split(" "):
            if (width(f"{rows[-1]} {word}") < columns and rows[-1]) or (not rows[-1] and len(rows) == 1):
                rows[-1] += f" {word}" if rows[-1] else word
            else:
                rows.append(word)
            while width(rows[-1]) > columns or (width(rows[-1]) >= columns and " " in rows[-1]):
                end = max(n for n in range(len(rows[-1])) if width(rows[-1][:n]) <= columns)
                rows[-1:] = [rows[-1][:end], rows[-1][end:]]
        made += rows
    return made


def drawn(text: str, columns: int, chance: random.Random) -> Screen:
    screen, flow = Screen(columns), Flow(lambda: columns)
    for piece in pieces(text, chance):
        screen.write(flow.text(piece))
    return screen


def test_every_line_has_as_many_whole_words_as_fit() -> None:
    chance = random.Random(5)
    latin = [word for word in WORDS if not re.search("[動日]", word)]
    for _ in range(150):
        columns = chance.randint(12, 60)
        text = "\n".join(" ".join(chance.choices(latin, k=chance.randint(0, 30))) for _ in range(3))
        shown = [line.rstrip(" ") for line in drawn(text, columns, chance).lines()]
        assert shown == [line.rstrip(" ") for line in laid(text, columns)], (columns, text)


def test_nothing_is_added_or_lost_and_it_does_not_matter_how_the_text_comes_in() -> None:
    chance = random.Random(6)
    for _ in range(300):
        columns = chance.randint(8, 50)
        text = "".join(chance.choice([*WORDS, " ", "  ", "\n", "\n\n", "\t", ", "]) for _ in range(40))
        one, other = drawn(text, columns, chance), drawn(text, columns, chance)
        assert one.lines() == other.lines()
        assert re.sub(r"\s", "", "".join(one.lines())) == re.sub(r"\s", "", text)
        assert all(width(line) <= columns for line in one.lines())


def test_looks_move_with_their_words() -> None:
    chance = random.Random(7)
    for _ in range(50):
        text = "\n".join(" ".join(chance.choices(WORDS, k=25)) for _ in range(2))
        columns, plain, flowing = chance.randint(10, 50), Screen(10**6), Screen(0)
        flowing.columns = columns
        for screen, flow in ((plain, None), (flowing, Flow(lambda columns=columns: columns))):
            markdown = Markdown(flow)
            for piece in pieces(text, chance):
                screen.write(markdown.feed(piece))
            screen.write(markdown.finish())
        cells = [[cell for row in screen.rows for cell in row if cell[0] != " "] for screen in (plain, flowing)]
        looks = [[(character, look if look != "0" else "") for character, look in row] for row in cells]
        assert looks[0] == looks[1], text
        assert flowing.look in ("", "0")


def test_chinese_and_japanese_break_between_characters() -> None:
    screen = drawn("日本語の文章は空白なしで続く。これで終わり。", 14, random.Random(1))
    assert screen.lines()[0] == "日本語の文章" and not screen.wrapped


def test_code_keeps_its_lines() -> None:
    code = "x = [" + ", ".join(f"value_{n}" for n in range(20)) + "]"
    screen, markdown = Screen(30), Markdown(Flow(lambda: 30))
    for piece in pieces(
        f"words and words and words and words\n```python\n{code}\n```\nand more words after that\n", random.Random(2)
    ):
        screen.write(markdown.feed(piece))
    screen.write(markdown.finish())
    lines = screen.lines()
    assert lines[:2] == ["words and words and words and ", "words"] or lines[:2] == [
        "words and words and words and",
        "words",
    ]
    assert "".join(lines[3 : 3 + len(screen.wrapped) + 1]) == code and lines[-2] == "and more words after that"


def test_a_line_in_which_the_terminal_was_resized_begins_anew_at_its_next_blank() -> None:
    size = [40]
    flow = Flow(lambda: size[0])
    before = flow.text("one two three fo")
    size[0] = 20
    assert "\x1b" not in before and flow.text("ur five six seven eight nine") == "ur\nfive six seven \neight nine"
