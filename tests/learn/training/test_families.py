"""The table of families: what a row says is so, and a row that replaces nothing trains by transformers' modules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from soban.base.errors import UserError  # noqa: E402
from soban.learn.data.packing import IGNORED, Batch  # noqa: E402
from soban.learn.training import (  # noqa: E402
    forecast,
    network,
    optimise,
    scratch,
    sizes,
)
from soban.learn.training.arguments import TrainArguments  # noqa: E402
from soban.learn.training.computing import Computer  # noqa: E402
from soban.learn.training.families import FAMILIES  # noqa: E402
from soban.learn.training.presets import Shape  # noqa: E402
from soban.learn.training.resolve import resolved  # noqa: E402
from soban.learn.training.settings import Settings, check, from_json  # noqa: E402

SHAPE = Shape(32, 48, 2, 4, 2, 24, window=5)
IDS = {"bos_token_id": 1, "eos_token_id": 2}


def settings(family: str, shape: Shape = SHAPE, **more: object) -> Settings:
    return Settings(family, shape, 64, batch_size=2, steps=10, learning_rate=1e-2, threads=2, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_has_the_weights_of_transformers_model(family: str) -> None:
    model = network.new_model(settings(family), IDS)
    assert sizes.plan(settings(family)).file_shapes() == {
        name: tuple(weight.shape) for name, weight in model.named_parameters()
    }
    assert sizes.parameters(settings(family)) == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_class_in_a_row_is_a_module_of_its_model(family: str) -> None:
    model = network.new_model(settings(family), IDS)
    replaced = {type(module).__name__ for module in model.modules() if "forward" in vars(module)}
    assert replaced == FAMILIES[family].replaced.keys()


def batch() -> Batch:
    """Two rows of 24; documents begin at 0, 9, 24 and 40."""
    tokens = np.random.default_rng(0).integers(3, 64, (2, SHAPE.context + 1))
    targets = tokens[:, 1:].copy()
    targets[0, 8] = targets[1, 15] = IGNORED
    return Batch(tokens[:, :-1].copy(), targets, np.array([0, 9, 24, 40]))


def test_a_family_without_replacements_learns_as_transformers_own_modules_do() -> None:
    known = settings("gpt2", replace(SHAPE, num_key_value_heads=4))
    check(known)
    model = network.new_model(known, IDS)
    judge = type(model)._from_config(model.config, attn_implementation="eager").double()
    judge.load_state_dict(model.state_dict())
    nats, count = 0.0, 0
    for row, first, end in ((0, 0, 9), (0, 9, 24), (1, 0, 16), (1, 16, 24)):
        part = slice(first, end)
        logits = judge(input_ids=torch.tensor(batch().inputs[row, part])[None], use_cache=False).logits[0]
        targets = torch.tensor(batch().targets[row, part])
        nats = nats + torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        count += int((targets != IGNORED).sum())
    (nats / count).backward()
    computer = Computer(model, dtype=torch.float32, device="cpu", parts=2)
    gradients, loss, tokens, _ = computer.gradients([batch()])
    assert tokens == count and loss == pytest.approx((nats / count).item(), rel=1e-5)
    for name, weight in judge.named_parameters():
        assert (gradients[name] - weight.grad).norm() < 1e-5 * weight.grad.norm() + 1e-9, name
    state = optimise.initial_state(computer.weights, known)
    assert "momentum.transformer.h.0.mlp.c_fc.weight" in state and "mean.transformer.wpe.weight" in state


def test_a_family_in_which_heads_share_nothing_refuses_groups() -> None:
    with pytest.raises(UserError, match="--key-value-heads 2"):
        check(settings("gpt2"))


FROZEN = ("model.layers.1.*", "model.norm.weight")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_what_does_not_learn_stays_as_it_is_and_takes_neither_gradients_nor_memory(
    data: Path, tmp_path: Path, optimizer: str
) -> None:
    arguments = TrainArguments(
        data=data, out="", preset="260k", context=32, batch_size=6, steps=3, dtype="float32", device="cpu",
        optimizer=optimizer, learns=FROZEN,  # type: ignore[arg-type]
    )  # fmt: skip
    known = resolved(arguments, data)
    run = scratch.start(known, data, tmp_path, evaluate_every=5)
    before = {name: weight.clone() for name, weight in run.computer.model.named_parameters()}
    for step in range(3):
        gradients, *_ = run.computer.gradients(next(run.batches(step)))
        optimise.update(run.computer.weights, gradients, run.state, step, known)
        run.computer.refresh()
    learning = {name for name in before if name.startswith("model.layers.1.") or name == "model.norm.weight"}
    assert gradients.keys() == run.computer.weights.keys() == learning
    assert {name.split(".", 1)[1] for name in run.state} == learning
    for name, weight in run.computer.model.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in learning), name
    run.export(tmp_path)
    every = replace(known, learns=())
    assert sizes.learning(known) == sum(before[name].numel() for name in learning)
    assert sizes.learning(every) == sizes.parameters(every)
    assert forecast.memory(known) < forecast.memory(every) and forecast.disk(known) < forecast.disk(every)
    assert from_json(known.as_json()) == known and known.mark != every.mark
