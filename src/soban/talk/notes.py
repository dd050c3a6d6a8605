"""What is to be told about one request: a part of it, and shown by whoever asked."""

from collections.abc import Callable

from soban import messages

Show = Callable[[str], None]


class Notes(list[str]):
    """The notes of one request, in the order in which they came up; each is also shown at once, as whoever asked says.

    The log is the usual place, which says the same words once a process; here they are as often as they came up.
    """

    def __init__(self, show: Show | None = None) -> None:
        super().__init__()
        self.show = show or messages.show

    def hear(self, text: str) -> None:
        """One more note, in the user's language."""
        self.append(text)
        self.show(text)
