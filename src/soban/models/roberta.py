"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2019): the first position is that behind the padding's."""

from dataclasses import dataclass
from typing import ClassVar

from soban.models import encoder
from soban.models.family import ModelType


@dataclass(frozen=True)
class Config(encoder.Config):
    """config.json's keys."""

    vocab_size: int = 50265
    pad_token_id: int = 1
    name: ClassVar[str] = "roberta"
    head: ClassVar[tuple[str, str]] = ("classifier.dense", "classifier.out_proj")

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1


XLM = ModelType(unread=encoder.UNREAD, defaults={"vocab_size": 30522})
FAMILY = encoder.family("roberta", Config, {"roberta": ModelType(unread=encoder.UNREAD), "xlm-roberta": XLM})
