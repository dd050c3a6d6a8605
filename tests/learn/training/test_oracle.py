"""`soban train` against a plain loop: the same losses step by step, and text held out as well foretold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from soban.base import system  # noqa: E402
from soban.learn.data import packing  # noqa: E402
from soban.learn.data.shards import Shards  # noqa: E402
from soban.learn.training import folder, network  # noqa: E402
from tests.learn.training import oracle, small  # noqa: E402

STEPS, ROWS, RATE, WARMUP = 36, 6, 3e-3, 3
# float32 rounds differently in every order of sums; 36 steps of AdamW let that grow to some 1e-5
NEAR = 1e-4


def rows_of(shards: Shards, length: int, each: int) -> Iterator["torch.Tensor"]:
    """The rows of each step with the token after each, from the packing that has tests of its own."""
    for batch in packing.batches(shards.documents, each, length, seed=0):
        following = np.where(batch.targets[:, -1:] == packing.IGNORED, shards.bos_id, batch.targets[:, -1:])
        yield torch.from_numpy(np.concatenate([batch.inputs, following], 1))


def compare(data: Path, out: Path, *flags: str, each: int = ROWS) -> None:
    code = small.train(
        data, out, "--optimizer", "adamw", "--learning-rate", RATE, "--steps", STEPS, "--warmup-steps", WARMUP,
        "--evaluate-every", STEPS, *flags,
    )  # fmt: skip
    assert code == 0
    settings = folder.settings_of(out)
    learnt, held_out = Shards(data), Shards(data, "validation")
    weights = dict(network.new_model(settings, {"bos_token_id": 1, "eos_token_id": 2}).named_parameters())
    weights = {name: weight.detach().clone() for name, weight in weights.items()}
    rows = rows_of(learnt, settings.shape.context, each)
    by_hand = oracle.trained(
        weights, rows, settings.shape, learnt.bos_id, steps=STEPS, rate=RATE, warmup=WARMUP
    )  # fmt: skip
    assert small.numbers(out, "loss") == pytest.approx(by_hand, abs=NEAR)
    assert by_hand[-1] < 0.9 * by_hand[0]  # there was something to learn
    documents = [torch.from_numpy(ids.astype(np.int64)) for ids in held_out.documents]
    bits = oracle.bits_per_byte(weights, documents, held_out.bytes, settings.shape, held_out.bos_id)
    assert small.numbers(out, "held_out_bits_per_byte")[-1] == pytest.approx(bits, abs=NEAR)


def test_losses_are_those_of_a_plain_loop(data: Path, tmp_path: Path) -> None:
    compare(data, tmp_path / "m")


def test_threads_change_no_loss(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "threads", lambda: 5)  # of six rows, one has two
    compare(data, tmp_path / "m")


def test_accumulated_batches_are_one_larger_batch(data: Path, tmp_path: Path) -> None:
    compare(data, tmp_path / "m", "--gradient-accumulation-steps", "3", "--batch-size", "4", each=12)


@pytest.mark.parametrize("name", ["shakespeare.txt", "tinystories_sample.txt"])
def test_losses_on_real_text_are_those_of_a_plain_loop(fixtures: Path, tmp_path: Path, name: str) -> None:
    text = (fixtures / "text" / name).read_text(encoding="utf-8")[:60_000]
    (tmp_path / name).write_text(text, encoding="utf-8")
    compare(small.prepared(tmp_path / name, tmp_path / "data", 512), tmp_path / "m")
