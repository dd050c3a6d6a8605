"""llama2.c's .bin files: written here from the description of export.py, read back by name; lying headers refused."""

import struct
from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.weights.checkpoint import finite_check
from soban.weights.llama2c import open_bin
from soban.weights.opening import open_checkpoint

MAGIC = 0x616B3432
DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY, CONTEXT, GROUP = 16, 24, 3, 4, 2, 11, 6, 8
KV = DIM // HEADS * KV_HEADS
LAYER = "layers.{}."
ATTENTION = [LAYER + f"attention.w{letter}.weight" for letter in "qkvo"]
MLP = [LAYER + f"feed_forward.w{part}.weight" for part in (1, 2, 3)]
NORMS = [LAYER + "attention_norm.weight", LAYER + "ffn_norm.weight"]


def model(seed: int, tied: bool) -> dict[str, np.ndarray]:
    """A small random model under the names of llama2.c's model.py."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (VOCABULARY, DIM), "norm.weight": (DIM,)}
    for i in range(LAYERS):
        shapes |= {name.format(i): (DIM,) for name in NORMS}
        sizes = [(DIM, DIM), (KV, DIM), (KV, DIM), (DIM, DIM), (HIDDEN, DIM), (DIM, HIDDEN), (HIDDEN, DIM)]
        shapes |= {name.format(i): size for name, size in zip(ATTENTION + MLP, sizes, strict=True)}
    if not tied:
        shapes["output.weight"] = (VOCABULARY, DIM)
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def all_layers(*names: str) -> list[str]:
    """Each name for all layers before the next."""
    return [name.format(i) for name in names for i in range(LAYERS)]


def quantised(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and one scale per group, the largest of a group at 127."""
    groups = array.reshape(-1, GROUP)
    scales = np.abs(groups).max(1) / np.float32(127)
    return np.round(groups / scales[:, None]).astype(np.int8), scales


def header(version: int, tied: bool, /, **changes: int) -> bytes:
    numbers = {"dim": DIM, "hidden_dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": KV_HEADS}
    numbers |= {"vocab_size": VOCABULARY, "max_seq_len": CONTEXT, "magic": MAGIC, "version": version, "shared": tied}
    numbers |= {"group_size": GROUP} | changes
    seven = struct.pack("<7i", *list(numbers.values())[:7])
    if version == 0:
        return seven
    flags = struct.pack("<Bi", numbers["shared"], numbers["group_size"] if version == 2 else 0)
    return (struct.pack("<Ii", numbers["magic"], numbers["version"]) + seven + flags).ljust(256, b"\0")


def written(version: int, tied: bool, seed: int = 1) -> bytes:
    """A whole file."""
    w = model(seed, tied)
    head = [] if tied else ["output.weight"]
    if version == 0:
        order = ["tok_embeddings.weight", *all_layers(NORMS[0], *ATTENTION, NORMS[1], *MLP), "norm.weight"]
        rotations = np.full((CONTEXT, DIM // HEADS), 9, np.float32)  # both tables
        parts = [w[name] for name in order] + [rotations] + [w[name] for name in head]
        return header(0, tied, vocab_size=VOCABULARY if tied else -VOCABULARY) + b"".join(
            map(np.ndarray.tobytes, parts)
        )
    norms = [*all_layers(*NORMS), "norm.weight"]
    order = ["tok_embeddings.weight", *all_layers(*ATTENTION, *MLP), *head]
    content = header(version, tied) + b"".join(w[name].tobytes() for name in norms)
    for name in order:
        content += w[name].tobytes() if version == 1 else b"".join(map(np.ndarray.tobytes, quantised(w[name])))
    return content


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_tensor_is_found_under_its_name(tmp_path: Path, version: int, tied: bool) -> None:
    path = tmp_path / "작은 모델.bin"
    path.write_bytes(written(version, tied))
    checkpoint = open_checkpoint(path)
    expected = model(1, tied)
    assert checkpoint.tensors.keys() == expected.keys() and checkpoint.files == (path,) and checkpoint.interleaved
    for name, array in expected.items():
        tensor = checkpoint.tensors[name]
        assert tensor.shape == array.shape and tensor.name == name and not tensor.data.flags.writeable
        finite_check(tensor)
        if version == 2 and array.ndim == 2:
            integers, scales = quantised(array)
            assert tensor.format == "i8g" and tensor.group == GROUP and tensor.scales is not None
            np.testing.assert_array_equal(tensor.data, integers.reshape(array.shape))
            array = (integers * scales[:, None]).reshape(array.shape)
            # Half a step of the coarsest group, and the rounding of the product.
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=scales.max() * (0.5 + 127 * 2**-23))
        np.testing.assert_array_equal(tensor.float32(), array)
        np.testing.assert_array_equal(tensor.float32(2, 5), array[2:5])


def test_the_header_becomes_a_configuration_in_hugging_face_s_keys(tmp_path: Path) -> None:
    for version, tied in ((0, False), (1, True), (2, False)):
        (tmp_path / "x.bin").write_bytes(written(version, tied))
        config = open_bin(tmp_path / "x.bin").config
        transformers_keys = {
            "model_type": "llama", "hidden_size": DIM, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip
        assert config == transformers_keys


def refusal(path: Path, content: bytes) -> str:
    """The one line with which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_file_of_another_length_is_refused_with_both_lengths(tmp_path: Path, version: int) -> None:
    content = written(version, tied=True)
    for held in (content[:-1], content + b"\0", content[: len(content) // 2], content + content):
        message = refusal(tmp_path / "x.bin", held)
        assert f"promises {len(content)} bytes; the file holds {len(held)}" in message


@pytest.mark.parametrize("held", [1, 7, 27])
def test_less_than_a_header_is_refused(tmp_path: Path, held: int) -> None:
    assert f"{held} bytes; the header" in refusal(tmp_path / "x.bin", written(0, tied=True)[:held])
    assert "the file is empty" in refusal(tmp_path / "x.bin", b"")
    assert "200 bytes; the header of a llama2.c .bin alone has 256" in refusal(
        tmp_path / "x.bin", written(1, True)[:200]
    )


LIES = {
    "dim": [0, -16, 15, 2**31 - 1, 4],
    "hidden_dim": [0, -1, 25, 2**31 - 1],
    "n_layers": [0, -1, 4, 2**31 - 1],
    "n_heads": [0, -4, 3, 16],
    "n_kv_heads": [0, -2, 3, 8],
    "vocab_size": [0, 12, 2**31 - 1, -(2**31)],
    "max_seq_len": [0, -1, 2**31 - 1],
    "version": [-1, 0, 3, 2**31 - 1],
    "shared": [2, 255],
    "group_size": [0, -8, 3, 16, 2**31 - 1],
}


FIRST_VERSION = {"version": 1, "shared": 1, "group_size": 2}  # whose header has this number


@pytest.mark.parametrize(("number", "version"), [(n, v) for n in LIES for v in range(FIRST_VERSION.get(n, 0), 3)])
def test_a_lying_header_is_refused(tmp_path: Path, number: str, version: int) -> None:
    content = written(version, tied=True)
    for lie in LIES[number]:
        lying = header(version, True, **{number: lie})
        refusal(tmp_path / "x.bin", lying + content[len(lying) :])


def test_the_figures_of_a_lie_are_told(tmp_path: Path) -> None:
    rest = written(2, tied=True)[256:]
    path = tmp_path / "x.bin"
    assert "n_layers = -3; it has to be above 0" in refusal(path, header(2, True, n_layers=-3) + rest)
    assert "dim = 16, which is no multiple of 2 * n_heads = 6" in refusal(path, header(2, True, n_heads=3) + rest)
    assert "n_heads = 4, which is no multiple of n_kv_heads = 3" in refusal(path, header(2, True, n_kv_heads=3) + rest)
    assert "hidden_dim = 24, which is no multiple of group_size = 16" in refusal(
        path, header(2, True, group_size=16) + rest
    )
    assert "version 7; this reads 0, 1 and 2" in refusal(path, header(2, True, version=7) + rest)
    assert "max_seq_len = 2147483647; this reads up to 1048576" in refusal(
        path, header(2, True, max_seq_len=2**31 - 1) + rest
    )


def is_refused(path: Path) -> bool:
    """Whether a file is refused, and not for example a cause of IndexError. Nothing stays mapped."""
    try:
        for tensor in open_checkpoint(path).tensors.values():
            tensor.float32()
    except UserError as error:
        assert "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("version", [0, 1, 2])
def test_damage_at_random_never_raises_anything_but_a_user_error(tmp_path: Path, version: int) -> None:
    random = np.random.default_rng(13)
    content = written(version, tied=False)
    path = tmp_path / "x.bin"
    refused = 0
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(28 if version == 0 else 41)] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(damaged))] if random.random() < 0.2 else damaged)
        refused += is_refused(path)
    assert refused > 800


def test_a_not_finite_scale_is_named_with_the_weight_it_belongs_to(tmp_path: Path) -> None:
    content = bytearray(written(2, tied=True))
    norms = (2 * LAYERS + 1) * DIM * 4
    scale = 256 + norms + VOCABULARY * DIM + 4 * (5 * (DIM // GROUP) + 1)  # row 5, second group
    content[scale : scale + 4] = struct.pack("<f", np.inf)
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(UserError, match=rf"'tok_embeddings.weight' holds inf at \[5, {GROUP}\]"):
        finite_check(open_bin(tmp_path / "x.bin").tensors["tok_embeddings.weight"])


def test_other_kinds_of_bin_are_told_apart_by_their_content(tmp_path: Path) -> None:
    pickle_hint = "never read; convert it once"
    assert pickle_hint in refusal(tmp_path / "model.bin", b"PK\x03\x04" + bytes(100))
    assert pickle_hint in refusal(tmp_path / "old.bin", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    assert pickle_hint in refusal(tmp_path / "pytorch_model.bin", bytes(100))
    assert pickle_hint in refusal(tmp_path / "model.pt", bytes(100))
    assert "version 0 of GGUF" in refusal(tmp_path / "model.bin", b"GGUF" + bytes(100))
    assert "not a model file that this reads" in refusal(tmp_path / "notes.txt", b"once upon a time")
    # A width of 640 begins with the two bytes of a pickle of protocol 2, and is none.
    assert "llama2.c" in refusal(tmp_path / "wide.bin", header(0, True, dim=640))


def test_paths_that_name_nothing_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "없는 것", tmp_path / "a\0b", tmp_path / ("x" * 5000)):
        with pytest.raises(UserError):
            open_checkpoint(path)


def test_a_trained_model_of_llama2c_is_opened(fixtures: Path) -> None:
    checkpoint = open_checkpoint(fixtures / "models" / "stories260K" / "stories260K.bin")
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    assert len(shapes) == 2 + 9 * 5
    assert shapes["tok_embeddings.weight"] == (512, 64) and shapes["norm.weight"] == (64,)
    assert shapes["layers.4.attention.wv.weight"] == (32, 64)
    assert shapes["layers.4.feed_forward.w2.weight"] == (64, 172)
    # Of a trained model, norms lie around 1 and matrices around 0: a wrong offset would mix them.
    for name, tensor in checkpoint.tensors.items():
        finite_check(tensor)
        mean = float(tensor.float32().mean())
        assert 0.3 < mean < 10 if "norm" in name else abs(mean) < 0.05, name
