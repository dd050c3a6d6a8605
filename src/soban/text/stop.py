"""Stop strings: ends a stream of text where the first of them is complete, whatever the pieces it comes in."""

from collections.abc import Iterable

from soban.errors import UserError

MAX_CHARACTERS = 1_000_000  # of all stop strings together, to bound the automaton


class StopStrings:
    """Watches one stream of text with an Aho-Corasick automaton: constant work per character, however many strings.

    The stop string that is complete first ends the text, the longest of those that end together.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        chosen = list(dict.fromkeys(strings))
        if "" in chosen:
            raise UserError("an empty stop string would stop at once", hint="leave it out")
        if (total := sum(map(len, chosen))) > MAX_CHARACTERS:
            raise UserError(
                "the stop strings have {total} characters; at most {most} are allowed",
                total=total,
                most=MAX_CHARACTERS,
                hint="give fewer or shorter ones",
            )
        # A state is a prefix of some stop string; state 0 is the empty one.
        self._next: dict[tuple[int, str], int] = {}
        self._depth = [0]
        self._found = [0]  # length of the longest stop string that ends in this state
        self._build(chosen)
        self._state = 0
        self._held = ""
        self._stopped = False

    def _build(self, strings: list[str]) -> None:
        parents: list[tuple[int, str]] = [(0, "")]
        for string in strings:
            state = 0
            for character in string:
                following = self._next.get((state, character))
                if following is None:
                    following = len(parents)
                    self._next[state, character] = following
                    parents.append((state, character))
                    self._depth.append(self._depth[state] + 1)
                    self._found.append(0)
                state = following
            self._found[state] = len(string)
        # the longest proper suffix of a state that is a state too; shorter states come first
        self._suffix = [0] * len(parents)
        for state in sorted(range(1, len(parents)), key=self._depth.__getitem__):
            parent, character = parents[state]
            if parent:
                self._suffix[state] = self._step(self._suffix[parent], character)
            self._found[state] = self._found[state] or self._found[self._suffix[state]]

    def _step(self, state: int, character: str) -> int:
        while (following := self._next.get((state, character))) is None:
            if not state:
                return 0
            state = self._suffix[state]
        return following

    def feed(self, piece: str) -> tuple[str, bool]:
        """The text that can be shown now, and whether a stop string has ended it (nothing comes after that)."""
        if self._stopped:
            return "", True
        if not self._next:
            return piece, False
        text = self._held + piece
        state = self._state
        for index, character in enumerate(piece, start=len(self._held) + 1):
            state = self._step(state, character)
            if length := self._found[state]:
                self._stopped = True
                self._held = ""
                return text[: index - length], True
        self._state = state
        shown = len(text) - self._depth[state]
        self._held = text[shown:]
        return text[:shown], False

    def finish(self) -> str:
        """What was held back, for the text has ended without a stop string."""
        held, self._held = self._held, ""
        return held
