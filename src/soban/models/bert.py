"""BERT (Devlin et al. 2018)."""

from dataclasses import dataclass
from typing import ClassVar

from soban.models import encoder
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(encoder.Config):
    """config.json's keys."""

    name: ClassVar[str] = "bert"
    head: ClassVar[tuple[str, str]] = ("bert.pooler.dense", "classifier")


FAMILY = encoder.family("bert", Config, {"bert": ModelType(unread=encoder.UNREAD)})
