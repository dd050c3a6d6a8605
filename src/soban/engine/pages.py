"""Which pages of the cache belong to whom: shared, counted, found again by the tokens that they hold."""

from collections import OrderedDict
from collections.abc import Sequence

from soban.ops.batch import PAGE

ROOT = 0  # what the first page of every sequence follows; -1, -2, ... with another row of rotary frequencies


class Pages:
    """Hands out the cache's pages. A full page is remembered by its tokens and all that came before them.

    A page given back stays findable until its place is needed: the one longest unused goes first.
    """

    def __init__(self, count: int) -> None:
        self.empty = list(range(count - 1, -1, -1))
        self.users = [0] * count
        self.idle: OrderedDict[int, None] = OrderedDict()  # pages that nobody uses but that can be found again
        self.found: dict[tuple[int, tuple[int, ...]], int] = {}  # (prefix before, a page's tokens) -> page
        self.keys: dict[int, tuple[int, tuple[int, ...]]] = {}  # the inverse
        self.prefixes: dict[int, int] = {}  # page -> number of the prefix that ends with it
        self.next_prefix = ROOT + 1

    @property
    def free(self) -> int:
        """How many pages can be taken."""
        return len(self.empty) + len(self.idle)

    def take(self) -> int:
        """A page for one user. There must be a free one."""
        if self.empty:
            page = self.empty.pop()
        else:
            page, _ = self.idle.popitem(last=False)
            self._forget(page)
        self.users[page] = 1
        return page

    def share(self, pages: Sequence[int]) -> None:
        """One more user for each of the pages."""
        for page in pages:
            self.users[page] += 1
            self.idle.pop(page, None)

    def release(self, pages: Sequence[int]) -> None:
        """One user less for each; the last pages of a sequence become idle first, so that prefixes live longest."""
        for page in reversed(pages):
            self.users[page] -= 1
            if self.users[page] == 0:
                if page in self.keys:
                    self.idle[page] = None
                else:
                    self.empty.append(page)

    def remember(self, page: int, previous: int | None, tokens: Sequence[int], rotation: int = 0) -> None:
        """A page is full of these tokens, turned by that row, and follows `previous` (None: it is the first)."""
        before = ROOT - rotation if previous is None else self.prefixes.get(previous)
        if before is None or page in self.keys or (before, tuple(tokens)) in self.found:
            return  # an equal page is remembered already, or one before this is not
        self.keys[page] = (before, tuple(tokens))
        self.found[self.keys[page]] = page
        self.prefixes[page] = self.next_prefix
        self.next_prefix += 1

    def match(self, tokens: Sequence[int], rotation: int = 0) -> list[int]:
        """The pages that hold the longest known beginning of the tokens, not yet shared."""
        pages: list[int] = []
        prefix = ROOT - rotation
        for start in range(0, len(tokens) - PAGE + 1, PAGE):
            page = self.found.get((prefix, tuple(tokens[start : start + PAGE])))
            if page is None:
                break
            pages.append(page)
            prefix = self.prefixes[page]
        return pages

    def _forget(self, page: int) -> None:
        del self.found[self.keys.pop(page)]
        del self.prefixes[page]
