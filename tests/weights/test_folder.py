"""Hugging Face folders: one file or shards, each tensor where the index says, and one line for what is wrong."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.weights.naming import unlisted
from soban.weights.opening import open_checkpoint

library = pytest.importorskip("safetensors.numpy")
INDEX = "model.safetensors.index.json"


def single(folder: Path) -> Path:
    """A folder with one file of weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    library.save_file({"a": np.ones((4, 4), np.float32), "b": np.zeros(3, np.float32)}, folder / "model.safetensors")
    return folder


def sharded(folder: Path) -> Path:
    """A folder with two shards and their index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    shards = {"model-00001-of-00002.safetensors": ("a", "b"), "model-00002-of-00002.safetensors": ("c",)}
    weight_map = {}
    for number, (shard, names) in enumerate(shards.items()):
        library.save_file({name: np.full((2, 3), number, np.float32) for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder


def remap(folder: Path, **changes: object) -> None:
    """Change entries of the index; None takes one out."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index["weight_map"] |= changes
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard is not None}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def refusal(path: Path) -> str:
    """The one line with which a path is refused."""
    with pytest.raises(UserError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_with_a_korean_name_and_spaces_is_opened(tmp_path: Path) -> None:
    folder = single(tmp_path / "내 모델 둘")
    (folder / "generation_config.json").write_text('\ufeff{"temperature": 0.7}', encoding="utf-8")  # as Notepad saves
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == {"model_type": "llama"} and checkpoint.generation_config == {"temperature": 0.7}
    assert checkpoint.tensors.keys() == {"a", "b"}
    assert checkpoint.files == (folder / "config.json", folder / "model.safetensors")


def test_shards_are_opened_as_one(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    for path in (folder, folder / "model-00002-of-00002.safetensors"):  # a shard's path means its whole folder
        checkpoint = open_checkpoint(path)
        assert {name: tensor.data[0, 0] for name, tensor in checkpoint.tensors.items()} == {"a": 0, "b": 0, "c": 1}
        assert {file.name for file in checkpoint.files} == {file.name for file in folder.iterdir()}
        assert checkpoint.generation_config == {}


def test_a_tensor_that_save_model_left_out_as_shared_is_there_under_both_names(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    folder = single(tmp_path / "model")
    save_model(model, str(folder / "model.safetensors"))
    assert len(library.load_file(folder / "model.safetensors")) == 1
    tensors = open_checkpoint(folder).tensors
    assert {name: tensor.name for name, tensor in tensors.items()} == {name: name for name in model.state_dict()}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.float32(), model.state_dict()[name].numpy())


def test_one_safetensors_file_is_opened_with_the_config_beside_it(tmp_path: Path) -> None:
    folder = single(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert open_checkpoint(folder / "other.safetensors").tensors.keys() == {"a", "b"}
    (folder / "model.safetensors").write_bytes((folder / "other.safetensors").read_bytes())
    assert open_checkpoint(folder / "other.safetensors").path == folder / "other.safetensors"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_links_as_in_hugging_face_s_cache_are_followed(tmp_path: Path) -> None:
    folder = single(tmp_path / "snapshots" / "c0ffee")
    (tmp_path / "blobs").mkdir()
    for file in list(folder.iterdir()):
        file.rename(tmp_path / "blobs" / file.name)
        file.symlink_to(Path("..") / ".." / "blobs" / file.name)
    assert open_checkpoint(folder).tensors.keys() == {"a", "b"}


@pytest.mark.parametrize(
    "shard",
    ["../../x", "../../x.safetensors", "/etc/x.safetensors", "C:\\x.safetensors", "a/b.safetensors", "..", "", 5, None],
)
def test_an_index_cannot_name_anything_outside_the_folder(tmp_path: Path, shard: object) -> None:
    folder = sharded(tmp_path / "deep" / "model")
    library.save_file({"c": np.ones(1, np.float32)}, tmp_path / "x.safetensors")
    index = {"weight_map": {"c": shard}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    message = refusal(folder)
    assert repr(shard) in message and "only .safetensors files in this folder" in message


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": null}'])
def test_an_index_without_a_weight_map_is_refused(tmp_path: Path, text: str) -> None:
    folder = sharded(tmp_path / "model")
    (folder / INDEX).write_text(text, encoding="utf-8")
    assert "weight_map is" in refusal(folder)


def test_each_shard_says_itself_what_is_in_it_whatever_the_index_says(tmp_path: Path) -> None:
    moved, short, long = (sharded(tmp_path / name) for name in ("moved", "short", "long"))
    remap(moved, b="model-00002-of-00002.safetensors")
    remap(short, b=None)
    remap(long, d="model-00002-of-00002.safetensors")
    for folder in (moved, short, long):
        tensors = open_checkpoint(folder).tensors
        assert {name: tensor.data[0, 0] for name, tensor in tensors.items()} == {"a": 0, "b": 0, "c": 1}
    twice = sharded(tmp_path / "twice")
    library.save_file({"a": np.full((2, 3), 7, np.float32)}, twice / "model-00002-of-00002.safetensors")
    assert open_checkpoint(twice).tensors["a"].data[0, 0] == 7  # the last shard's, as in transformers


PARTS = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["model-00001-of-00001.safetensors"], True), (["weights.safetensors"], True), (PARTS, True),
        (["pytorch_model.safetensors", "consolidated.safetensors"], True), (PARTS[:2], False), (PARTS[1:], False),
        (["a.safetensors", "b.safetensors"], False), ([*PARTS, "a.safetensors"], False), (PARTS[:1], False),
        (["consolidated.safetensors"], False), (["adapter_model.safetensors"], False), ([".hidden.safetensors"], False),
    ],
)  # fmt: skip
def test_without_an_index_the_only_weights_are_taken_by_any_name(tmp_path: Path, names: list[str], taken: bool) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for number, name in enumerate(names):
        library.save_file({f"t{number}": np.ones(2, np.float32)}, tmp_path / name)
    assert unlisted(names) == (names if "consolidated.safetensors" not in names else names[:1]) * taken
    if not taken:
        assert "no model.safetensors" in refusal(tmp_path)
        return
    wanted = open_checkpoint(tmp_path).tensors.keys()
    assert wanted == {f"t{number}" for number, name in enumerate(names) if name in unlisted(names)}
    assert open_checkpoint(tmp_path / names[0]).tensors.keys() == wanted  # a part's path means its whole folder


def test_config_json_may_name_the_file_of_the_weights(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    library.save_file({"x": np.ones(2, np.float32)}, folder / "other.safetensors")
    (folder / INDEX).rename(folder / "second.safetensors.index.json")
    for name, tensors in (("other.safetensors", "x"), ("second.safetensors.index.json", "abc")):
        (folder / "config.json").write_text(json.dumps({"transformers_weights": name}), encoding="utf-8")
        assert open_checkpoint(folder).tensors.keys() == set(tensors)
    for name in ("../x.safetensors", "model.bin", 5, ""):
        (folder / "config.json").write_text(json.dumps({"transformers_weights": name}), encoding="utf-8")
        assert "only .safetensors files in this folder" in refusal(folder)
    (folder / "config.json").write_text('{"transformers_weights": "gone.safetensors"}', encoding="utf-8")
    assert "gone.safetensors: no such file" in refusal(folder)


def test_a_missing_or_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    shard = folder / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-4])
    assert f"{shard}: the header promises 24 bytes of tensors; the file holds 20" in refusal(folder)
    shard.unlink()
    assert f"{shard}: no such file" in refusal(folder)


CONFIGS = {
    "": "the file is empty",
    "{": "not a valid JSON object",
    "[1]": "it holds [1]",
    "5": "it holds 5",
    '{"eps": NaN}': "NaN",
    '{"eps": -Infinity}': "-Infinity",
    '{"a": 1, "a": 2}': "'a' stands twice",
    "[" * 100_000: "nested too deeply",
}


@pytest.mark.parametrize("text", CONFIGS, ids=[text[:12] for text in CONFIGS])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_bad_configuration_is_refused(tmp_path: Path, text: str, name: str) -> None:
    folder = single(tmp_path / "model")
    (folder / name).write_text(text, encoding="utf-8")
    message = refusal(folder)
    assert str(folder / name) in message and CONFIGS[text] in message


def test_a_configuration_in_another_encoding_is_refused(tmp_path: Path) -> None:
    folder = single(tmp_path / "model")
    (folder / "config.json").write_bytes('{"이름": 1}'.encode("cp949"))
    assert "byte 2 is not UTF-8" in refusal(folder)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def only(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        for name in names:
            (folder / name).write_bytes(b"GGUF")

    return change


def as_folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


FOLDERS: list[tuple[str, Callable[[Path], None]]] = [
    ("no config.json", without("config.json")),
    ("no model.safetensors in this folder", without("model.safetensors")),
    ("the folder is empty", only()),
    ("never read; convert it once", only("config.json", "pytorch_model.bin")),
    ("never read; convert it once", only("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json")),
    ("never read; convert it once", only("config.json", "consolidated.00.pth")),
    ("not a whole GGUF file", only("config.json", "model-Q4_K_M.gguf")),
    ("an adapter, not a whole model", only("adapter_config.json", "adapter_model.safetensors")),
    ("but stories.bin, tokenizer.bin", only("stories.bin", "tokenizer.bin")),
    ("a folder, where a file is expected", as_folder("model.safetensors")),
    ("a folder, where a file is expected", as_folder("config.json")),
    ("the file is empty", emptied),
]


@pytest.mark.parametrize(("expected", "change"), FOLDERS, ids=range(len(FOLDERS)))
def test_a_folder_without_a_readable_model_is_refused_with_the_reason(
    tmp_path: Path, expected: str, change: Callable[[Path], None]
) -> None:
    folder = single(tmp_path / "model")
    change(folder)
    message = refusal(folder)
    assert expected in message and str(folder) in message


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:  # file modes do not stop root, so the system's answer is played
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    (tmp_path / "model").mkdir()
    assert "cannot be read: permission denied" in refusal(tmp_path / "model")


def test_damage_at_random_to_an_index_never_raises_anything_but_a_user_error(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    folder = sharded(tmp_path / "model")
    content = (folder / INDEX).read_bytes()
    refused = 0
    for _ in range(1000):
        damaged = bytearray(content)
        damaged[random.integers(len(damaged))] = random.integers(256)
        (folder / INDEX).write_bytes(damaged[: random.integers(len(damaged))] if random.random() < 0.2 else damaged)
        try:
            assert open_checkpoint(folder).tensors.keys() == {"a", "b", "c"}
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 500


def test_a_trained_model_of_hugging_face_is_opened(fixtures: Path) -> None:
    checkpoint = open_checkpoint(fixtures / "models" / "TinyStories-656K")
    expected = library.load_file(fixtures / "models" / "TinyStories-656K" / "model.safetensors")
    expected["model.embed_tokens.weight"] = expected["lm_head.weight"]  # tied, and stored once
    assert checkpoint.tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(checkpoint.tensors[name].float32(), array)
    assert checkpoint.tensors["model.layers.1.self_attn.k_proj.weight"].shape == (64, 128)
    assert checkpoint.config["num_key_value_heads"] == 4 and checkpoint.generation_config["eos_token_id"] == 2
