"""From a name or path to everything that a model consists of: weights, tokenizer, chat template, settings."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soban import messages
from soban.base import system
from soban.base.border import is_file
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.loading.locate import locate
from soban.loading.model_files import open_model
from soban.loading.modelfile import Modelfile
from soban.loading.pooling import Pooling, read_pooling
from soban.models import Architecture, architecture
from soban.ops.cache import CACHE_FORMATS
from soban.ops.formats import QUANTISED
from soban.ops.run import use_native
from soban.packing.assemble import DTYPES, assemble, dtypes_of, needs_packing, pack
from soban.packing.equalise import Factors, equalise
from soban.packing.fitting import fitted
from soban.packing.layout import check_numbers, packed_layout
from soban.packing.packed_file import locked, model_name, packed_path
from soban.resources import disk, memory
from soban.resources.memory import Form, cache_format
from soban.resources.speed import speeds
from soban.text.chat.template import ChatTemplate, read_source
from soban.text.chat.templates import find_template
from soban.text.tokenizers.bounded import BoundedTokenizer
from soban.text.tokenizers.tokenizer import Tokenizer
from soban.weights import ollama
from soban.weights.checkpoint import BALANCED, LLAMA2C, SYSTEM, Checkpoint
from soban.weights.safetensors import read_safetensors

BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "bundled"
CONTINUES = "continue_prompt"  # in generation_config.json; transformers keeps such keys and does nothing by them
TEMPLATE = "chat_template.jinja"  # in an adapter's folder, as in a model's
DTYPE_CHOICES = ("auto", *DTYPES)
CACHE_DTYPES = ("auto", *CACHE_FORMATS)
USUAL_CONTEXT = 8192  # tokens, where neither the user nor the model asks for less
TINY = 10_000_000  # weights up to which `auto` keeps them as they are stored: fast and exact is possible
SMALL = 100_000_000  # weights up to which rounding them has to be worth it
WORTH = 1.2  # times the speed
NOISE = 1.1  # by which two measurements of the same may differ
REFERENCE_LIMIT = 300_000_000  # weights above which NumPy alone would take minutes a token


class TooLarge(UserError):
    """There is not enough memory for a model now."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """All of a model but the engine that runs it."""

    path: Path
    dtype: str
    architecture: Architecture
    weights: Any
    tokenizer: Tokenizer
    template: ChatTemplate | None
    generation_config: dict[str, Any]
    llama2c: bool  # its sampling defaults and end tokens are run.c's
    cache_format: str  # of the keys and values
    room: int | None = None  # tokens of context that memory holds; None: as many as anybody wants
    turns: tuple[dict[str, str], ...] = ()  # that every conversation begins with
    pooling: Pooling | None = None  # of an encoder
    plain: "Loaded | None" = None  # the same without an adapter's template; None: it has none
    balanced: bool = False  # of a GGUF file, see `to_gguf`
    original: Checkpoint | None = None  # what the weights were packed from; None: they are as in the file

    @functools.cached_property
    def moved(self) -> Factors:
        """What channels were multiplied by when the weights were packed: found anew from what they were packed from.

        Raises UserError where that was done before, and what they were packed from has the channels as they came out.
        """
        if self.balanced:
            raise UserError(
                "{path}: its channels were made even when it was quantised, so that an adapter of the original does "
                "not fit it", path=self.path, hint="merge the adapter into the original model, and quantise that",
            )  # fmt: skip
        quantised = self.original is not None and self.dtype in QUANTISED
        return equalise(self.architecture.plan, self.original) if self.original and quantised else Factors()

    @property
    def ends(self) -> frozenset[int]:
        """Every token that ends an answer, wherever the model's files name it."""
        own = [*self.tokenizer.eos_ids, *_ids(self.generation_config.get("eos_token_id"))]
        if self.llama2c and self.tokenizer.bos_id is not None:
            own.append(self.tokenizer.bos_id)  # llama2.c's models begin the next story with it
        return frozenset(own)

    @property
    def system(self) -> str | None:
        """What the model is told where nobody tells it anything else, as Ollama's models may have it."""
        text = self.generation_config.get(SYSTEM)
        return text if isinstance(text, str) else None

    @property
    def continues(self) -> bool:
        """Whether a prompt is a text to go on with though there is a chat template, which is then for conversations."""
        return self.template is None or self.generation_config.get(CONTINUES) is True

    def check_writes(self) -> None:
        """Raises UserError for a model that makes vectors and scores of texts, and writes none."""
        if self.architecture.encoder:
            raise UserError(
                "{name} is an encoder: it makes vectors and scores of texts, and writes none",
                name=model_name(self.path), hint="use soban embed, or choose a model that writes",
            )  # fmt: skip

    def customised(self, modelfile: Modelfile) -> "Loaded":
        """The same with a Modelfile's settings, system text, first turns and template; not with its adapter."""
        generation = {**self.generation_config, **ollama.as_generation(dict(modelfile.parameters))}
        if modelfile.system is not None:
            generation[SYSTEM] = modelfile.system
        if modelfile.system or modelfile.messages:
            generation[CONTINUES] = False  # whoever gives it a part wants to be answered
        template = find_template(modelfile.template) if modelfile.template else self.template
        turns = tuple({"role": role, "content": content} for role, content in modelfile.messages)
        return replace(self, generation_config=generation, template=template, turns=turns)

    def answering(self, folder: Path) -> "Loaded":
        """The same with the chat template that an adapter's folder keeps: the form that the adapter was taught in."""
        if not (path := folder / TEMPLATE).is_file():
            return self
        template = ChatTemplate(read_source(path), self.template.tokens if self.template else {}, origin=path)
        generation = {**self.generation_config, CONTINUES: False}
        return replace(self, template=template, generation_config=generation, plain=self)

    def context(self, length: int | None) -> int:
        """The context length to use; UserError if more is wanted than the model was made for."""
        limit = self.architecture.config.longest
        if length is None:
            usual = min(limit, USUAL_CONTEXT)
            if self.pooling is not None and self.pooling.longest is not None:
                usual = min(usual, self.pooling.longest)
            if self.room is not None and self.room < usual:
                messages.warn(
                    "memory has room for a context of {context} tokens; --context {usual} insists on more",
                    context=self.room, usual=usual,
                )  # fmt: skip
                return self.room
            return usual
        if not 2 <= length <= limit:
            raise UserError(
                "context={wanted}: this model reads 2 to {limit} tokens", wanted=length, limit=limit,
                hint="give a number in that range",
            )  # fmt: skip
        return length

    def users(self, context: int, count: int | None) -> int:
        """How many full contexts the cache is to hold at once; None: as many as a quarter of the free memory holds."""
        if count is not None:
            if not 1 <= count <= memory.OUTPUTS:
                raise UserError(
                    "users={value}: out of range", value=count, most=memory.OUTPUTS,
                    hint="give a number from 1 to {most}",
                )  # fmt: skip
            return count
        free = system.available_memory()
        return 1 if free is None else memory.fitting_users(self.architecture, context, self.cache_format, free // 4)


def load_files(
    name: str | Path | None,
    *,
    dtype: str,
    tokenizer: str | Path | None,
    force: bool,
    cache_dtype: str = "auto",
    context: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Loaded:
    """Finds, checks, and if need be packs a model's files, and maps its weights; `progress` hears of the packing."""
    if dtype not in DTYPE_CHOICES:
        raise UserError(
            "dtype={dtype} is not known", dtype=dtype, known=", ".join(DTYPE_CHOICES), hint="choose {known}"
        )
    if cache_dtype not in CACHE_DTYPES:
        raise UserError(
            "cache_dtype={dtype} is not known", dtype=cache_dtype, known=", ".join(CACHE_DTYPES), hint="choose {known}"
        )
    path = BUNDLED if name is None else locate(name)
    files = open_model(path)
    checkpoint, config = files.checkpoint, files.checkpoint.config
    fit = fitted(architecture(config, rope_interleaved=checkpoint.interleaved), checkpoint).tell()
    arch, checkpoint = fit.architecture, fit.checkpoint
    free = system.available_memory()
    most = arch.config.longest  # more than that is refused later, by `Loaded.context`
    length = min(most, USUAL_CONTEXT if context is None else max(2, context))
    options = LoadSettings(cache_dtype, length, context is not None, free, force)
    dtype = choose_dtype(arch, checkpoint, dtype, options)
    if dtype != "f32" and (config.get("dtype") or config.get("torch_dtype")) == "bfloat16":
        tied = arch.config.tie_word_embeddings
        arch = architecture({**config, "tie_word_embeddings": tied}, compute_dtype="bfloat16")
    # The tokenizer is small and quick to read: what is wrong with it is said before the weights are packed.
    words = files.tokenizer(None if tokenizer is None else Path(tokenizer))
    if words.vocab_size > arch.config.vocab_size:
        words = BoundedTokenizer(words, arch.config.vocab_size)
        words.encode("")  # a BOS that the model does not have is told at once
    if packed_layout(checkpoint):
        check_numbers(checkpoint)
    packs = needs_packing(arch, checkpoint, dtype)
    weights = packed_form(arch, checkpoint, dtype, progress) if packs else checkpoint
    template = files.template()
    generation = dict(checkpoint.generation_config)
    generation.setdefault("eos_token_id", config.get("eos_token_id"))
    cache = cache_format(dtype, cache_dtype)
    room = _room(arch, checkpoint, weights, dtype, options)
    as_run_c = checkpoint.form == LLAMA2C
    return Loaded(
        path, dtype, arch, assemble(arch, weights), words, template, generation, as_run_c, cache, room,
        pooling=read_pooling(path) if arch.encoder else None, original=checkpoint if packs else None,
        balanced=checkpoint.keys.get(BALANCED) is True,
    )  # fmt: skip


@dataclass(frozen=True)
class LoadSettings:
    """How a model is to be loaded, and the memory that is there for it."""

    cache_dtype: str
    context: int  # what the user wants, else what is usual
    insists: bool  # on that context
    free: int | None
    force: bool

    def form(self, dtype: str) -> Form:
        return Form(dtype, cache_format(dtype, self.cache_dtype), self.context)


def choose_dtype(arch: Architecture, checkpoint: Checkpoint, dtype: str, options: LoadSettings) -> str:
    """The dtype of weights: as asked, or the most exact one that suits the model's size and the free memory."""
    size = memory.parameters(arch)
    if not use_native() and size > REFERENCE_LIMIT and not options.force:
        raise UserError(
            "{millions} million weights are too many for NumPy alone", millions=size // 10**6,
            hint="build the native library (pip install .), or insist with --force",
        )  # fmt: skip
    if packed_layout(checkpoint):
        if dtype not in ("auto", "q8"):
            messages.warn(
                "{path} holds packed weights, so --dtype {dtype} has no effect", path=checkpoint.path, dtype=dtype
            )
        return _check_memory(arch, checkpoint, ("q8",), options)
    kinds = dtypes_of(arch, checkpoint)
    if dtype not in ("auto", *kinds):
        raise UserError(
            "{path}: no GGUF file whose blocks are computed with as they are, so --dtype {dtype} does not fit it",
            path=checkpoint.path, dtype=dtype, known=", ".join(kinds), hint="choose auto or one of {known}",
        )  # fmt: skip
    if dtype != "auto":
        _check_memory(arch, checkpoint, (dtype,), options)
        return dtype
    if size <= TINY:
        return "f32"
    if "gguf" in kinds:
        return _check_memory(arch, checkpoint, ("gguf", "q4"), options)
    compact = _check_memory(arch, checkpoint, ("q8", "q4"), options)
    if options.free is not None and not memory.fits(arch, checkpoint, options.form("f32"), options.free):
        return compact
    return compact if _is_faster(arch, checkpoint, compact, WORTH if size <= SMALL else 1 / NOISE) else "f32"


def _is_faster(arch: Architecture, checkpoint: Checkpoint, dtype: str, gain: float) -> bool:
    """Whether a dtype decodes so much faster on this machine than the weights as they are, and reads no slower."""
    if not use_native():
        return False  # NumPy computes in float32 whatever is stored
    compact, exact = speeds(arch, checkpoint, (dtype, "f32"))
    if arch.encoder:  # which reads only
        return exact.prefill >= gain * compact.prefill
    return exact.decode >= gain * compact.decode and NOISE * exact.prefill >= compact.prefill


def _check_memory(arch: Architecture, checkpoint: Checkpoint, dtypes: tuple[str, ...], options: LoadSettings) -> str:
    """The first of the dtypes that fits into memory; UserError saying what would fit where none does.

    A context that nobody asked for may become shorter. Weights may be larger than memory where no form of them fits.
    """
    free = options.free
    if free is None:
        return dtypes[0]
    contexts = [options.context] if options.insists else [options.context, min(options.context, memory.SHORT)]
    for context in contexts:
        for dtype in dtypes:
            if memory.fits(arch, checkpoint, replace(options.form(dtype), context=context), free):
                return dtype
    if options.force:
        return dtypes[0]
    last = replace(options.form(dtypes[-1]), context=contexts[-1])
    others = memory.fitting_forms(arch, checkpoint, last, free)
    takes = memory.needs(arch, checkpoint, last.dtype, last.context, cache=last.cache)
    if not others and takes.own <= free:
        return last.dtype
    raise TooLarge(
        "{path} needs {needed} of memory as {dtype}, and {free} are free",
        path=checkpoint.path, needed=of_bytes(takes.total), dtype=last.dtype, free=of_bytes(free),
        others=", ".join(form.flags(last) for form in others),
        hint="what would fit: {others}" if others else "close other programs, or insist with --force",
    )  # fmt: skip


def _room(
    arch: Architecture, checkpoint: Checkpoint, weights: Checkpoint, dtype: str, options: LoadSettings
) -> int | None:
    """The context that memory holds beside the weights; None if all that is wanted. Says where they do not fit."""
    if options.free is None:
        return None
    form = options.form(dtype)
    bare = memory.needs(arch, checkpoint, dtype, 0)
    room = memory.fitting_context(arch, form.cache, options.free - bare.total, options.context)
    if room >= min(options.context, memory.SHORT):
        return None if room == options.context else room
    rate = disk.decode_rate(bare.weights, options.free - bare.own, disk.disk_rate(weights.files[-1]))
    facts = {"name": model_name(checkpoint.path), "needed": of_bytes(bare.total), "free": of_bytes(options.free)}
    if rate is None:
        messages.warn(
            "{name} needs {needed} of memory, and {free} are free: its weights come from the disk for every token, "
            "which is slow; a smaller model or form is quicker", **facts,
        )  # fmt: skip
    else:
        messages.warn(
            "{name} needs {needed} of memory, and {free} are free: its weights come from the disk for every token, "
            "about {seconds:.1f} s each; a smaller model or form is quicker", **facts, seconds=1 / rate,
        )  # fmt: skip
    return min(options.context, memory.SHORT)


def packed_form(
    arch: Architecture, checkpoint: Checkpoint, dtype: str, progress: Callable[[float], None]
) -> Checkpoint:
    """The checkpoint in its packed form, which is made on the first use and kept in the cache folder."""
    path = packed_path(checkpoint, dtype)
    weights = _mapped(path, arch, checkpoint)
    if weights is None:
        with locked(path):
            weights = _mapped(path, arch, checkpoint)
            if weights is None:
                path.unlink(missing_ok=True)
                messages.warn(
                    "packing {name} as {dtype}, once: {path}", name=model_name(checkpoint.path), dtype=dtype, path=path
                )  # fmt: skip
                pack(arch, checkpoint, dtype, path, progress)
                weights = _open_packed(path, arch, checkpoint)
    return weights


def _mapped(path: Path, arch: Architecture, checkpoint: Checkpoint) -> Checkpoint | None:
    """A packed file of the checkpoint; None if it is missing or damaged."""
    if not is_file(path):
        return None
    try:
        return _open_packed(path, arch, checkpoint)
    except UserError:
        return None


def _open_packed(path: Path, arch: Architecture, checkpoint: Checkpoint) -> Checkpoint:
    """A packed file of the checkpoint, checked."""
    tensors, metadata = read_safetensors(path)
    weights = Checkpoint(path, checkpoint.config, checkpoint.generation_config, tensors, (path,), metadata)
    weights = fitted(arch, weights).checkpoint
    check_numbers(weights)
    return weights


def _ids(value: Any) -> list[int]:
    """generation_config's eos_token_id: one id, several, or none."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if wrong := [item for item in ids if type(item) is not int]:
        raise UserError(
            "generation_config.json: eos_token_id={value} is no token id", value=wrong[0],
            hint="correct it in the model's folder",
        )  # fmt: skip
    return ids
