"""Small models with a chat template, examples for them, and tunings: as calls, or the parts that one is made of."""

import json
import random
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from soban.cli import main
from soban.learn.training import curve
from soban.learn.tuning import resolve, work
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.tuning.settings import TuneSettings
from tests.learn.training.small import losses as losses
from tests.learn.training.small import numbers as numbers
from tests.learn.tuning.plain import model as model

PLAIN = ("--dtype", "float32", "--samples", "0")
WORDS = {"who": "Mina Tom Lily Ben", "how": "red blue old new big", "what": "ball kite drum cat"}


def pairs(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Questions with answers, one a line."""
    dice = random.Random(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        who, how, what = (dice.choice(WORDS[kind].split()) for kind in ("who", "how", "what"))
        lines[json.dumps({"prompt": f"{who}: {how} {what}?", "completion": f"{what} is {how}"})] = None
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ready(folder: Path, data: Path, **arguments: Any) -> tuple[TuneSettings, Any, Any, Any]:
    """Settings, examples, the adapted model and its run, before the first step; small matrices are no zeros."""
    options = TuneArguments(**{"data": data, "out": folder / "out", "model": folder, "dtype": "float32", **arguments})
    subject = resolve.subject(options)
    sets = subject.examples(options)
    settings = resolve.resolved(options, subject, sets)
    adapted, run = work.start(settings, subject, sets, folder / "out")
    generator = torch.Generator().manual_seed(7)
    for weight in run.computer.weights.values():
        with torch.no_grad():
            weight.normal_(0, 0.1, generator=generator)
    run.computer.refresh()
    return settings, sets, adapted, run


def tune(folder: Path, data: Path, out: Path, *flags: object) -> int:
    """`soban tune`; its exit code."""
    words = ["tune", folder, "--data", data, "--out", out, *PLAIN, *flags]
    with mock.patch.object(curve, "draw"):
        return main([str(word) for word in words])
