"""What a model's matrices are multiplied with is what transformers' layers are given."""

from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.measure.importance import collect, pieces_of
from soban.text.tokenizers.tokenizer import load_tokenizer

from ..models.official import CONFIGS, folder_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_sums_of_squares_are_those_of_what_transformers_layers_are_given(tmp_path: Path, family: str) -> None:
    folder = folder_of(tmp_path / "m", CONFIGS[family])
    dice = np.random.default_rng(2)
    pieces = [dice.integers(3, 260, length).tolist() for length in (40, 33, 40)]
    ours = collect(folder, pieces, "x.txt")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sums: dict[str, np.ndarray] = {}

    def watch(name: str) -> object:
        def hook(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].detach().double().numpy().reshape(-1, inputs[0].shape[-1])
            sums[name] = sums.get(name, 0) + (x**2).sum(axis=0)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad():
        for piece in pieces:
            model(torch.tensor([piece]))
    names = {
        "llama": {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.o_proj": "attn_output",
                  "mlp.gate_proj": "ffn_gate", "mlp.down_proj": "ffn_down"},
        "gemma2": {"self_attn.v_proj": "attn_v", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
        "gpt_neox": {"attention.query_key_value": "attn_qkv", "mlp.dense_4h_to_h": "ffn_down"},
    }[family]  # fmt: skip
    for theirs, mine in names.items():
        for layer in range(2):
            place = next(name for name in sums if name.endswith(f"layers.{layer}.{theirs}"))
            found = ours.sums[f"blk.{layer}.{mine}.weight"][0]
            assert np.allclose(found, sums[place], rtol=1e-3, atol=1e-4), (theirs, layer)
            assert ours.counts[f"blk.{layer}.{mine}.weight"].tolist() == [113]
    assert (ours.chunks, ours.datasets) == (3, ("x.txt",))


def test_a_text_is_cut_into_pieces_of_a_context(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of(tmp_path / "m", CONFIGS["llama"]), CONFIGS["llama"])
    ids = tokenizer.encode("다람쥐 " * 60)
    pieces = pieces_of(tokenizer, "다람쥐 " * 60, 10**6, 64)
    assert {len(piece) for piece in pieces[:-1]} == {64}
    begins = 1 if tokenizer.bos_id is not None and ids[0] == tokenizer.bos_id else 0
    assert [i for piece in pieces for i in piece[begins:]] == list(ids[begins:])[: sum(len(p) - begins for p in pieces)]
    with pytest.raises(UserError, match="tokens says too little"):
        pieces_of(tokenizer, "짧다", 100, 64)
