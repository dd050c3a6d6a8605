"""Stop strings: ends a stream of text where the first of them is complete, whatever the pieces it comes in."""

from collections.abc import Iterable

from soban.base.errors import UserError

MAX_CHARACTERS = 1_000_000  # of all stop strings together, to bound the automaton


class StopStrings:
    """Watches one stream of text with an Aho-Corasick automaton: constant work per character, however many strings.

    The stop string that is complete first ends the text, the longest of those that end together. `heads` are stop
    strings that count at the beginning of a line alone; up to two line ends before one go with it.
    """

    def __init__(self, strings: Iterable[str], heads: Iterable[str] = ()) -> None:
        begun = [lines + head for head in heads for lines in ("\n", "\n\n")]
        stops = list(dict.fromkeys([*strings, *begun]))
        if "" in stops:
            raise UserError("an empty stop string would stop at once", hint="leave it out")
        if (total := sum(map(len, stops))) > MAX_CHARACTERS:
            raise UserError(
                "the stop strings have {total} characters; at most {most} are allowed",
                total=total,
                most=MAX_CHARACTERS,
                hint="give fewer or shorter ones",
            )
        # A state is a prefix of some stop string; state 0 is the empty one.
        self._next: dict[tuple[int, str], int] = {}
        self._depth = [0]
        self._own = [0]  # length of the stop string that is this state
        self._found = [False]  # whether a stop string ends in this state
        self._heads: set[int] = set()  # states that are a head after one line end
        self._strings: dict[int, str] = {}  # the stop string that is a state
        self._build(stops, frozenset(begun))
        # a text begins as if a line had just ended, for heads alone
        self._state = self._next.get((0, "\n"), 0) if begun else 0
        self._fed = 0
        self._held: list[str] = []  # what each of the latest characters shows: nothing, if it is a hidden one
        self._stopped = False
        self.matched: str | None = None  # the stop string that has ended the text

    def __bool__(self) -> bool:
        """Whether there is anything to watch for."""
        return bool(self._next)

    def _build(self, strings: list[str], heads: frozenset[str]) -> None:
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
                    self._own.append(0)
                    self._found.append(False)
                state = following
            self._own[state], self._found[state], self._strings[state] = len(string), True, string
            if string in heads:
                self._heads.add(state)
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

    def _ending(self, state: int) -> int:
        """How many of the characters that were fed are a stop string that ends in this state."""
        while state:
            if (length := self._own[state]) and (length <= self._fed or state in self._heads):
                self.matched = self._strings[state]
                return min(length, self._fed)
            state = self._suffix[state]
        return 0

    def feed(self, piece: str, hidden: bool = False) -> tuple[str, bool]:
        """The text that can be shown now, and whether a stop string has ended it (nothing comes after that).

        hidden: the piece is watched and not shown, as the text of a token that steers the model.
        """
        if self._stopped:
            return "", True
        if not self._next:
            return "" if hidden else piece, False
        for character in piece:
            self._fed += 1
            self._state = self._step(self._state, character)
            self._held.append("" if hidden else character)
            if self._found[self._state] and (length := self._ending(self._state)):
                self._stopped = True
                text, self._held = self._held[: len(self._held) - length], []
                return "".join(text), True
        ready = max(0, len(self._held) - self._depth[self._state])
        text, self._held = self._held[:ready], self._held[ready:]
        return "".join(text), False

    def finish(self) -> str:
        """What was held back, for the text has ended without a stop string."""
        rest, self._held = self._held, []
        return "".join(rest)
