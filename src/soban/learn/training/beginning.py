"""Weights to begin with other than random ones: those of a model that `soban train` has made."""

from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.learn.data.shards import file_hash
from soban.learn.training.families import FAMILIES
from soban.learn.training.folder import TOKENIZER
from soban.learn.training.presets import Shape
from soban.learn.training.settings import Settings
from soban.models import architecture
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint

WEIGHTS = "model.safetensors"
# What may differ between configurations that compute the same
BESIDE = {"architectures", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "pad_token_id",
          "pretraining_tp", "torch_dtype", "transformers_version", "use_cache"}  # fmt: skip


def read_shape(folder: Path) -> tuple[str, Shape]:
    """The network of a model's folder. Raises UserError for one that `soban train` does not make."""
    config = open_checkpoint(folder).config
    name = config.get("model_type")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None or not (folder / WEIGHTS).is_file():
        raise _not_made_here(folder)
    sizes: dict[str, Any] = {ours: config.get(key) for key, ours in family.keys.items()}
    sizes = {"num_key_value_heads": sizes["num_attention_heads"], **sizes}
    if not all(isinstance(size, int) for size in sizes.values()):
        raise _not_made_here(folder)
    return str(name), Shape(**sizes)


def check_tokenizer(folder: Path, data: Path) -> None:
    """UserError where the model has learnt from other tokens than the data's."""
    if not (folder / TOKENIZER[0]).is_file() or file_hash(folder / TOKENIZER[0]) != file_hash(data / TOKENIZER[0]):
        raise UserError(
            "{path}: its tokenizer is not that of {data}", path=folder, data=data,
            hint="prepare the data with the model's own: soban data ... --tokenizer {path}",
        )  # fmt: skip


def weights_hash(folder: Path) -> str:
    """What tells these weights from others."""
    return file_hash(folder / WEIGHTS)


def take_weights(model: Any, settings: Settings, folder: Path) -> None:
    """Puts the folder's weights into a fresh model of the same configuration. Raises UserError for another one."""
    import torch

    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    ours = model.config.to_dict()
    theirs = type(model.config).from_dict(checkpoint.config).to_dict()
    names = {name for name, _ in model.named_parameters()}
    unlike = any(ours[key] != theirs.get(key) for key in ours.keys() - BESIDE)
    if unlike or names != fit.architecture.plan.file_shapes().keys() or not names <= checkpoint.tensors.keys():
        raise _not_made_here(folder)
    if weights_hash(folder) != settings.initial_hash:
        raise UserError("{path}: has changed just now", path=folder, hint="wait until it is whole, and begin again")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(checkpoint.tensors[name].float32().copy()))


def _not_made_here(folder: Path) -> UserError:
    return UserError(
        "{path}: not a network that soban train makes", path=folder,
        hint="--init-from takes the --out folder of a training",
    )  # fmt: skip
