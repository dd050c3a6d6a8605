"""What a model's files say: its size and shape, tensors, tokenizer, chat template, what `run` would do, what is amiss.

Only headers and small files are read, so the largest model answers at once.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soban.base import system
from soban.base.errors import Finding, UserError
from soban.base.files import quoted
from soban.engine.defaults import sampling_defaults, unfollowed
from soban.loading import loaded
from soban.loading.model_files import ModelFiles, files_of
from soban.loading.pooling import read_pooling
from soban.measure import papers
from soban.measure.configured import config_findings
from soban.models import Architecture, architecture
from soban.packing.assemble import needs_packing
from soban.packing.fitting import Fitted, Misfit, fitted
from soban.packing.layout import RESIDUAL, packed_layout
from soban.packing.packed_file import ORIGIN, packed_path
from soban.resources import memory
from soban.text.chat.probe import Shown, probed
from soban.text.chat.template import load_template
from soban.text.lint import Material, ids_of, lint
from soban.text.tokenizers.entries import Entries
from soban.text.tokenizers.settings import read_json
from soban.weights import llama2c
from soban.weights.checkpoint import GGUF, LLAMA2C, Checkpoint
from soban.weights.inspect import ROTATIONS, Stored, listing, open_any
from soban.weights.naming import EMBEDDING

Report = dict[str, Any]
# config.json's names for the same thing, in families that have an engine here and in older ones.
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
WIDTH = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head", "num_heads")
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx")
INNER = ("intermediate_size", "n_inner", "d_ff")
SIZES = (*LAYERS, *WIDTH, *HEADS, *CONTEXT, *INNER, "num_key_value_heads", "head_dim", "vocab_size")
CHAT_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def inspect_model(path: Path, name: str = "", tokenizer: Path | None = None) -> Report:
    """All of it in plain values, findings as `Finding`. `tokenizer`: of a .bin that has no tokenizer.bin beside it.

    Raises UserError where the weights' files themselves cannot be read.
    """
    checkpoint = open_any(path)
    folder, config = path if path.is_dir() else path.parent, checkpoint.config
    _check_sizes(folder / "config.json", config)
    findings: list[Finding] = []
    arch = _architecture(checkpoint, findings)
    fit = _fitted(arch, checkpoint, findings)
    arch, checkpoint = (fit.architecture, fit.checkpoint) if fit else (arch, checkpoint)
    layout = packed_layout(checkpoint)
    tied = arch.config.tie_word_embeddings if arch else config.get("tie_word_embeddings") is True
    tensors = _with_names(listing(checkpoint, layout, tied), checkpoint, arch)
    rows = next((one.shape[0] for one in tensors if EMBEDDING in (one.name, one.known_as)), None)
    files, is_gguf = files_of(checkpoint), checkpoint.form == GGUF
    belongs = bool(config) and checkpoint.form not in (LLAMA2C, GGUF)  # whether what lies in the folder is this model's
    entries = _entries(files, tokenizer, findings) if config else None
    probe = _probe(files if is_gguf else folder, entries, findings) if (belongs or is_gguf) and entries else None
    findings += _unfollowed(checkpoint.generation_config)
    writes = arch is None or not arch.encoder
    findings += lint(Material(config, checkpoint.generation_config, entries, probe, rows, name or path.name, writes))
    return {
        "name": name or path.name,
        "path": str(path),
        "model": _model(checkpoint, tensors, arch, tied),
        "files": papers.files(path, checkpoint.files),
        "licence": papers.licence(folder) if belongs else papers.own_licence(checkpoint),
        "tokenizer": _tokenizer(entries),
        "template": _template(probe),
        "run": _run(fit, entries, probe, findings),
        "findings": sorted(findings, key=lambda finding: finding.level == "note"),
        "tensors": [dataclasses.asdict(one) for one in tensors],
    }


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Raise UserError for a size that is none; what some families give layer by layer is looked at one by one."""
    for key in SIZES:
        value = config.get(key)
        for size in value if isinstance(value, list) else [value]:
            if size is not None and not (type(size) is int and 0 < size < 2**31):
                raise UserError(
                    "{path}: {key} is {value}, where a whole number above 0 belongs", path=path, key=key,
                    value=quoted(size), hint="fetch it again",
                )  # fmt: skip


def _with_names(tensors: list[Stored], checkpoint: Checkpoint, arch: Architecture | None) -> list[Stored]:
    """The tensors with the names by which soban takes them, where their file has others; {i}: of every layer."""
    if arch is None or checkpoint.form != LLAMA2C:
        return tensors
    names = {llama2c.HEAD: arch.plan.head}
    for theirs, ours in arch.plan.names(LLAMA2C).items():
        names.setdefault(llama2c.LAYER.sub("layers.{i}.", theirs), ours.replace(".0.", ".{i}.", 1))  # the first layer's
    return [dataclasses.replace(one, known_as=names.get(one.known_as, one.known_as)) for one in tensors]


def _architecture(checkpoint: Checkpoint, findings: list[Finding]) -> Architecture | None:
    """The model as soban would build it; None, and a finding that says why, where it cannot."""
    if not checkpoint.config:
        return None
    try:
        return architecture(checkpoint.config, rope_interleaved=checkpoint.interleaved)
    except UserError as error:
        findings.append(Finding("not-runnable", error, "config.json", checkpoint.config.get("model_type")))
        return None


def _entries(files: ModelFiles, tokenizer: Path | None, findings: list[Finding]) -> Entries | None:
    try:
        return files.entries(tokenizer)
    except UserError as error:
        findings.append(Finding("tokenizer-unreadable", error))
        return None


def _probe(source: Path | ModelFiles, entries: Entries, findings: list[Finding]) -> Shown | None:
    """What the chat template of a folder, or of a file that holds all, shows; None where there is none to be read."""
    try:
        template = load_template(source) if isinstance(source, Path) else source.template()
    except UserError as error:
        findings.append(Finding("template-unreadable", error))
        return None
    if template is None:
        return None
    file = _template_file(source) if isinstance(source, Path) else source.checkpoint.path.name
    return probed(entries, template, file)


def _template_file(folder: Path) -> str:
    """Which file `load_template` takes it from."""
    for name in CHAT_FILES[:-1]:
        path = folder / name
        if path.is_file() and (name.endswith(".jinja") or read_json(path).get("chat_template") is not None):
            return name
    return CHAT_FILES[-1]


def _fitted(arch: Architecture | None, checkpoint: Checkpoint, findings: list[Finding]) -> Fitted | None:
    """The model and its tensors as loading has them; None, and a finding, where they are not each other's."""
    if arch is None:
        return None
    try:
        fit = fitted(arch, checkpoint)
    except Misfit as error:
        findings.append(Finding(error.code, error, "config.json", error.tensor))
        return None
    except UserError as error:
        findings.append(Finding("not-runnable", error, "config.json"))
        return None
    findings += config_findings(arch, fit)
    return fit


def _unfollowed(generation: Mapping[str, Any]) -> Iterator[Finding]:
    """Settings of generation by which transformers writes another text."""
    for name in unfollowed(generation, generation.get("do_sample") is True):
        yield Finding(
            "generation-unfollowed",
            UserError(
                "{name} is {value}, which soban does not follow: transformers would write another text", name=name,
                value=quoted(generation[name]), hint="leave it out for the text that soban writes",
            ),
            "generation_config.json", generation[name],
        )  # fmt: skip


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((config[name] for name in names if type(config.get(name)) is int), None)


def _model(checkpoint: Checkpoint, tensors: list[Stored], arch: Architecture | None, tied: bool) -> Report:
    """The head: what kind of model it is, and how large."""
    config = checkpoint.config
    own = [one for one in tensors if not one.shared and one.name not in ROTATIONS]
    weights = [one for one in own if not one.name.endswith((RESIDUAL, "rotary_emb.inv_freq"))]
    formats: dict[str, int] = {}
    for one in own:
        formats[one.format] = formats.get(one.format, 0) + one.bytes
    if arch:  # whatever config.json leaves to the family's defaults
        config = {**config, **dataclasses.asdict(arch.config)}
    heads, width = _first(config, HEADS), _first(config, WIDTH)
    return {
        "model_type": config.get("model_type"),
        "architectures": [*config["architectures"]] if isinstance(config.get("architectures"), list | tuple) else [],
        "configured": bool(config),
        "runnable": arch is not None,
        "encoder": arch is not None and arch.encoder,
        "parameters": sum(math.prod(one.shape) for one in weights),
        "layers": _first(config, LAYERS),
        "hidden": width,
        "inner": _first(config, INNER),
        "heads": heads,
        "kv_heads": arch.config.kv_heads if arch else _first(config, ("num_key_value_heads",)) or heads,
        "head_size": arch.config.head_size if arch else _first(config, ("head_dim",)) or _divided(width, heads),
        "context": arch.config.longest if arch else _first(config, CONTEXT),
        "window": getattr(arch.config, "sliding_window", None) if arch else None,
        "vocabulary": _first(config, ("vocab_size",)),
        "tied": tied,
        "formats": dict(sorted(formats.items(), key=lambda item: -item[1])),
        "tensors": len(own),
        "origin": _origin(checkpoint.metadata),
        "metadata": {key: value for key, value in checkpoint.metadata.items() if len(value) <= 200},
    }


def _origin(metadata: Mapping[str, str]) -> str | None:
    """Of what a packed file was made."""
    try:
        return str(json.loads(metadata[ORIGIN])[0])
    except (KeyError, ValueError, TypeError, IndexError):
        return None


def _divided(width: int | None, heads: int | None) -> int | None:
    return width // heads if width and heads else None


def _tokenizer(entries: Entries | None) -> Report | None:
    if entries is None:
        return None

    def entries_of(ids: tuple[int, ...]) -> list[Report]:
        return [{"id": index, "text": entries.text(index)} for index in ids]

    return {
        "kind": entries.kind, "file": entries.file, "entries": len(entries.ids), "size": entries.size,
        "bos": entries_of(ids_of_one(entries.bos_id)), "eos": entries_of(ids_of_one(entries.eos_id)),
        "before": entries_of(entries.prefix), "after": entries_of(entries.suffix),
        "named": dict(entries.settings.names),
        "added": [
            {"id": index, **dataclasses.asdict(token)} for index, token in sorted(entries.added.items())
        ],
    }  # fmt: skip


def ids_of_one(index: int | None) -> tuple[int, ...]:
    """One id or none, as several."""
    return () if index is None else (index,)


def _template(probe: Shown | None) -> Report | None:
    if probe is None:
        return None
    return {
        "file": probe.file, "kind": probe.kind, "roles": list(probe.roles), "tools": probe.tools,
        "system": "taken" if "system" in probe.roles else "refused" if probe.system_refusal else "dropped",
        "example": probe.conversation, "ends": sorted(probe.form.ends), "stops": list(probe.form.stops),
    }  # fmt: skip


def _run(fit: Fitted | None, entries: Entries | None, probe: Shown | None, findings: list[Finding]) -> Report | None:
    """What `run` and `chat` would do on this PC, now; None where they would refuse, which a finding then says."""
    if fit is None:
        return None
    arch, checkpoint = fit.architecture, fit.checkpoint
    free, usual = system.available_memory(), min(arch.config.longest, loaded.USUAL_CONTEXT)
    options = loaded.LoadSettings("auto", usual, insists=False, free=free, force=False)
    try:
        dtype = loaded.choose_dtype(arch, checkpoint, "auto", options)
        sampling = sampling_defaults(checkpoint.generation_config)
    except UserError as error:
        findings.append(Finding("not-runnable", error))
        return None
    takes = _needs(arch, checkpoint, dtype, usual, free)
    packs = needs_packing(arch, checkpoint, dtype)
    place = packed_path(checkpoint, dtype) if packs else None
    pooling = None
    if arch.encoder:
        try:
            pooling = read_pooling(checkpoint.path)
        except UserError as error:
            findings.append(Finding("not-runnable", error))
            return None
    continues = probe is None or checkpoint.generation_config.get(loaded.CONTINUES) is True
    return {
        "dtype": dtype, "why": _why(arch, checkpoint, dtype, options, takes),
        "packed": None if place is None else {"path": str(place), "there": place.is_file()},
        "memory": {
            "weights": takes.weights, "cache": takes.cache, "rest": takes.buffers + takes.program,
            "needed": takes.total, "free": free,
        },
        "context": takes.context, "cache_dtype": memory.cache_format(dtype),
        "sampling": {
            name: getattr(sampling, name)
            for name in (
                "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens",
                "max_length", "min_new_tokens", "min_length", "no_repeat_ngram_size", "bad_words_ids",
                "suppress_tokens", "begin_suppress_tokens", "stop",
            )
        },
        "ends": _ends(checkpoint, entries, probe), "chat": probe is not None and probe.refusal is None,
        "prompt": "encoded" if pooling else "continued" if continues else "answered",
        "pooling": None if pooling is None else {
            "modes": list(pooling.modes), "width": pooling.width(arch.config.hidden_size),
            "prompts": dict(pooling.prompts), "longest": pooling.longest, "scores": arch.config.labels,
        },
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Needs(memory.Needs):
    """What a model takes with so many tokens of context."""

    context: int = 0


def _needs(arch: Architecture, checkpoint: Checkpoint, dtype: str, context: int, free: int | None) -> _Needs:
    """What the model takes with the context that `run` would give it: a shorter one where memory is short."""
    takes = memory.needs(arch, checkpoint, dtype, context)
    if free is not None and takes.total > free:
        room = free - memory.needs(arch, checkpoint, dtype, 0).total
        context = memory.fitting_context(arch, memory.cache_format(dtype), room, context) or min(context, memory.SHORT)
        takes = memory.needs(arch, checkpoint, dtype, context)
    return _Needs(**dataclasses.asdict(takes), context=context)


def _why(
    arch: Architecture, checkpoint: Checkpoint, dtype: str, options: loaded.LoadSettings, takes: memory.Needs
) -> str:
    """Why `auto` takes this dtype, in a word for programs: the same questions that loading asks, in the same order."""
    free = options.free
    if free is not None and takes.total > free:
        return "overflow"
    if packed_layout(checkpoint):
        return "packed"
    if memory.parameters(arch) <= loaded.TINY:
        return "tiny"
    if dtype == "gguf":
        return "blocks"
    larger = ("f32", "q8") if dtype == "q4" else ("f32",)
    if free is not None and not all(memory.fits(arch, checkpoint, options.form(one), free) for one in larger):
        return "memory"
    return "exact" if dtype == "f32" else "faster"


def _ends(checkpoint: Checkpoint, entries: Entries | None, probe: Shown | None) -> list[Report]:
    """Every token that ends an answer, and which file says so."""
    sources: dict[int, str] = {}
    if probe is not None:
        sources |= dict.fromkeys(probe.form.ends, probe.file)
    config, generation = (ids_of(of.get("eos_token_id")) for of in (checkpoint.config, checkpoint.generation_config))
    sources |= dict.fromkeys(generation or config, "generation_config.json" if generation else "config.json")
    if entries is not None and entries.eos_id is not None:
        sources[entries.eos_id] = "tokenizer_config.json" if "eos_token" in entries.settings.names else entries.file
    if checkpoint.form == LLAMA2C and entries is not None and entries.bos_id is not None:
        sources[entries.bos_id] = entries.file  # llama2.c's models begin the next story with it
    return [
        {"id": index, "text": entries.text(index) if entries else None, "file": file}
        for index, file in sorted(sources.items())
    ]
