"""The model with what learns in it, and its files: adapters as peft writes them."""

import copy
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soban.base.errors import UserError
from soban.base.files import read_json
from soban.learn.training import checkpoint
from soban.learn.training.folder import WORK
from soban.learn.tuning.methods import METHODS, ambiguous
from soban.learn.tuning.settings import TuneSettings

WEIGHTS, MODEL = "adapter_model.safetensors", "model.safetensors"
BESIDE = (".json", ".jinja", ".model", ".txt")  # endings of a model's files that are no weights
TEMPLATE = "chat_template.jinja"
PREFIX = "base_model.model."


class Adapted:
    """A frozen model in which the weights of a method learn; their first values are decided by the seed."""

    def __init__(self, model: Any, settings: TuneSettings, name: str) -> None:
        """`name`: the model's, as the adapter's file tells it. Changes `model` in place."""
        import peft

        self.model, self.settings = model, settings
        way = METHODS[settings.method]
        assert way.config is not None
        config = way.config(settings)
        modules = [place for place, _ in model.named_modules()]
        for pattern in (getattr(config, "rank_pattern", {}), getattr(config, "alpha_pattern", {})):
            if (module := ambiguous(pattern, modules)) is not None:
                raise UserError(
                    "{module}: two patterns name it, and peft's file does not keep their order", module=module,
                    hint="write names that are longer, so that one alone fits",
                )  # fmt: skip
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own future, and of a name that it would rather have
            torch.manual_seed(settings.seed)
            self.whole = peft.get_peft_model(model, config)
        self.config = self.whole.peft_config["default"]
        self.config.base_model_name_or_path = name
        model.train()

    def learns(self, name: str) -> bool:
        """Whether the weight of this name in the model does."""
        return METHODS[self.settings.method].mark in name

    def files(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The learnt weights by the names that peft's file has."""
        import peft

        state = {PREFIX + name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
        named: dict[str, Tensor] = peft.get_peft_model_state_dict(
            self.whole, state_dict=state, save_embedding_layers=False
        )
        return named

    def save(self, folder: Path, weights: Mapping[str, Tensor], template: str | None) -> None:
        """Writes peft's files, and the chat template, each put in place whole. Raises UserError where it cannot."""
        from safetensors.torch import save_file

        with _into(folder) as work:
            finished = copy.copy(self.config)
            finished.inference_mode = True
            finished.save_pretrained(work)
            if template is not None:
                (work / TEMPLATE).write_text(template, encoding="utf-8")
            tensors = self.files(weights)
            checkpoint.whole(work / WEIGHTS, lambda part: save_file(tensors, part, {"format": "pt"}))


class Whole:
    """A model all of whose own weights learn; what is kept is a model."""

    def __init__(self, model: Any, source: Path) -> None:
        """`source`: its folder, whose other files are kept with the weights."""
        self.source = source
        model.train()

    def learns(self, name: str) -> bool:
        """All do."""
        return True

    def save(self, folder: Path, weights: Mapping[str, Tensor], template: str | None) -> None:
        """Writes the model in float32, with its other files, each put in place whole. Raises UserError where it
        cannot."""
        from safetensors.torch import save_file

        with _into(folder) as work:
            for path in self.source.iterdir():
                if path.suffix in BESIDE and "safetensors" not in path.name:
                    shutil.copyfile(path, work / path.name)
            config = {key: value for key, value in read_json(work / "config.json").items() if key != "torch_dtype"}
            text = json.dumps({**config, "dtype": "float32"}, indent=2, ensure_ascii=False) + "\n"
            (work / "config.json").write_text(text, encoding="utf-8")
            if template is not None:
                (work / TEMPLATE).write_text(template, encoding="utf-8")
            tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
            checkpoint.whole(work / MODEL, lambda part: save_file(tensors, part, {"format": "pt"}))


@contextmanager
def _into(folder: Path) -> Iterator[Path]:
    """A folder to write files into, which are then put into the other, weights last. Raises UserError where it
    cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=WORK) as name:
            work = Path(name)
            yield work
            for path in sorted(work.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                checkpoint.put(path, folder / path.name)
    except OSError as error:
        raise checkpoint.not_written(folder, error) from error
