"""A model as a GGUF file, which llama.cpp, Ollama and LM Studio load, with its tokenizer and template in it."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban import messages
from soban.base.errors import UserError
from soban.base.files import check_absent, quoted
from soban.convert.gguf_keys import Told, facts_of
from soban.convert.source import Source, balanced_source, pairs
from soban.loading.model_files import files_of
from soban.models import Architecture
from soban.models.plan import Part
from soban.ops.formats import Floats
from soban.text.tokenizers.gguf_writing import llama2c_keys, tokenizer_keys
from soban.text.tokenizers.llama2c import BOS, EOS, read_pieces
from soban.weights.checkpoint import BALANCED, GGUF
from soban.weights.gguf.architectures import EMBEDDING, HEAD, READINGS, Reading
from soban.weights.gguf.importance import Importance
from soban.weights.gguf.opening import SAMPLING
from soban.weights.gguf.quantise import encoded
from soban.weights.gguf.writing import Entry, write_gguf

TYPES = {  # -> general.file_type
    "f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15, "iq4_xs": 30, "q4_0": 2,
}  # fmt: skip
QUANTISED = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q4_0")
MIXED = {"q4_k_m": "q4_k", "q5_k_m": "q5_k"}  # types of files in which some matrices keep six bits
BLOCK = 32  # numbers; rows that it does not divide are kept in float16, as llama.cpp keeps them
NARROW = {
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
    "iq4_xs": "iq4_nl",
}  # what llama.cpp takes for rows that 256 does not divide
WIDE = 256
EXACT = ("position_embd.weight",)  # which llama.cpp never quantises
OWN = ("general.architecture", "general.type", "general.file_type", "general.quantization_version")
PIECE = 16 << 20  # bytes of float32 at a time


def to_gguf(
    source: Source, path: Path, type: str, *, tokenizer: Path | None, words: bool = True,
    importance: Importance | None = None, balanced: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> None:  # fmt: skip
    """Writes the model as a GGUF file, its matrices in a type; vectors stay float32.

    tokenizer: the tokenizer.bin of a model that is a .bin; `words`: whether a tokenizer is written at all;
    `importance`: by which the scales are searched; `balanced`: channels are made about equally large before, which
    changes nothing in what the model computes. Raises UserError, before anything is written, for what a GGUF file
    cannot say, and for the importance matrix of another model.
    """
    checkpoint = source.checkpoint
    source, architecture = source.fitted()
    facts = facts_of(source.path, architecture)
    check_absent(path)
    parts = _places(source, architecture)
    entries: list[Entry] = [(name, "f32", values.shape) for name, values in facts.tensors.items()]
    head = HEAD if HEAD in parts else EMBEDDING
    for name, several in parts.items():
        shape = (sum(part.shape[0] for part in several), *several[0].shape[1:])
        entries.append((name, _format(name, shape, type, head, architecture.config.num_hidden_layers), shape))
    keys = _keys(Source(source.path, checkpoint, source.layout), architecture, facts, type)
    weights = {} if importance is None else importance.weights({name: shape[-1] for name, _, shape in entries})
    if importance is not None:
        keys |= importance.keys()
    if balanced and not source.layout:
        source, moved = balanced_source(source, architecture)
        if moved.columns:
            keys[BALANCED] = True
            messages.warn(
                "{path}: channels that are far larger than others are made even in {count} matrices, so that LoRA "
                "adapters of the original do not fit this file", path=path, count=len(moved.columns),
            )  # fmt: skip
        for name in weights.keys() & parts.keys():  # columns that grew are multiplied with what shrank
            if (factors := moved.columns.get(parts[name][0].name)) is not None:
                weights[name] = (weights[name] / np.square(factors)).astype(np.float32)
    if words:
        keys |= _words(source, tokenizer, architecture.config.vocab_size)
    reading, formats = READINGS[facts.architecture], {name: format for name, format, _ in entries}
    total, position = sum(math.prod(entry[2]) for entry in entries), 0

    def fill(name: str) -> Iterator[npt.NDArray]:
        nonlocal position
        rows = (
            iter([facts.tensors[name]]) if name in facts.tensors else _rows(source, architecture, parts[name], reading)
        )
        for piece in rows:
            yield _encoded(name, formats[name], piece, weights.get(name))
            position += piece.size
            progress(position / total)

    write_gguf(path, keys, entries, fill)


def _format(name: str, shape: tuple[int, ...], type: str, head: str, layers: int) -> str:
    """The format of a tensor; with four bits, the matrix that writes keeps eight or six: it loses most."""
    if len(shape) == 1 or name in EXACT:
        return "f32"
    if type in QUANTISED and shape[-1] % BLOCK:
        return "f16"
    if type == "q4_0":
        return "q8_0" if name == head else type
    six = name == head or (type in MIXED and _matters(name, layers))
    format = "q6_k" if six and type in (*MIXED, "iq4_xs") else MIXED.get(type, type)
    return NARROW.get(format, format) if shape[-1] % WIDE else format


def _matters(name: str, layers: int) -> bool:
    """Whether Q4_K_M and Q5_K_M have six bits for a matrix: values and each layer's last, in half of the layers."""
    _, layer, kind, *_ = name.split(".") if name.startswith("blk.") else ("", "0", "")
    first, i = layers // 8, int(layer)
    more = i < first or i >= 7 * layers // 8 or (i - first) % 3 == 2
    return kind == "attn_qkv" or (kind in ("attn_v", "ffn_down") and more)


def _places(source: Source, architecture: Architecture) -> dict[str, list[Part]]:
    """GGUF's name of each tensor -> the parts that it holds. UserError for one that has none."""
    parts = architecture.plan.tensors(GGUF)
    placed = {part.name for several in parts.values() for part in several}
    for part in architecture.plan.parts():
        if part.name not in placed:
            raise UserError(
                "{path}: tensor {name} has no place in a GGUF file", path=source.path, name=quoted(part.name),
                hint="keep it as a Hugging Face folder: soban and transformers run it as it is",
            )  # fmt: skip
    return parts


def _rows(source: Source, architecture: Architecture, parts: list[Part], reading: Reading) -> Iterator[Floats]:
    """A tensor's rows as llama.cpp has them, in pieces."""
    c = architecture.config
    heads = {"attn_q": c.num_attention_heads, "attn_k": c.kv_heads}
    for part in parts:
        kind = (part.source(GGUF) or "").split(".")[-2]
        if reading.interleaved and not source.checkpoint.interleaved and kind in heads:
            values = source.whole(part.name)
            yield pairs(values.reshape(len(values), -1), heads[kind]).reshape(values.shape)
        elif reading.norm_offset and kind.endswith("_norm"):
            yield source.whole(part.name) + np.float32(reading.norm_offset)
        else:
            yield from source.rows(part.name)


def _encoded(name: str, format: str, rows: Floats, importance: Floats | None) -> npt.NDArray:
    if format == "f16" and np.abs(rows).max(initial=0) > np.finfo(np.float16).max:
        raise UserError(
            "tensor {name} holds numbers too large to be kept as {format}", name=quoted(name), format=format,
            hint="take another type: --type bf16 or f32",
        )  # fmt: skip
    return encoded(format, rows, importance)


def _keys(source: Source, architecture: Architecture, facts: Told, type: str) -> dict[str, Any]:
    """What the file says of itself and of the model; of another GGUF file also what that says."""
    name = source.path.resolve().stem if source.path.is_file() else source.path.resolve().name
    keys: dict[str, Any] = {"general.architecture": facts.architecture, "general.type": "model", "general.name": name}
    before = source.checkpoint.keys
    keys |= {key: value for key, value in before.items() if key.startswith("general.") and key not in OWN}
    keys.pop("general.alignment", None)
    keys |= {"general.file_type": TYPES[type], "general.quantization_version": 2}
    if not before:
        keys |= _sampling(source.checkpoint.generation_config)
    return keys | {f"{facts.architecture}.{key}": value for key, value in facts.keys.items()}


def _sampling(generation: Mapping[str, Any]) -> dict[str, Any]:
    if generation.get("do_sample") is not True:
        return {}
    options = {theirs: generation.get(ours) for theirs, ours in SAMPLING.items()}
    numbers = {name: value for name, value in options.items() if isinstance(value, int | float)}
    return {f"general.sampling.{name}": value if name == "top_k" else float(value) for name, value in numbers.items()}


def _words(source: Source, tokenizer: Path | None, rows: int) -> dict[str, Any]:
    """The tokenizer, what ends an answer, and the chat template."""
    checkpoint, files = source.checkpoint, files_of(source.checkpoint)
    if checkpoint.form == GGUF:
        return {key: value for key, value in checkpoint.keys.items() if key.startswith("tokenizer.")}
    if source.is_llama2c:
        assert tokenizer is not None
        return llama2c_keys(*read_pieces(tokenizer, rows), BOS, EOS)
    keys = tokenizer_keys(source.folder, source.config, rows)
    ends = checkpoint.generation_config.get("eos_token_id", source.config.get("eos_token_id"))
    ends = [index for index in (ends if isinstance(ends, list) else [ends]) if type(index) is int]
    if ends:
        eos = keys.setdefault("tokenizer.ggml.eos_token_id", ends[0])
        others = [index for index in ends if index != eos]
        keys |= {f"tokenizer.ggml.{role}_token_id": index for role, index in zip(("eot", "eom"), others, strict=False)}
    if (template := files.template()) is not None:
        keys["tokenizer.chat_template"] = template.source
    return keys
