"""How a model's hidden states become one vector, as the files say that sentence-transformers writes beside a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.base.files import quoted, read_json
from soban.ops import reference
from soban.ops.formats import Floats
from soban.weights.safetensors import read_safetensors

Doubles = npt.NDArray[np.float64]
MODULES, PROMPTS, LENGTHS = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
# Of a text's states (T, hidden), each with its number from 1 on: one vector. The order is that of several in a row.
POOLINGS: Mapping[str, Callable[[Floats, Doubles], Floats | Doubles]] = {
    "cls": lambda x, numbers: x[0],
    "max": lambda x, numbers: x.max(axis=0),
    "mean": lambda x, numbers: np.asarray(x.sum(axis=0, dtype=np.float64) / len(x)),
    "mean_sqrt_len_tokens": lambda x, numbers: x.sum(axis=0, dtype=np.float64) / np.sqrt(len(x)),
    "weightedmean": lambda x, numbers: (x * numbers[:, None]).sum(axis=0) / numbers.sum(),
    "lasttoken": lambda x, numbers: x[-1],
}
FLAGS = {  # of older files
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {  # by the ends of torch's names
    "Identity": lambda x: x, "Tanh": np.tanh, "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: np.asarray(1 / (1 + np.exp(-x)), np.float32),
    "GELU": lambda x: reference.activation(x, "gelu"), "SiLU": lambda x: reference.activation(x, "silu"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dense:
    """A layer behind the pooling: activation(x @ weight.T + bias)."""

    weight: Floats
    bias: Floats | None
    activation: str

    def __call__(self, x: Floats) -> Floats:
        y = x @ self.weight.T
        return np.asarray(ACTIVATIONS[self.activation](y if self.bias is None else y + self.bias))


@dataclass(frozen=True, eq=False)
class Pooling:
    """From hidden states to a vector: `modes` one behind the other, then `layers`; None among these: length 1.

    `prompts`: what may be put before a text, by name; `include_prompt`: whether that counts. `longest`: tokens that the
    model was made for; None: nobody says.
    """

    modes: tuple[str, ...] = ("mean",)
    layers: tuple[Dense | None, ...] = ()
    include_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    longest: int | None = None
    lower_case: bool = False

    def width(self, hidden: int) -> int:
        """Of a vector."""
        return next((len(x.weight) for x in reversed(self.layers) if x is not None), len(self.modes) * hidden)

    def vector(self, states: Floats, prompt: int = 0) -> Floats:
        """The vector of a text's states (T, hidden), the first `prompt` of which are of a prompt."""
        skip = 0 if self.include_prompt or prompt >= len(states) else prompt
        numbers = np.arange(1 + skip, len(states) + 1, dtype=np.float64)
        parts = [POOLINGS[mode](states[skip:], numbers) for mode in self.modes]
        vector = np.concatenate(parts).astype(np.float32)
        for layer in self.layers:
            vector = unit(vector) if layer is None else layer(vector)
        return vector

    def prompt(self, name: str | None) -> str:
        """The text of a prompt, or of the default one. Raises UserError for a name that there is not."""
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise UserError(
                "the model has no prompt {name}", name=name, known=", ".join(self.prompts) or "-",
                hint="choose among these: {known}; or write it before the text yourself",
            )  # fmt: skip
        return self.prompts[name]


def unit(vector: Floats) -> Floats:
    """The vector at length 1; zeros stay what they are."""
    length = np.linalg.norm(vector.astype(np.float64))
    return np.asarray(vector / (length or 1.0), np.float32)


def read_pooling(folder: Path) -> Pooling:
    """What the files in a model's folder say; without any, the mean. Raises UserError for what is not implemented."""
    if not folder.is_dir():
        return Pooling()
    modes: tuple[str, ...] = ("mean",)
    include, layers = True, list[Dense | None]()
    for entry in _entries(folder / MODULES):
        kind, place = str(entry.get("type", "")).rpartition(".")[2], folder / str(entry.get("path", ""))
        if ".." in place.parts:
            raise _unknown(folder / MODULES, "path", entry.get("path"))
        if kind == "Pooling":
            modes, include = _modes(place / "config.json")
        elif kind == "Dense":
            layers.append(_dense(place))
        elif kind == "Normalize":
            layers.append(None)
        elif kind not in ("Transformer", "Dropout"):  # which is for training
            raise _unknown(folder / MODULES, "type", entry.get("type"))
    about, lengths = _object(folder / PROMPTS), _object(folder / LENGTHS)
    prompts = {name: text for name, text in (about.get("prompts") or {}).items() if isinstance(text, str)}
    longest, default = lengths.get("max_seq_length"), about.get("default_prompt_name")
    return Pooling(
        modes, tuple(layers), include, prompts, default if default in prompts else None,
        longest if type(longest) is int and longest > 0 else None, lengths.get("do_lower_case") is True,
    )  # fmt: skip


def _entries(path: Path) -> Sequence[Mapping[str, Any]]:
    """The modules that are listed, in their order."""
    if not path.is_file():
        return ()
    import json

    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError("{path}: no list of modules", path=path, hint="fetch it again")
    return entries


def _object(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _modes(path: Path) -> tuple[tuple[str, ...], bool]:
    config = read_json(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(mode in POOLINGS for mode in modes):
        raise _unknown(path, "pooling_mode", modes)
    return tuple(modes), config.get("include_prompt") is not False


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    config = read_json(path)
    name = str(config.get("activation_function", "Tanh") or "Identity").rpartition(".")[2]
    others = {"use_residual": (None, False), "module_input_name": (None, "sentence_embedding")}
    others["module_output_name"] = (*others["module_input_name"],)
    for key, value in others.items():
        if config.get(key) not in value:
            raise _unknown(path, key, config.get(key))
    if name not in ACTIVATIONS:
        raise _unknown(path, "activation_function", config.get("activation_function"))
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(
            "{path}: no such file or folder", path=file,
            hint="fetch the model again: its vectors pass through this layer",
        )  # fmt: skip
    tensors, _ = read_safetensors(file)
    shape = (config.get("out_features"), config.get("in_features"))
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.shape != shape or (bias is not None and bias.shape != shape[:1]):
        raise UserError(
            "{path}: no layer of {rows} x {columns}, which its config.json promises", path=file, rows=shape[0],
            columns=shape[1], hint="fetch it again",
        )  # fmt: skip
    return Dense(weight.float32(), None if bias is None else bias.float32(), name)


def _unknown(path: Path, key: str, value: object) -> UserError:
    return UserError(
        "{path}: {key}={value} is not implemented", path=path, key=key, value=quoted(value),
        hint="use a model without it",
    )  # fmt: skip
