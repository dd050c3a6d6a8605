"""A GGUF file as a checkpoint: its config, what it says of generation, its tensors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import GGUF, Checkpoint, Tensor
from soban.weights.gguf.architectures import READINGS, ROTATIONS, Reading
from soban.weights.gguf.header import Texts, Value
from soban.weights.gguf.keys import Keys
from soban.weights.gguf.reading import Contents, read_gguf, text

ARCHITECTURE, KIND = "general.architecture", "general.type"
SAMPLING = {  # general.sampling.* -> generation_config.json's keys
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}  # fmt: skip
CONTROL = 3  # token_type of a token that is never text
ENDS = ("eos", "eot", "eom")  # keys tokenizer.ggml.{}_token_id
# Control tokens that end an answer though no key says so (llama-vocab.cpp).
SPELLED_ENDS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<turn|>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>",
))  # fmt: skip


def open_gguf(path: Path) -> Checkpoint:
    """The checkpoint in a GGUF file, or in several of which it is one.

    Raises UserError for what is damaged, of an architecture that is not known, or has keys that are not.
    """
    return checkpoint_of(path, read_gguf(path))


def checkpoint_of(path: Path, contents: Contents) -> Checkpoint:
    """The same of what has been read."""
    reading = _reading(path, contents)
    keys = Keys(path, str(contents.keys[ARCHITECTURE]), contents.keys, contents.tensors)
    config = reading.config(keys)
    keys.check_all_known()
    ids = special_ids(path, contents.keys, config["vocab_size"])
    return Checkpoint(
        path=contents.files[0] if contents.files else path,
        config={
            **config,
            **{f"{name}_token_id": ids[name] for name in ("bos", "eos") if name in ids},
            "pad_token_id": ids.get("padding"),  # whose defaults may lie beyond the rows
        },
        generation_config=_generation(path, contents.keys, ids),
        tensors=_tensors(path, contents.tensors, reading, config),
        files=contents.files,
        metadata={},
        form=GGUF,
        interleaved=reading.interleaved,
        keys=contents.keys,
    )


def _reading(path: Path, contents: Contents) -> Reading:
    """How the file is read. Raises UserError for one that holds no model, or of another architecture."""
    architecture = text(contents.keys, ARCHITECTURE, path)
    kind = text(contents.keys, KIND, path)
    if kind == "adapter":
        raise UserError("{path}: an adapter, not a whole model", path=path, hint="give the file of its base model")
    if architecture not in READINGS:
        raise UserError(
            "{path}: models of the architecture {architecture} are not read; this reads {known}", path=path,
            architecture=quoted(architecture), known=", ".join(READINGS), hint="use a model of one of these families",
        )  # fmt: skip
    if not contents.tensors:
        raise UserError("{path}: no tensors in it", path=path, hint="fetch the model itself, not its vocabulary alone")
    return READINGS[architecture]


def _tensors(
    path: Path, tensors: Mapping[str, Tensor], reading: Reading, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The weights, norms as the family has them, without what the config holds."""
    weights = {name: tensor for name, tensor in tensors.items() if name not in ROTATIONS}
    if reading.drafts:
        weights = {name: one for name, one in weights.items() if _layer_of(name) < config["num_hidden_layers"]}
    if reading.decay:
        weights |= {name: _decay(path, one) for name, one in weights.items() if name.endswith(reading.decay)}
    if reading.norm_offset:
        norms = (
            name for name in weights if name.endswith("_norm.weight") and not name.endswith(reading.plain_norms or "?")
        )  # fmt: skip
        weights |= {name: replace(weights[name], shift=-reading.norm_offset) for name in norms}
    if reading.taps:
        columns = (tensor for name, tensor in weights.items() if name.endswith(reading.taps) and tensor.data.ndim == 2)
        weights |= {one.name: replace(one, data=one.data.T[:, None], shape=(one.shape[1], 1, one.shape[0]))
                    for one in columns}  # fmt: skip
    return weights


def _layer_of(name: str) -> int:
    """The number of the layer that a tensor belongs to; -1: of none."""
    number = name.removeprefix("blk.").partition(".")[0]
    return int(number) if name.startswith("blk.") and number.isdecimal() else -1


def _decay(path: Path, tensor: Tensor) -> Tensor:
    """log(-x), which is what the family keeps."""
    values = tensor.float32()
    if tensor.format not in ("f32", "f16", "bf16") or tensor.data.ndim != 1 or not (values < 0).all():
        raise UserError(
            "{path}: tensor {name} is to hold numbers below 0", path=path, name=quoted(tensor.name),
            hint="fetch it again",
        )  # fmt: skip
    return replace(tensor, format="f32", data=np.log(-values.astype(np.float64)).astype(np.float32))


def special_ids(path: Path, keys: Mapping[str, Value], vocabulary: int) -> dict[str, int]:
    """The tokens with a role, by its name: bos, eos, eot, unknown, padding, ... Raises UserError for what is no id."""
    ids = {}
    for name in ("bos", *ENDS, "unknown", "padding", "seperator", "mask"):  # so spelt in the format
        key = f"tokenizer.ggml.{name}_token_id"
        value = keys.get(key)
        if value is None or value == 2**32 - 1:  # -1 means none
            continue
        if type(value) is not int or not 0 <= value < max(vocabulary, 1):
            raise UserError(
                "{path}: {key}={value} is no token of its {count}", path=path, key=key, value=quoted(value),
                count=vocabulary, hint="fetch it again",
            )  # fmt: skip
        ids[name] = value
    return ids


def _generation(path: Path, keys: Mapping[str, Value], ids: Mapping[str, int]) -> dict[str, Any]:
    """generation_config.json as the keys tell it: what ends an answer, and how tokens are chosen."""
    ends = {ids[name] for name in ENDS if name in ids} | _spelled_ends(keys)
    config: dict[str, Any] = {"eos_token_id": sorted(ends)} if ends else {}
    if "bos" in ids:
        config["bos_token_id"] = ids["bos"]
    for theirs, ours in SAMPLING.items():
        value = keys.get(f"general.sampling.{theirs}")
        if value is None:
            continue
        if type(value) not in (int, float):
            raise UserError(
                "{path}: {key}={value}, where a number belongs", path=path, key=f"general.sampling.{theirs}",
                value=quoted(value), hint="fetch it again",
            )  # fmt: skip
        config[ours] = float(f"{value:.6g}") if isinstance(value, float) else value
        config["do_sample"] = True
    if config.get("temperature") == 0:  # which means the likeliest token
        config = {key: value for key, value in config.items() if key not in ("do_sample", *SAMPLING.values())}
    return config


def _spelled_ends(keys: Mapping[str, Value]) -> set[int]:
    tokens, types = keys.get("tokenizer.ggml.tokens"), keys.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, Texts) or not isinstance(types, np.ndarray):
        return set()
    control = np.flatnonzero(types[: len(tokens)] == CONTROL).tolist()
    return {index for index in control if tokens[index] in SPELLED_ENDS}
