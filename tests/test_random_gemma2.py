"""The random model to measure with: scripts/make_random_gemma2.py."""

from pathlib import Path

from soban.weights.safetensors import read_safetensors
from tests.scripts import script


def test_no_two_matrices_of_the_random_model_are_alike(tmp_path: Path) -> None:
    """Layers 3 and 12, 4 and 13 ... have names with equal sums of letters, which once gave them equal weights."""
    maker, path = script("make_random_gemma2"), tmp_path / "model.safetensors"
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "head_dim": 16, "num_hidden_layers": 22}
    maker.write_weights(path, maker.CONFIG | sizes)
    tensors, _ = read_safetensors(path)
    starts = [tensor.data.tobytes()[:64] for tensor in tensors.values() if len(tensor.shape) == 2]
    assert len(starts) == 1 + 7 * 22 and len(set(starts)) == len(starts)
