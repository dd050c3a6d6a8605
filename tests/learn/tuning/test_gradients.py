"""What a tuning learns from, judged by transformers and peft in float64."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from soban.learn.training.families import TUNED  # noqa: E402
from soban.learn.tuning.examples import Example  # noqa: E402
from soban.learn.tuning.methods import METHODS  # noqa: E402
from tests.learn.tuning import small  # noqa: E402

VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True, "alpha": 5.0},
    "dora": {"dora": True},
    "ia3": {"method": "ia3"},
    "full": {"method": "full"},
    "some": {"layers": "1", "rank_of": ("up_proj=3",), "alpha_of": ("q_proj=7",)},
}


def judged(folder: Path, settings: Any, weights: dict[str, "torch.Tensor"]) -> Any:
    """peft's model in float64 with these learnt weights."""
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    config = METHODS[settings.method].config
    whole = peft.get_peft_model(judge, config(settings)) if config else judge
    state = {f"base_model.model.{name}" if config else name: weight for name, weight in weights.items()}
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name in state:
                parameter.data = state.pop(name).double()
    assert not state
    return whole.eval()  # without dropout


def loss_of(judge: Any, example: Example) -> "torch.Tensor":
    """The summed loss of what is learnt of one example by itself."""
    ids = torch.from_numpy(example.ids)
    logits = judge(ids[None]).logits[0, :-1]
    learnt = torch.from_numpy(example.learnt[1:])
    return torch.nn.functional.cross_entropy(logits[learnt], ids[1:][learnt], reduction="sum")


def compare(tmp_path: Path, family: str, **options: Any) -> None:
    folder = small.model(tmp_path / "m", family)
    data = small.pairs(tmp_path / "pairs.jsonl", 12)
    settings, sets, _, run = small.ready(folder, data, base="f32", batch_size=2, rank=4, **options)
    (batch,) = next(run.batches(0))
    gradients, loss, tokens, _ = run.computer.gradients([batch])
    run.computer.close()
    tolerance = 2e-5  # ours in float32: transformers' own are as far from float64
    # two rows without padding hold several examples each, which transformers sees one by one
    documents = {tuple(one.ids.tolist()): one for one in sets.train}
    there = [one for key, one in documents.items() if any(_holds(row, key[:-1]) for row in batch.inputs.tolist())]
    assert len(there) > 4 and sum(one.learns for one in there) == tokens
    judge = judged(folder, settings, run.computer.weights)
    total = sum(loss_of(judge, one) for one in there) / tokens
    assert loss == pytest.approx(total.item(), rel=1e-5)
    total.backward()
    theirs = {name.removeprefix("base_model.model."): p.grad for name, p in judge.named_parameters() if p.requires_grad}
    assert theirs.keys() == gradients.keys()
    for name, gradient in gradients.items():
        off = (gradient.double() - theirs[name]).abs().max()
        assert off <= tolerance * theirs[name].abs().max() + 1e-8, (name, off)


def _holds(row: list[int], ids: tuple[int, ...]) -> bool:
    return any(tuple(row[at : at + len(ids)]) == ids for at in range(len(row) - len(ids) + 1))


@pytest.mark.parametrize("family", TUNED)
def test_gradients_are_those_of_peft_in_float64(tmp_path: Path, family: str) -> None:
    compare(tmp_path, family)


@pytest.mark.parametrize("variant", ["rslora", "dora", "some", "ia3", "full"])
def test_variants_have_the_gradients_of_peft_too(tmp_path: Path, variant: str) -> None:
    compare(tmp_path, "gemma2", **VARIANTS[variant])
