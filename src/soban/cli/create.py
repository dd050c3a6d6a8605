"""`soban create`: a name for a model together with a system text and settings, as a Modelfile tells them."""

from dataclasses import dataclass, field
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import open_regular
from soban.cli.terminal import console
from soban.messages import translate

EXAMPLES = """\
  soban create mina -f Modelfile      a file with lines such as FROM gemma2:2b and SYSTEM Be brief.
  soban chat mina
  soban rm mina                       the name goes; gemma2:2b stays
"""


@dataclass(frozen=True)
class CreateOptions:
    """Give a name to a model with a system text and settings.

    FILE is a Modelfile, as Ollama's users write it: FROM, ADAPTER, PARAMETER, SYSTEM, MESSAGE, LICENSE, and TEMPLATE by
    name. What it says is kept in a small file of soban's; run, chat and serve take the name from then on.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "NAME"})
    file: str = field(default="Modelfile", metadata={"short": "-f", "help": "the Modelfile"})


OPTIONS = CreateOptions


def call(options: CreateOptions) -> int:
    """Writes the file, after the base was found, and fetched if need be."""
    from soban.cli.shared import files_of
    from soban.loading import custom, modelfile

    if len(options.words) != 1:
        raise UserError("one name is needed", hint="as in soban create mina -f Modelfile")
    path = Path(options.file)
    with open_regular(path) as file:
        data = file.read(modelfile.MOST + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("{path}: not text in UTF-8", path=path, hint="save it as UTF-8") from error
    settings = custom.with_paths(modelfile.parse(text, str(path)), path.absolute().parent)
    if settings.base != custom.BUNDLED:
        files_of(settings.base)
    one = custom.keep(options.words[0], settings)
    console.tell(translate("{name} is there: soban chat {name}", name=one.name))
    return 0
