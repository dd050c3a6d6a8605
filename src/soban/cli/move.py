"""`soban move`: all models to another disk, at once."""

from dataclasses import dataclass, field
from pathlib import Path

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.transfer import Transfer
from soban.hub import moving
from soban.messages import translate

INTERRUPTED = 130
EXAMPLES = """\
  soban move D:\\models
  soban move /mnt/big/models
"""


@dataclass(frozen=True)
class MoveOptions:
    """Move the hub's cache, with all models in it, to another folder or disk.

    A link stays at the old place, so that soban and all other tools of the hub go on finding the models there.
    """

    folder: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "FOLDER"})
    cache_dir: str | None = field(
        default=None, metadata={"metavar": "FOLDER", "help": "the cache to move (default: HF_HUB_CACHE)"}
    )
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "show no progress"})


OPTIONS = MoveOptions


def call(options: MoveOptions) -> int:
    """Moves it. 130 if Ctrl-C ended it, and then the models are still where they were."""
    if len(options.folder) != 1:
        raise UserError(
            "move takes one folder, not {count}", count=len(options.folder),
            hint="name one, as in soban move D:\\models",
        )  # fmt: skip
    cache = Path(options.cache_dir) if options.cache_dir else None
    try:
        with Transfer(translate("models"), options.quiet) as line:
            moved = moving.move(Path(options.folder[0]), line.show, cache)
    except KeyboardInterrupt:
        console.tell(translate("stopped; the models are still where they were, and the same command goes on"))
        return INTERRUPTED
    console.write(f"{moved.folder}\n")
    if moved.left:
        console.tell(
            translate("{path} could not be deleted: another program uses it; delete it later", path=moved.left)
        )
    if not moved.linked:
        console.tell(translate("no link could be left at the old place: set HF_HUB_CACHE={path}", path=moved.folder))
    return 0
