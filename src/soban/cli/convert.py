"""`soban convert`: a model from one form on disk to another."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soban import messages
from soban.base import system
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.convert.source import Source

EXAMPLES = """\
  soban convert path/to/model model.bin                     llama2.c's run.c: ./run model.bin -z tokenizer.bin
  soban convert path/to/model model-q8.bin --format v2      its runq.c
  soban convert stories15M.bin stories15M                   a folder that transformers loads
  soban convert path/to/model model-bf16 --dtype bf16
  soban convert path/to/model model.gguf --type q8_0        llama.cpp, Ollama, LM Studio
  soban convert model-Q4_K_M.gguf path/to/folder            a folder that transformers loads
  soban convert my-stories                                  the bundled model, as a folder for transformers
  soban convert path/to/adapter adapter.gguf                a LoRA adapter, for llama.cpp's --lora
"""


@dataclass(frozen=True)
class ConvertOptions:
    """Write a model in another form.

    OUT says which: a name that ends in .bin is llama2.c's (with tokenizer.bin beside it), one that ends in .gguf a GGUF
    file, any other a Hugging Face folder with safetensors. What the new form cannot hold is refused, and nothing is
    written over. Without MODEL it is the bundled one.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL] OUT"})
    format: Literal["v0", "v1", "v2"] | None = field(
        default=None,
        metadata={"help": "of a .bin: v0 for run.c, v1 the same with a header, v2 in 8 bits for runq.c (default: v0)"},
    )
    dtype: Literal["f32", "bf16"] | None = field(
        default=None, metadata={"help": "of a folder's weights (default: f32, where they have another form now)"}
    )
    type: Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q4_0"] | None = field(
        default=None, metadata={"help": "of a GGUF file's weights (default: f16)"}
    )
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    tokenizer_out: str | None = field(
        default=None,
        metadata={"metavar": "FILE", "help": "where to write a .bin's tokenizer (default: tokenizer.bin beside it)"},
    )
    base: str | None = field(
        default=None, metadata={"metavar": "MODEL", "help": "whose adapter this is (default: the one that it names)"}
    )
    weights_only: bool = field(default=False, metadata={"help": "write no tokenizer"})


OPTIONS = ConvertOptions


def call(options: ConvertOptions) -> int:
    """Writes OUT; the outcome is told on stderr."""
    from soban.cli.bringing import bring
    from soban.convert.folder import to_folder
    from soban.convert.gguf import to_gguf
    from soban.convert.llama2c import to_llama2c
    from soban.convert.source import open_source
    from soban.loading import custom
    from soban.loading.loaded import BUNDLED
    from soban.loading.locate import locate
    from soban.loading.modelfile import Modelfile
    from soban.weights.checkpoint import GGUF, LLAMA2C
    from soban.weights.opening import named_form

    name, out = _places(options)
    if name is not None and os.path.isfile(os.path.join(name, "adapter_config.json")):
        return _adapter(options, Path(name), out)
    if options.base is not None:
        raise UserError("--base is for adapters, and this is a model", hint="leave it out")
    if name is not None and (adapter := custom.adapter_of(name)) is not None:
        raise UserError(
            "{model} is a model with the adapter {path}, which would be lost", model=console.shortened(name),
            path=adapter, base=custom.base_of(name) or custom.BUNDLED,
            hint="merge the two with peft, or convert {base}, which is the model without it",
        )  # fmt: skip
    own = None if name is None else custom.described(name)
    name = None if name is None else custom.base_of(name)
    form = named_form(out)
    words_out = Path(options.tokenizer_out or out.with_name("tokenizer.bin"))
    for place in (out, words_out) if form == LLAMA2C else (out,):
        if not place.parent.is_dir():
            raise UserError("{path}: there is no such folder", path=place.parent, hint="make it first")
    source = open_source(BUNDLED if name is None else locate(name, bring))
    _check_flags(options, source, is_bin=form == LLAMA2C, is_gguf=form == GGUF)
    tokenizer = _tokenizer(options, source)
    with console.Status(False) as status:

        def progress(share: float) -> None:
            status.show(translate("writing {path} ... {percent:.0f} %", path=out, percent=100 * share))

        if form == LLAMA2C:
            to_llama2c(
                source, out, options.format or "v0", tokenizer=tokenizer, progress=progress,
                tokenizer_out=None if options.weights_only else words_out,
            )  # fmt: skip
        elif form == GGUF:
            to_gguf(
                source, out, options.type or "f16", tokenizer=tokenizer, words=not options.weights_only,
                progress=progress,
            )  # fmt: skip
        else:
            to_folder(source, out, options.dtype or "f32", tokenizer=tokenizer, progress=progress)
    tell_size(out)
    if own is not None and own.modelfile != Modelfile(own.modelfile.base, license=own.modelfile.license):
        messages.warn(
            "{path} has the weights alone: the system text and settings of {model} stay in {file}", path=out,
            model=own.name, file=own.path,
        )  # fmt: skip
    return 0


def _adapter(options: ConvertOptions, folder: Path, out: Path) -> int:
    """Writes an adapter as a GGUF file; of its model the headers are read."""
    from soban.convert.adapter import adapter_to_gguf
    from soban.measure.headers import outline
    from soban.models import architecture
    from soban.weights.adapter import open_adapter

    others = (options.format, options.dtype, options.type, options.tokenizer, options.tokenizer_out)
    if out.suffix.lower() != ".gguf" or options.weights_only or any(value is not None for value in others):
        raise UserError(
            "{path} is an adapter: it becomes a GGUF file, in float32", path=folder,
            hint="as in soban convert {path} adapter.gguf",
        )  # fmt: skip
    if not out.parent.is_dir():
        raise UserError("{path}: there is no such folder", path=out.parent, hint="make it first")
    files = open_adapter(folder)
    base = options.base or files.base
    if base is None:
        raise UserError("{path}: it does not name its model", path=folder, hint="name it with --base")
    checkpoint = outline(base).checkpoint
    adapter_to_gguf(
        files, architecture(checkpoint.config, rope_interleaved=checkpoint.interleaved), checkpoint, out
    )  # fmt: skip
    tell_size(out)
    return 0


def _places(options: ConvertOptions) -> tuple[str | None, Path]:
    """The model's name or path (None: the bundled one), and where it goes."""
    from soban.hub import meant
    from soban.hub.names import find

    match options.words:
        case [model, out]:
            return model, system.extended(Path(out))
        case [out] if not os.path.exists(out) and (os.path.basename(out) != out or find(out) is None):
            if os.path.basename(out) == out and meant.is_slip(out):
                raise meant.no_place(out)
            return None, system.extended(Path(out))
        case [model]:
            raise UserError(
                "{model}: no word of where it goes", model=console.shortened(model),
                hint="name a new .bin or folder, as in soban convert {model} model.bin",
            )  # fmt: skip
        case []:
            raise UserError("no model and no place for it", hint="soban convert path/to/model model.bin")
    raise UserError(
        "{count} words, where a model and a place for it are meant; this is too much: {word}",
        count=len(options.words), word=console.shortened(options.words[2]), hint="soban convert --help tells more",
    )  # fmt: skip


def _check_flags(options: ConvertOptions, source: "Source", is_bin: bool, is_gguf: bool) -> None:
    """Raise UserError for flags that have no meaning for this model or this form."""
    if is_bin and options.dtype is not None:
        raise UserError(
            "--dtype {dtype} is for folders; a .bin has formats", dtype=options.dtype, hint="give --format v0, v1 or v2"
        )
    if is_gguf and options.dtype is not None:
        raise UserError(
            "--dtype {dtype} is for folders; a GGUF file has types", dtype=options.dtype,
            hint="give --type f16, q8_0, q6_k, q4_k_m or another",
        )  # fmt: skip
    if not is_gguf and options.type is not None:
        raise UserError("--type {type} is for GGUF files", type=options.type, hint="give OUT a name that ends in .gguf")
    if not is_bin and (options.format is not None or options.tokenizer_out is not None):
        raise UserError(
            "--format and --tokenizer-out are for llama2.c's files", hint="give OUT a name that ends in .bin"
        )
    if options.tokenizer is not None and not source.is_llama2c:
        raise UserError(
            "-z {path} is for .bin models; this one has its own tokenizer", path=options.tokenizer, hint="leave it out"
        )
    plain = not source.is_llama2c and source.checkpoint.form != "gguf" and not source.layout
    if not is_bin and not is_gguf and options.dtype is None and plain:
        raise UserError(
            "{path}: a Hugging Face folder already", path=source.path,
            hint="say what is to change: --dtype bf16, or an OUT that ends in .bin",
        )  # fmt: skip


def _tokenizer(options: ConvertOptions, source: "Source") -> Path | None:
    """The tokenizer.bin of a model that is a .bin; None where there is none to read."""
    from soban.loading.model_files import tokenizer_beside

    if options.weights_only or not source.is_llama2c:
        return None
    if options.tokenizer is not None:
        return Path(options.tokenizer)
    return tokenizer_beside(source.path)


def tell_size(out: Path) -> None:
    """Says what was written, and how large it is."""
    files = [out] if out.is_file() else [path for path in out.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    console.tell(translate("wrote {path} ({size:.1f} MB)", path=out, size=size))
