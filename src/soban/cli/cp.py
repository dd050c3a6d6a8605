"""`soban cp`: another name for a model."""

from dataclasses import dataclass, field

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

EXAMPLES = """\
  soban cp mina mina:old          before mina is made anew
  soban cp gemma2:2b gpt-4o       for a program that insists on a name
"""


@dataclass(frozen=True)
class CpOptions:
    """Give a model another name. Nothing is copied but the name, its system text and its settings."""

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "MODEL NAME"})


OPTIONS = CpOptions


def call(options: CpOptions) -> int:
    """Writes the file of the new name."""
    from soban.cli.shared import files_of
    from soban.loading import custom

    if len(options.words) != 2:
        raise UserError("a model and a new name are needed", hint="as in soban cp gemma2:2b my-model")
    source, name = options.words
    if source != custom.BUNDLED:
        files_of(source)
    one = custom.copy(source, name)
    console.tell(translate("{name} is there: soban chat {name}", name=one.name))
    return 0
