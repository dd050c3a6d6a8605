"""A LoRA adapter (Hu et al. 2021) as peft writes it: adapter_config.json and adapter_model.safetensors in a folder."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted, read_json
from soban.weights.checkpoint import Tensor, finite_check, pickle_refused
from soban.weights.low_rank import AdapterFiles, LowRank
from soban.weights.safetensors import read_safetensors

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_((?P<side>[AB])\.weight|magnitude_vector)")
FACTOR = re.compile(r"base_model\.model\.(?P<module>.+)\.ia3_l")
ALL_LINEAR, MAGNITUDE = "all-linear", "m"
# Keys that change nothing in what a finished adapter computes, or say what the tensors' names say, too.
HARMLESS_WORDS = """
peft_type task_type auto_mapping base_model_name_or_path revision inference_mode lora_dropout fan_in_fan_out
megatron_config megatron_core layers_pattern loftq_config eva_config corda_config lora_ga_config qalora_group_size
runtime_config peft_version ensure_weight_tying
"""
READ_WORDS = """
r lora_alpha use_rslora rank_pattern alpha_pattern target_modules exclude_modules layers_to_transform
init_lora_weights bias
"""
TAKEN = frozenset((HARMLESS_WORDS + READ_WORDS).split())
# Ways to begin that leave the base model as it was; others take part of its weights into the adapter.
BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")


def open_adapter(folder: Path, *, merging: bool = False) -> AdapterFiles:
    """The adapter in peft's folder or a GGUF file. `merging`: also DoRA and IA3, of which a model can be made.

    Raises UserError for what is missing, damaged, or another method.
    """
    if folder.suffix.lower() == ".gguf" and folder.is_file():
        from soban.weights.gguf.adapter import open_gguf_adapter  # imported where it is met: few adapters are such

        return open_gguf_adapter(folder)
    if not folder.is_dir():
        raise UserError("{path}: no such folder", path=folder, hint="name the folder that holds adapter_config.json")
    if not (folder / CONFIG).is_file():
        raise UserError(
            "{path}: no {name} in this folder", path=folder, name=CONFIG,
            hint="name the folder that peft's save_pretrained wrote",
        )  # fmt: skip
    config = read_json(folder / CONFIG)
    _check(folder, config, merging)
    if not (folder / WEIGHTS).is_file():
        if (folder / PICKLED).is_file():
            raise pickle_refused(folder / PICKLED)
        raise UserError("{path}: no {name} in this folder", path=folder, name=WEIGHTS, hint="fetch it again")
    tensors, _ = read_safetensors(folder / WEIGHTS)
    base = config.get("base_model_name_or_path")
    base = base if isinstance(base, str) else None
    if config["peft_type"] == "IA3":
        return AdapterFiles(folder, {}, base, factors=_factors(folder / WEIGHTS, tensors))
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not (match := NAME.fullmatch(name)):
            raise UserError(
                "{path}: {name} is no part of a plain LoRA, which is all that this reads", path=folder / WEIGHTS,
                name=quoted(name), hint="merge the adapter into its model with peft, and run that",
            )  # fmt: skip
        sides.setdefault(match["module"], {})[match["side"] or MAGNITUDE] = tensor
    pairs = {module: pair for module, pair in sides.items() if targeted(config, module)}
    if left := len(sides) - len(pairs):
        messages.warn(
            "{path}: {count} layers are in the adapter, and its {name} does not name them: they are left out",
            path=folder, count=left, name=CONFIG,
        )  # fmt: skip
    layers = {module: _layer(folder / WEIGHTS, config, module, pair) for module, pair in pairs.items()}
    if not layers:
        raise UserError("{path}: there is no layer in this adapter", path=folder, hint="fetch it again")
    return AdapterFiles(folder, layers, base)


def _factors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What IA3 multiplies by, by the names of the modules."""
    factors = {}
    for name, tensor in tensors.items():
        if not (match := FACTOR.fullmatch(name)) or len(tensor.shape) != 2 or 1 not in tensor.shape:
            raise UserError(
                "{path}: {name} is no part of an IA3 adapter", path=path, name=quoted(name),
                hint="fetch the adapter again",
            )  # fmt: skip
        finite_check(tensor)
        factors[match["module"]] = tensor
    return factors


def _check(folder: Path, config: Mapping[str, Any], merging: bool) -> None:
    """UserError for another method than LoRA, and for what is added to it."""
    path = folder / CONFIG
    method = "IA3" if config.get("peft_type") == "IA3" else "DoRA" if config.get("use_dora") else ""
    if method and not merging:
        raise UserError(
            "{path}: {method}, with which nothing is computed beside the model", path=path, method=method,
            folder=folder, hint="soban merge MODEL {folder} --out FOLDER makes a model of it, which runs",
        )  # fmt: skip
    if method == "IA3":
        return
    if config.get("peft_type") != "LORA":
        raise UserError(
            "{path}: peft_type={value}; LoRA is read, and no other method", path=path,
            value=quoted(config.get("peft_type")), hint="merge the adapter into its model with peft, and run that",
        )  # fmt: skip
    wrong = {key: value for key, value in config.items() if key not in TAKEN and value not in (None, False, [], {})}
    wrong.pop("use_dora", None)
    if config.get("bias", "none") != "none":
        wrong["bias"] = config["bias"]
    if config.get("init_lora_weights", True) not in BEGINNINGS:
        wrong["init_lora_weights"] = config["init_lora_weights"]
    for key, value in wrong.items():
        raise UserError(
            "{path}: {key}={value} is not implemented", path=path, key=key, value=quoted(value),
            hint="merge the adapter into its model with peft, and run that",
        )  # fmt: skip


def targeted(config: Mapping[str, Any], module: str) -> bool:
    """Whether peft puts the adapter on a module: by a pattern or by the ends of names, and in some layers only."""
    targets, layers = config.get("target_modules"), config.get("layers_to_transform")
    if _is_named(config.get("exclude_modules"), module):
        return False
    if targets in (None, ALL_LINEAR):
        return True
    if layers not in (None, []) and not isinstance(targets, str):
        numbers = [int(part) for part in module.split(".") if part.isdecimal()]
        if not numbers or numbers[0] not in ([layers] if isinstance(layers, int) else layers):
            return False
    return _is_named(targets, module)


def _is_named(names: Any, module: str) -> bool:
    if isinstance(names, str):
        try:
            return re.fullmatch(names, module) is not None
        except re.error:
            return False
    return any(module == name or module.endswith(f".{name}") for name in names or () if isinstance(name, str))


def _layer(path: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, Tensor]) -> LowRank:
    magnitude = pair.get(MAGNITUDE)
    if not {"A", "B"} <= pair.keys() or any(len(pair[side].shape) != 2 for side in "AB"):
        raise UserError(
            "{path}: {module} has not the two matrices of a LoRA", path=path, module=quoted(module),
            hint="fetch the adapter again",
        )  # fmt: skip
    a, b = pair["A"], pair["B"]
    rank = a.shape[0]
    if b.shape[1] != rank:
        raise UserError(
            "{path}: the matrices of {module} are of rank {a} and {b}", path=path, module=quoted(module), a=rank,
            b=b.shape[1], hint="fetch the adapter again",
        )  # fmt: skip
    if bool(config.get("use_dora")) != (magnitude is not None) or (magnitude and magnitude.shape != b.shape[:1]):
        raise UserError(
            "{path}: {module} has no lengths of rows that fit it", path=path, module=quoted(module),
            hint="fetch the adapter again",
        )  # fmt: skip
    for tensor in (a, b, magnitude):
        if tensor is not None:
            finite_check(tensor)
    promised = _by_pattern(config, "rank_pattern", module, config.get("r", 8))
    alpha = _by_pattern(config, "alpha_pattern", module, config.get("lora_alpha", 8))
    if promised != rank or type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise UserError(
            "{path}: {module} is of rank {rank}, and {name} says r={promised}, lora_alpha={alpha}", path=path,
            module=quoted(module), rank=rank, name=CONFIG, promised=quoted(promised), alpha=quoted(alpha),
            hint="fetch the adapter again",
        )  # fmt: skip
    return LowRank(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank), magnitude)


def _by_pattern(config: Mapping[str, Any], key: str, module: str, usual: Any) -> Any:
    """The value of the first pattern that the module's name ends as, else the usual one."""
    patterns = config.get(key)
    for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error:
            continue
    return usual
