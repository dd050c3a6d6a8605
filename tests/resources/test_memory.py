"""What a model needs of memory: by published figures, by the sizes of real files, and by what /proc says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import soban
from soban.loading.loaded import BUNDLED
from soban.measure import headers
from soban.measure.work import work_of
from soban.models import Architecture, architecture
from soban.ops import native
from soban.ops.native.program import NativeProgram
from soban.packing import assemble
from soban.packing.packed_file import packed_path
from soban.resources import memory
from soban.resources.memory import Form
from soban.weights.checkpoint import Checkpoint
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors

from ..models.official import CONFIGS, changed
from ..tiny import make_model

# The published config.json of google/gemma-2-2b-it and of meta-llama/Llama-2-7b-hf.
GEMMA_2B: dict[str, Any] = {
    "model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
    "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "max_position_embeddings": 8192, "sliding_window": 4096, "query_pre_attn_scalar": 256,
}  # fmt: skip
SMALL = {
    "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
LLAMA_7B: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip


def imagined(config: dict[str, Any], stored: str = "BF16") -> tuple[Architecture, Checkpoint]:
    """A model of that shape without numbers."""
    made = architecture(config)
    shapes = made.plan.shapes()
    tensors = {name: headers.hollow(name, Path("x"), stored, shape) for name, shape in shapes.items()}
    return made, Checkpoint(Path("x"), config, {}, tensors, (), {})


def test_gemma_2_2b_has_the_published_number_of_weights() -> None:
    made, _ = imagined(GEMMA_2B)
    assert memory.parameters(made) == 2_614_341_888  # Gemma 2's report says 2.6 billion; the model's own page this


def test_gemma_2_2b_takes_104_kib_of_cache_a_token() -> None:
    made, _ = imagined(GEMMA_2B)
    assert memory.token_bytes(made, "bf16") == 104 * 1024  # 26 layers x 2 x 4 heads x 256 numbers x 2 bytes
    assert memory.token_bytes(made, "f32") == 208 * 1024
    assert memory.token_bytes(made, "int8") == 26 * 2 * 4 * (256 + 4 * 4)  # a scale for each 64 numbers


def test_the_weights_of_gemma_2_2b_take_what_its_files_take() -> None:
    made, checkpoint = imagined(GEMMA_2B)
    # 589,824,000 of the vocabulary in twice 4 bits, 61,341,696 of the values in 8, the others in 4; 241,920 in float32
    q4 = (589_824_000 * 9 + 61_341_696 * 65 / 8 + 1_962_934_272 * 9 / 2) / 8 + 4 * 241_920
    assert memory.stored_weights(made, checkpoint, "q4") == q4
    assert memory.stored_weights(made, checkpoint, "q8") == 2_614_099_968 * 65 / 64 + 4 * 241_920
    exact = memory.stored_weights(*imagined(GEMMA_2B, "F32"), "f32")
    assert exact == 4 * 2_614_341_888 and round(exact / 1e9, 1) == 10.5


def test_the_rule_of_thumb_for_7b_is_near_the_true_figure() -> None:
    # "6 to 7 B: 14 GB in 16 bits, 28 in 32"; a card with 16 GB serves 1 or 2 users
    made, checkpoint = imagined(LLAMA_7B, "F16")
    assert round(memory.parameters(made) / 1e9, 1) == 6.7
    assert memory.stored_weights(made, checkpoint, "bf16") / 14e9 == pytest.approx(1, abs=0.05)
    left = 16e9 - memory.needs(made, checkpoint, "bf16", 0).total
    assert 1 <= left // memory.cache_bytes(made, 4096, 1, "bf16") <= 2


@pytest.mark.parametrize("kind", ["bf16", "q8", "q4"])
def test_weights_are_as_large_as_the_packed_file(tmp_path: Path, kind: str) -> None:
    folder = make_model(tmp_path / "model", hidden_size=192, intermediate_size=320, vocab_size=70_000)
    model = soban.load(folder, dtype=kind)
    checkpoint = open_checkpoint(folder)
    file = packed_path(checkpoint, kind)
    tensors, _ = read_safetensors(file)
    told = memory.stored_weights(model.loaded.architecture, checkpoint, kind)
    held = sum(tensor.data.nbytes for tensor in tensors.values())
    assert held - 64 * len(tensors) <= told <= held  # tensors are filled up to 64 bytes
    assert file.stat().st_size - held < 60_000
    assert model.config.vocab_size >= assemble.HALVED_ROWS  # q4 kept it in two halves


@pytest.mark.skipif(native.library() is None, reason="needs the native library")
@pytest.mark.parametrize("kind", ["f32", "q8", "q4"])
def test_what_is_told_before_loading_is_what_the_loaded_model_has(tmp_path: Path, kind: str) -> None:
    folder = make_model(tmp_path / "model", num_hidden_layers=3, vocab_size=70_000)
    model = soban.load(folder, dtype=kind)
    checkpoint, made = open_checkpoint(folder), model.loaded.architecture
    assert isinstance(model.runner, NativeProgram)
    arena = model.runner.arena.nbytes
    assert memory.buffer_bytes(made, checkpoint, kind) <= arena <= memory.buffer_bytes(made, checkpoint, kind) + 64
    logits = 4 * 70_000
    assert 16 * logits <= arena < 48 * logits
    assert 64 * logits <= memory.buffer_bytes(made, checkpoint, kind, users=17)  # taken when so many are there
    cache = model.engine.cache
    told = memory.token_bytes(made, memory.cache_format(kind)) * cache.pages * 32
    assert told == cache.nbytes
    # the hollow program reads as much as the real one
    hollow = memory.hollow(made, checkpoint, kind)
    real = work_of(model.loaded, 0)
    steps = [step for step in made.record(hollow).steps if step.op == "linear"]
    read = sum(part.data.nbytes for step in steps for part in step.arguments["w"].parts)
    assert real.body_bytes < read <= real.body_bytes + real.head_bytes


def test_states_count_two_for_each_user_and_some_to_spare_and_small_ones_more() -> None:
    """By their definition: (L_cache - 1) x width float32 of each convolution."""
    small, large = (architecture(changed(CONFIGS["lfm2"], hidden_size=size)) for size in (32, 1 << 20))
    each = 3 * 2 * (1 << 20) * 4
    assert [memory.state_slots(large, users) for users in (1, 8)] == [6, 20]
    assert memory.state_slots(small, 1) == 160 and memory.state_slots(architecture(CONFIGS["llama"]), 1) == 0
    assert memory.cache_bytes(large, 0, 1, "f32") == 0
    positions = memory.cache_bytes(large, 32, 1, "f32") - 6 * each
    assert positions == 32 * 2 * 2 * (1 << 18) * 4  # of the one layer that attends


def test_a_packed_model_takes_what_its_file_holds() -> None:
    checkpoint = open_checkpoint(BUNDLED)
    made = architecture(checkpoint.config)
    size = (BUNDLED / "model.safetensors").stat().st_size
    assert 0 <= size - memory.stored_weights(made, checkpoint, "q8") < 20_000


MEASURE = """
import json, sys, soban
from soban.base import system
model = soban.load(sys.argv[1], dtype=sys.argv[2], context=int(sys.argv[3]))
ids = [3 + i % 250 for i in range(model.engine.context - 4)]
from soban.talk.generation import Generation
from soban.talk.prompt import Prompt
Generation(model, Prompt(ids), model.sampling(do_sample=False, max_new_tokens=4)).read()
print(json.dumps(system.memory_use().__dict__))
"""


@pytest.mark.skipif(sys.platform != "linux" or native.library() is None, reason="reads /proc of a native run")
@pytest.mark.parametrize("kind", [pytest.param("f32", marks=pytest.mark.slow), "q8"])
def test_resident_memory_is_within_a_tenth_of_what_is_predicted(tmp_path: Path, kind: str) -> None:
    folder = make_model(tmp_path / "model", hidden_size=768, intermediate_size=3072, vocab_size=40_000, head_dim=64,
                        num_hidden_layers=4, max_position_embeddings=2048)  # fmt: skip
    checkpoint = open_checkpoint(folder)
    predicted = memory.needs(architecture(checkpoint.config), checkpoint, kind, 1024)
    subprocess.run([sys.executable, "-c", MEASURE, str(folder), kind, "64"], check=True, capture_output=True)  # packs
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), kind, "1024"], check=True, capture_output=True, text=True
    )
    use = json.loads(done.stdout)
    assert use["anonymous"] + use["mapped"] == pytest.approx(predicted.total, rel=0.10)
    assert predicted.own < 1.1 * (use["anonymous"] + 40e6)


def test_forms_that_would_fit_are_the_most_exact_ones_first() -> None:
    made, checkpoint = imagined(GEMMA_2B)
    wanted = Form("f32", "f32", 8192)
    whole = memory.needs(made, checkpoint, "f32", 8192, cache="f32").total
    assert memory.fits(made, checkpoint, wanted, whole) and not memory.fits(made, checkpoint, wanted, whole - 1)

    def flags(free: float) -> list[str]:
        return [form.flags(wanted) for form in memory.fitting_forms(made, checkpoint, wanted, int(free))]

    assert flags(whole - 1) == ["--dtype bf16", "--dtype q8", "--dtype q4"]
    assert flags(3.0e9)[0] == "--dtype q4"
    assert flags(2.5e9)[0] == "--dtype q4 --cache-dtype int8"
    short, int8 = flags(2.1e9)
    # 2.1 GB less 1.83 of weights and 0.08 of the rest hold some 1,750 tokens, or 3,300 in int8; fewer in large pages
    assert short.startswith("--dtype q4 --context ") and 768 <= int(short.split()[-1]) <= 1750
    assert int8.startswith("--dtype q4 --cache-dtype int8 --context ") and 1500 <= int(int8.split()[-1]) <= 3300
    assert flags(1.9e9) == []
    for free in (3e9, 2.5e9, 2.1e9):
        for form in memory.fitting_forms(made, checkpoint, wanted, int(free)):
            assert memory.fits(made, checkpoint, form, int(free))


def test_the_longest_context_that_fits_is_found_in_steps() -> None:
    made, _ = imagined(GEMMA_2B)
    each = memory.token_bytes(made, "bf16")
    assert memory.fitting_context(made, "bf16", 8192 * each, 8192) == 8192
    assert memory.fitting_context(made, "bf16", 3000 * each, 8192) % 256 == 0
    assert 2000 < memory.fitting_context(made, "bf16", 3000 * each, 8192) <= 3000
    assert memory.fitting_context(made, "bf16", 0, 8192) == 0
    for room in range(0, 8192 * each, 777_777):  # one after the other, the longest first
        lengths = (8192 - 1, *range(8192 - 256, 0, -256))
        wanted = next((tokens for tokens in lengths if memory.cache_bytes(made, tokens, 1, "bf16") <= room), 0)
        assert memory.fitting_context(made, "bf16", room, 8192 - 1) == wanted


def test_what_a_step_of_training_keeps_grows_with_tokens_and_vocabulary() -> None:
    small = architecture({**GEMMA_2B, **SMALL}).config
    # by hand: 4 layers of 12 x 256 + 4 x 768 + 4 x 256 + 3 x 4 x 512, and three logits
    assert memory.activation_floats(small, 512) == 4 * (3072 + 3072 + 1024 + 6144) + 3 * 4096


def test_as_many_full_contexts_as_fit_and_at_least_one() -> None:
    made, _ = imagined(GEMMA_2B)
    rooms = [memory.cache_bytes(made, 4096, users, "bf16") for users in (1, 4, 5)]
    assert memory.fitting_users(made, 4096, "bf16", 0) == 1
    assert memory.fitting_users(made, 4096, "bf16", rooms[2]) == 5
    assert memory.fitting_users(made, 4096, "bf16", rooms[2] - 1) == 4
    assert memory.fitting_users(made, 4096, "bf16", 1000 * rooms[0]) == memory.OUTPUTS
