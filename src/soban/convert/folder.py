"""A model as a Hugging Face folder: config, safetensors in shards, tokenizer, generation settings."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.files import new_folder
from soban.convert.source import Floats, Source, halves, rotated_heads
from soban.convert.wholes import whole_rows
from soban.hub.choosing import MODULE
from soban.loading.model_files import GgufFiles, files_of
from soban.ops.formats import bf16_bits
from soban.packing.fitting import quantised_by
from soban.text.tokenizers import gguf_json
from soban.text.tokenizers.fast import load_fast
from soban.text.tokenizers.llama2c import BOS, EOS, Llama2cTokenizer, read_pieces
from soban.text.tokenizers.llama2c_json import tokenizer_files
from soban.text.tokenizers.llama2c_writing import compare
from soban.text.tokenizers.settings import read_settings
from soban.weights.checkpoint import GGUF, WEIGHTS
from soban.weights.naming import CONFIG, INDEX, SINGLE
from soban.weights.safetensors import DTYPES, Entry, write_safetensors

CLASSES = {  # transformers', by model_type
    "llama": "LlamaForCausalLM", "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM", "smollm3": "SmolLM3ForCausalLM", "granite": "GraniteForCausalLM",
    "exaone4": "Exaone4ForCausalLM", "olmo2": "Olmo2ForCausalLM", "stablelm": "StableLmForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM", "gpt2": "GPT2LMHeadModel",
}  # fmt: skip
SHARD_BYTES = 5_000_000_000  # as transformers cuts them
DTYPE_NAMES = {
    "f32": ("F32", "float32"),
    "bf16": ("BF16", "bfloat16"),
    "f16": ("F16", "float16"),
}  # ours -> safetensors', config.json's
BESIDE = (".json", ".jinja", ".model", ".txt", ".md")  # files that go with a model
LEGAL = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
OTHERS = 64 << 20  # bytes for all but the weights

Progress = Callable[[float], None]


def to_folder(
    source: Source, path: Path, dtype: str, *, tokenizer: Path | None, progress: Progress = lambda share: None
) -> None:
    """Writes the model as a new folder that transformers loads, its weights in a dtype (f32, bf16).

    tokenizer: the tokenizer.bin of a model that is a .bin; None leaves it out. Raises UserError for what cannot be
    read or written; the folder appears whole or not at all.
    """
    rotated: dict[str, int] = {}
    if source.checkpoint.form == GGUF:
        _from_gguf(source, path, dtype, progress)
        return
    if source.is_llama2c:
        source, architecture = source.fitted()
        rotated = rotated_heads(architecture)
    elif source.layout:
        source.fitted()  # raises for what does not fit; anything else is copied as it is
    entries = [(name, _stored_dtype(source, name, dtype), shape) for name, shape in source.shapes().items()]
    with new_folder(path, sum(map(entry_size, entries)) + OTHERS) as folder:
        describe(source, folder, dtype, tokenizer=tokenizer)
        write_shards(folder, entries, lambda name: _bytes(source, name, dtype, rotated.get(name)), progress)


def _from_gguf(source: Source, path: Path, dtype: str, progress: Progress) -> None:
    """The model of a GGUF file, its tokenizer and its template."""
    whole = source
    source, architecture = source.fitted()
    kind, _ = DTYPE_NAMES[dtype]
    entries = [(name, kind, shape) for name, shape in architecture.plan.file_shapes().items()]

    def fill(name: str) -> Iterator[npt.NDArray]:
        return (encoded(rows, dtype) for rows in whole_rows(source, architecture, name))

    with new_folder(path, sum(map(entry_size, entries)) + OTHERS) as folder:
        describe(whole, folder, dtype)
        write_shards(folder, entries, fill, progress)


def describe(source: Source, folder: Path, dtype: str, *, tokenizer: Path | None = None) -> None:
    """Writes all that belongs to a model and is no weight: config, tokenizer, template, generation settings, licence.

    tokenizer: the tokenizer.bin of a model that is a .bin.
    """
    if source.is_llama2c:
        _write_json(folder / CONFIG, _llama_config(source.config, dtype))
        _write_json(folder / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": [BOS, EOS]})
        if tokenizer is not None:
            _write_tokenizer(folder, tokenizer, source.config)
    elif source.checkpoint.form == GGUF:
        _describe_gguf(source, folder, dtype)
    else:
        _copy_others(source.folder, folder)
        config = _same_config(source.config, dtype)
        if quantised_by(source.checkpoint) is not None:  # they are plain numbers from here on
            del config["quantization_config"]
        _write_json(folder / CONFIG, config)


def _describe_gguf(source: Source, folder: Path, dtype: str) -> None:
    """What a GGUF file says beside its weights, as files."""
    files, config = files_of(source.checkpoint), source.config
    assert isinstance(files, GgufFiles)
    classes = {"architectures": [CLASSES[config["model_type"]]]} if config["model_type"] in CLASSES else {}
    _write_json(folder / CONFIG, {**classes, **config, "dtype": DTYPE_NAMES[dtype][1]})
    _write_json(folder / "generation_config.json", source.checkpoint.generation_config)
    words = gguf_json.tokenizer_files(files.vocabulary, config.get("n_positions") or config["max_position_embeddings"])
    for file, content in words.items():
        _write_json(folder / file, content)
    if (template := files.template()) is not None:
        (folder / "chat_template.jinja").write_text(template.source, encoding="utf-8", newline="")


def encoded(rows: Floats, dtype: str) -> npt.NDArray:
    """Numbers as a file has them in a dtype."""
    if dtype == "f16":
        return np.ascontiguousarray(rows, np.float16)
    return np.ascontiguousarray(rows if dtype == "f32" else bf16_bits(rows))


def entry_size(entry: Entry) -> int:
    return np.dtype(DTYPES[entry[1]]).itemsize * math.prod(entry[2])


def _stored_dtype(source: Source, name: str, dtype: str) -> str:
    """Weights take the dtype; whole numbers and flags stay what they are."""
    tensor = source.checkpoint.tensors[name]
    return DTYPE_NAMES[dtype][0] if name in source.layout or tensor.format in WEIGHTS else tensor.format.upper()


def _bytes(source: Source, name: str, dtype: str, heads: int | None) -> Iterator[npt.NDArray]:
    """A tensor's numbers in a dtype, in pieces; those of so many heads, kept in pairs, as Hugging Face has them."""
    tensor = source.checkpoint.tensors[name]
    if name not in source.layout and tensor.format not in WEIGHTS:
        yield np.ascontiguousarray(tensor.data)
        return
    for rows in source.rows(name) if heads is None else [halves(source.whole(name), heads)]:
        yield encoded(rows, dtype)


def write_shards(
    folder: Path,
    entries: list[Entry],
    fill: Callable[[str], Iterator[npt.NDArray]],
    progress: Progress,
    most: int = SHARD_BYTES,
) -> None:
    """model.safetensors, or several files of at most `most` bytes with an index; a larger tensor has its own."""
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(map(entry_size, shards[-1])) + entry_size(entry) > most:
            shards.append([])
        shards[-1].append(entry)
    total, position = sum(map(entry_size, entries)), [0]

    def filling(name: str) -> Iterator[npt.NDArray]:
        for piece in fill(name):
            yield piece
            position[0] += piece.nbytes
            progress(position[0] / total)

    count = len(shards)
    names = [SINGLE] if count == 1 else [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, filling, {"format": "pt"})
    if count > 1:
        places = {entry[0]: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _llama_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """config.json of a .bin: its header's keys, and what transformers wants to hear besides."""
    return {
        "architectures": ["LlamaForCausalLM"],
        **config,
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": DTYPE_NAMES[dtype][1],
    }


def _same_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The model's own config.json, but for the dtype; transformers knew that by another name before."""
    rest = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    return {**rest, "dtype" if "torch_dtype" not in config else "torch_dtype": DTYPE_NAMES[dtype][1]}


def _write_tokenizer(folder: Path, path: Path, config: Mapping[str, Any]) -> None:
    pieces, scores = read_pieces(path, config["vocab_size"])
    for name, content in tokenizer_files(path, pieces, scores, config["max_position_embeddings"]).items():
        _write_json(folder / name, content)
    tokenizer = load_fast(folder / "tokenizer.json", read_settings(folder, config))
    compare(path, tokenizer, Llama2cTokenizer(pieces, scores))


def _copy_others(folder: Path, target: Path) -> None:
    """Tokenizer, chat template, licence: all that belongs to a model and is no weight."""
    for path in sorted(folder.iterdir()):
        ours = path.suffix in BESIDE or path.name.upper().startswith(LEGAL)
        if ours and path.is_file() and path.name not in (CONFIG, INDEX) and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)
    for path in sorted(folder.glob("*/*")):  # what sentence-transformers puts behind a model
        if MODULE.fullmatch(name := path.relative_to(folder).as_posix()):
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / name)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
