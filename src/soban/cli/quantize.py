"""`soban quantize`: a model in four to six bits as a GGUF file, better ones with a text that shows what matters."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.weights.gguf.importance import Importance

EXAMPLES = """\
  soban quantize path/to/model --imatrix korean.txt                   model-Q4_K_M.gguf, for soban and llama.cpp
  soban quantize path/to/model small.gguf --type iq4_xs --imatrix korean.txt
  soban quantize path/to/model --type q6_k
  soban quantize path/to/model --imatrix korean.txt --save-imatrix korean.gguf
  soban quantize path/to/model --type q5_k_m --imatrix korean.gguf    what that or llama-imatrix has written
"""


@dataclass(frozen=True)
class QuantizeOptions:
    """Write a model as a GGUF file of four to six bits a weight, which soban and llama.cpp compute with as it is.

    With --imatrix, the scales are searched for so that errors are small where the model's activations are large: while
    it reads a text like what it is to be used for, or by a matrix that llama-imatrix has written. OUT may be left out;
    the file is then called after the model and the type.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "MODEL [OUT]"})
    type: Literal["q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q4_0"] = field(
        default="q4_k_m", metadata={"help": "of the weights: about 6.6, 5.7, 4.8, 4.3 and 4.5 bits"}
    )
    imatrix: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "a text file, or an importance matrix (.gguf, .dat)"}
    )
    save_imatrix: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "keep the text's importance matrix, in llama.cpp's form"}
    )
    tokens: int | None = field(default=None, metadata={"help": "of the text at most (default: 16384)"})


OPTIONS = QuantizeOptions


def call(options: QuantizeOptions) -> int:
    """Writes the file; the outcome is told on stderr."""
    from soban.cli.bringing import bring
    from soban.cli.convert import tell_size
    from soban.convert.gguf import to_gguf
    from soban.convert.source import open_source
    from soban.loading.locate import locate
    from soban.packing.packed_file import model_name
    from soban.weights.gguf.importance import write_importance

    if not 1 <= len(options.words) <= 2:
        raise UserError(
            "{count} words, where a model and perhaps a file are meant", count=len(options.words),
            hint="as in soban quantize path/to/model --imatrix korean.txt",
        )  # fmt: skip
    _check(options)
    path = locate(options.words[0], bring)
    if len(options.words) == 2:
        out = system.extended(Path(options.words[1]))
    else:
        out = Path(f"{model_name(path).replace(':', '-')}-{options.type.upper()}.gguf")
    saved = None if options.save_imatrix is None else system.extended(Path(options.save_imatrix))
    for place in (out, *([saved] if saved else [])):
        if place.suffix.lower() != ".gguf":
            raise UserError("{path}: a GGUF file's name ends in .gguf", path=place, hint="call it {path}.gguf")
        if os.path.lexists(place):
            raise UserError("{path}: exists already", path=place, hint="name another file, or delete it first")
        if not place.parent.is_dir():
            raise UserError("{path}: there is no such folder", path=place.parent, hint="make it first")
    source = open_source(path)
    with console.Status(False) as status:
        importance = None if options.imatrix is None else _importance(options, path, status)
        if saved is not None and importance is not None:
            write_importance(saved, importance)
            status.clear()
            tell_size(saved)

        def progress(share: float) -> None:
            status.show(translate("writing {path} ... {percent:.0f} %", path=out, percent=100 * share))

        to_gguf(source, out, options.type, tokenizer=None, importance=importance, balanced=True, progress=progress)
    tell_size(out)
    return 0


def _check(options: QuantizeOptions) -> None:
    if options.imatrix is None and options.save_imatrix is not None:
        raise UserError("--save-imatrix without a text", hint="name one with --imatrix")
    if options.imatrix is None and options.tokens is not None:
        raise UserError("--tokens without a text", hint="name one with --imatrix")
    if options.tokens is not None and options.tokens < 1:
        raise UserError("--tokens {tokens}: less than 1", tokens=options.tokens, hint="leave it out")
    if options.imatrix is not None and not os.path.isfile(options.imatrix):
        raise UserError("{path}: no such file", path=options.imatrix, hint="check the spelling")


def _importance(options: QuantizeOptions, path: Path, status: console.Status) -> "Importance":
    """The importance matrix in a file, or of the model while it reads one."""
    from soban.cli.eval import read
    from soban.loading.model_files import open_model
    from soban.measure import importance
    from soban.weights.gguf.importance import is_importance, read_importance

    assert options.imatrix is not None
    file = system.extended(Path(options.imatrix))
    if is_importance(file):
        if options.save_imatrix is not None or options.tokens is not None:
            raise UserError(
                "{path} is an importance matrix already", path=file, hint="leave out --save-imatrix and --tokens"
            )
        return read_importance(file)
    files = open_model(path)
    longest = files.checkpoint.config.get("max_position_embeddings")
    pieces = importance.pieces_of(
        files.tokenizer(), read(file), options.tokens or importance.TOKENS,
        longest if type(longest) is int else importance.CHUNK,
    )  # fmt: skip
    return importance.collect(
        path, pieces, file.name,
        lambda share: status.show(translate("reading {path} ... {percent:.0f} %", path=file, percent=100 * share)),
    )  # fmt: skip
