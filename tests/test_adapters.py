"""A model with LoRA adapters: peft's logits, each sequence its own, and nothing shared between them."""

import threading
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.cli import main

from .models.official import CONFIGS, IDS, folder_of
from .packing.test_adapters import adapted

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

WORDS = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": True, "temperature": 1.5, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama with two adapters, `a` and `b`."""
    folder = folder_of(tmp_path_factory.mktemp("adapters"), CONFIGS["llama"])
    for name, options in (("a", {}), ("b", {"r": 7, "target_modules": ["q_proj", "v_proj", "down_proj"]})):
        adapted(folder, "llama", **options)
        (folder / "adapter").rename(folder / name)
    return folder


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_logits_are_those_of_peft(
    tmp_path: Path, family: str, reference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reference:
        monkeypatch.setenv("SOBAN_OPS", "reference")
    folder = folder_of(tmp_path, CONFIGS[family])
    judge = adapted(folder, family)
    with torch.no_grad():
        single = judge(torch.tensor([IDS])).logits[0].numpy().astype(np.float64)
        wanted = judge.double()(torch.tensor([IDS])).logits[0].numpy()
    bare = soban.load(folder, dtype="f32")
    model = bare.adapted(folder / "adapter")
    tolerance = 1e-5 + 8 * np.abs(single - wanted).max()
    assert np.abs(model.logits(IDS) - wanted).max() < tolerance < np.abs(bare.logits(IDS) - wanted).max() / 10
    assert "with 'adapter'" in repr(model) and "with" not in repr(bare)


@pytest.mark.parametrize("dtype", ["f32", "q8", "q4"])
def test_texts_beside_each_other_are_those_of_each_alone(folder: Path, dtype: str) -> None:
    def models() -> list[soban.Model]:
        bare = soban.load(folder, dtype=dtype)
        return [bare, bare.adapted(folder / "a"), bare.adapted(folder / "b"), bare.adapted(folder / "a")]

    alone = [models()[i].generate("abc", **WORDS) for i in range(3)]
    assert len(set(map(str, alone))) == 3
    together, texts = models(), [""] * 12

    def write(i: int) -> None:
        texts[i] = together[i % 4].generate("abc", **WORDS)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [alone[0], alone[1], alone[2], alone[1]] * 3


def test_what_the_cache_has_of_one_adapter_is_never_taken_for_another(folder: Path) -> None:
    prompt = "abcdefgh" * 6  # more than a block
    bare = soban.load(folder, dtype="f32")
    views = [bare, bare.adapted(folder / "a"), bare.adapted(folder / "b")]
    fresh = [soban.load(folder, dtype="f32", adapter=name and folder / name) for name in (None, "a", "b")]
    wanted = [model.generate(prompt, max_new_tokens=8, temperature=0) for model in fresh]
    for i in (0, 1, 2, 1, 0, 2):
        generation = views[i].start(prompt, max_new_tokens=8, temperature=0)
        assert generation.read() == wanted[i]
    again = views[2].start(prompt, max_new_tokens=8, temperature=0)
    assert again.read() == wanted[2] and again.figures.reused_tokens > 0


def test_the_command_takes_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dtype", "f32", "--greedy", "--max-new-tokens", "8", "-q"]
    texts = []
    for more in ([], ["--adapter", str(folder / "a")]):
        assert main(["run", str(folder), "abc", *flags, *more]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1]
    assert texts[1].rstrip("\n") == soban.load(folder, dtype="f32", adapter=folder / "a").generate(
        "abc", max_new_tokens=8, do_sample=False
    ).rstrip("\n")
    assert main(["run", str(folder), "abc", "--adapter", str(folder)]) == 2
    assert "no adapter_config.json" in capsys.readouterr().err
