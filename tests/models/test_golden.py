"""Each family against transformers' logits on small models in which every trait of the family bites."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.models import Architecture, architecture
from soban.packing.assemble import assemble
from soban.weights.opening import open_checkpoint

from ..conftest import GOLDEN

CASES = sorted(folder.name for folder in GOLDEN.iterdir())


class Case:
    def __init__(self, name: str) -> None:
        folder = GOLDEN / name
        self.checkpoint = open_checkpoint(folder)
        self.architecture = architecture(self.checkpoint.config)
        golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        self.ids: list[int] = golden["ids"]
        self.exact = np.load(folder / "logits.npy")
        # transformers in float32 is this far from float64; sums in another order may be somewhat further.
        self.tolerance = 6 * golden["float32_error"]

    def run(self, chunks: list[int], table: list[int], made: Architecture | None = None) -> Any:
        """The logits of all tokens, fed in chunks of these sizes, the cache's pages taken in this order."""
        made = made or self.architecture
        c = made.config
        run = ops.runner(made.record(assemble(made, self.checkpoint)), len(self.ids), len(self.ids)).run
        cache = ops.make_cache(4, [ops.LayerGeometry(c.kv_heads, c.head_size)] * c.num_hidden_layers, "f32")
        rows, start = [], 0
        for size in chunks:
            batch = ops.make_batch([self.ids[start : start + size]], [start], [table], range(size))
            rows.append(run(batch, cache).copy())
            start += size
        return np.concatenate(rows)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name: str, backend: str) -> None:
    case = Case(name)
    got = case.run([len(case.ids)], [2, 0])
    assert np.abs(got - case.exact).max() <= case.tolerance


@pytest.mark.parametrize("name", ["gemma2", "mistral", "llama3-rope"])
def test_chunks_single_steps_and_page_order_do_not_change_a_bit(name: str, backend: str) -> None:
    if backend == "reference":
        pytest.skip("NumPy's matrix product does not promise it")
    case = Case(name)
    whole = case.run([40], [2, 0])
    for chunks, table in (([1] * 40, [0, 1]), ([7, 1, 20, 12], [3, 2])):
        assert np.array_equal(case.run(chunks, table), whole)


@pytest.mark.parametrize("name", ["gemma2", "llama"])
def test_the_reference_is_close_chunk_by_chunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_OPS", "reference")
    case = Case(name)
    assert np.abs(case.run([7, 1, 20, 12], [3, 2]) - case.exact).max() <= case.tolerance


MISTAKES = {
    "the soft caps swapped": ("gemma2", {"attn_logit_softcapping": 9.0, "final_logit_softcapping": 5.0}),
    "no cap on attention": ("gemma2", {"attn_logit_softcapping": None}),
    "no cap on the logits": ("gemma2", {"final_logit_softcapping": None}),
    "no window": ("gemma2", {"sliding_window": None}),
    "the window one longer": ("gemma2", {"sliding_window": 9}),
    "windows on the odd layers": ("gemma2", {"layer_types": ("full_attention", "sliding_attention") * 2}),
    "the scale from the head size": ("gemma2-27b", {"query_pre_attn_scalar": 24.0}),
    "no rope scaling": ("llama3-rope", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "linear rope unscaled": ("llama-linear-rope", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "Mistral's window dropped": ("mistral", {"sliding_window": None}),
    "pairs turned as in llama2.c": ("llama", {"rope_interleaved": True}),
    "the embeddings' scale in bfloat16": ("gemma2", {"compute_dtype": "bfloat16"}),
    "norms without the 1 that is added": ("gemma2", {"plain_norms": True}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_OPS", "reference")
    name, changes = MISTAKES[mistake]
    case = Case(name)
    made = case.architecture
    wrong = Architecture(made.family, replace(made.config, **changes))
    assert np.abs(case.run([40], [2, 0], wrong) - case.exact).max() > 10 * case.tolerance
