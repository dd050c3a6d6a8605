"""GGUF files whose blocks are computed with as they are: the numbers are the file's, only activations are rounded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.loading import loaded
from soban.model import Model
from soban.ops.formats import Matrix, decode
from soban.packing.layout import LAYOUT, layout_text, packed_layout
from soban.weights.checkpoint import Checkpoint
from soban.weights.opening import open_checkpoint
from tests.models.official import IDS, folder_of

from .making import make_gguf
from .test_models import PLAIN, WIDE

KINDS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")


def mixed(name: str) -> str:
    return "Q6_K" if "embd" in name or "attn_v" in name else "Q8_0" if "attn_k" in name else "Q4_K"


def made(tmp_path: Path, kind: Any, **changes: Any) -> Path:
    path = tmp_path / "model.gguf"
    make_gguf(folder_of(tmp_path / "hf", PLAIN["llama"] | WIDE | changes), path, kind)
    return path


def matrices(model: Model) -> list[Matrix]:
    weights = model.loaded.weights
    return [x for role in (weights, *weights.layers) for x in vars(role).values() if isinstance(x, Matrix)]


def far(logits: np.ndarray, exact: np.ndarray) -> float:
    """The root mean square of what logits are off, to that of the logits."""
    return float(np.sqrt(np.square(logits - exact).mean() / np.square(exact).mean()))


@pytest.mark.parametrize("kind", [*KINDS, mixed])
def test_logits_are_those_of_the_numbers_but_for_rounded_activations(tmp_path: Path, kind: Any) -> None:
    path = made(tmp_path, kind)
    exact, *others = (
        soban.load(path, dtype=dtype, cache_dtype="f32").logits(IDS) for dtype in ("f32", "gguf", "q8", "q4")
    )
    own, eight, four = (far(logits, exact) for logits in others)
    assert 1e-3 < own < 0.8 * eight and own < 0.5 * four  # whose weights are rounded a second time


@pytest.mark.parametrize("kind", ["Q4_0", mixed])
def test_every_weight_is_the_files_number_bit_for_bit(tmp_path: Path, kind: Any) -> None:
    path = made(tmp_path, kind)
    own, exact = (matrices(soban.load(path, dtype=dtype)) for dtype in ("gguf", "f32"))
    formats = {part.format for matrix in own for part in matrix.parts}
    assert formats == ({"q4_0"} if kind == "Q4_0" else {"q4_k", "q6_k", "q8_0"})
    for ours, theirs in zip(own, exact, strict=True):
        for one, other in zip(ours.parts, theirs.parts, strict=True):
            assert np.array_equal(decode(one), decode(other))


def test_auto_takes_the_blocks_of_all_but_tiny_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, mixed)
    assert soban.load(path).loaded.dtype == "f32"
    monkeypatch.setattr(loaded, "TINY", 0)
    assert soban.load(path).loaded.dtype == "gguf"


def test_files_with_other_types_are_packed_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, lambda name: "Q3_K" if "ffn" in name else "Q4_K")
    with pytest.raises(UserError, match="no GGUF file whose blocks are computed with as they are, so --dtype gguf"):
        soban.load(path, dtype="gguf")
    monkeypatch.setattr(loaded, "TINY", 0)
    assert soban.load(path).loaded.dtype != "gguf"


def test_a_folder_has_no_blocks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dtype gguf does not fit it"):
        soban.load(folder_of(tmp_path / "hf", PLAIN["llama"]), dtype="gguf")


def test_a_scale_that_is_no_number_is_told_with_its_tensor(tmp_path: Path) -> None:
    path = made(tmp_path, "Q4_K")
    tensor = open_checkpoint(path).tensors["blk.1.ffn_up.weight"]
    whole = bytearray(path.read_bytes())
    at = whole.index(bytes(tensor.data[5]))  # the first block of row 5
    whole[at : at + 2] = np.array([np.nan], np.float16).tobytes()
    path.write_bytes(whole)
    with pytest.raises(UserError, match="holds a NaN or an infinity near row 5"):
        soban.load(path, dtype="gguf")


def test_a_list_of_packed_tensors_with_rows_that_no_block_divides_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for format, columns in (("q4_k", 320), ("q8_0", 48)):
        packed = Checkpoint(path, {}, {}, {}, (path,), {LAYOUT: layout_text({"a": (format, 16, columns)})})
        with pytest.raises(UserError, match="the list of packed tensors is damaged"):
            packed_layout(packed)
