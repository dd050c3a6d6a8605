"""What Tab and the arrow keys offer in a chat: commands, settings, files, and what was typed before."""

from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History

from soban import messages
from soban.base.border import reason
from soban.cli.commands import CHOICES, COMMANDS, SETTINGS, UNDO
from soban.cli.terminal import history
from soban.messages import translate

PATHS = ("/save ", "/load ")  # what is followed by a file's name


class Completions(Completer):
    """Goes on with a line that begins with a slash."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        if text.startswith(PATHS):
            path = text.partition(" ")[2]
            yield from self._files.get_completions(Document(path), complete_event)
            return
        word = text.rpartition(" ")[2]
        for offer, about in choices(text).items():
            if offer.startswith(word):
                yield Completion(offer, -len(word), display_meta=about)


def choices(text: str) -> dict[str, str]:
    """What the last word of a line may be, and what is to be said about it."""
    match text.split(" ")[:-1]:
        case []:
            return {f"/{name}": translate(about["help"]) for name, about in COMMANDS.items()}
        case ["/set"]:
            return {name: translate(SETTINGS[name]["help"]) for name in SETTINGS}
        case ["/set", name] if name in SETTINGS:
            return dict.fromkeys((*CHOICES.get(name, ()), UNDO), "")
        case ["/stats"]:
            return dict.fromkeys(("on", "off"), "")
    return {}


class Remembered(History):
    """The messages of earlier chats and of this one; None keeps this one's until it ends."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """The latest first, as the line editor wants them."""
        if self._path is None:
            return []
        try:
            return reversed(history.read(self._path))
        except OSError as error:
            self._give_up(error)
            return []

    def store_string(self, string: str) -> None:
        if self._path is not None:
            try:
                history.add(self._path, string)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        messages.warn("{path}: {reason}; what is typed is not kept", path=self._path, reason=reason(error))
        self._path = None
