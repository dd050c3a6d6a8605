"""The way to the bundled model: its corpus, data with conversations, and a folder that goes on and answers."""

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import soban
from soban.learn import synthetic
from soban.learn.data.cleaning import Cleaning
from soban.learn.data.prepare import Preparation, prepare
from soban.learn.data.reading import Reading
from soban.loading.loaded import BUNDLED
from tests.scripts import FOLDER, script

QUESTION = [{"role": "user", "content": "이야기 하나 해 줘."}]


def corpus(out: Path, *words: str) -> Path:
    counts = ["--stories", "80", "--conversations", "40", "--small-talk", "40"]
    subprocess.run(
        [sys.executable, str(FOLDER / "make_corpus.py"), str(out), *counts, *words], check=True, capture_output=True
    )
    return out


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as training leaves it, with random weights, beside the tokenizer of the data."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("trained")
    wanted = Preparation(
        (str(texts),), folder / "data", Reading(conversations=True), Cleaning(similarity=2), vocab_size=1000,
        template="llama2",
    )  # fmt: skip
    prepare(wanted)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.max_new_tokens = 8
    model.save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((folder / "data" / name).read_bytes())
    return folder / "model"


def test_the_corpus_is_the_same_for_a_seed_and_holds_nothing_twice(texts: Path, tmp_path: Path) -> None:
    again, other = corpus(tmp_path / "again"), corpus(tmp_path / "other", "--seed", "1")
    for language in ("en", "ko"):
        for kind, count, field in (
            ("stories", 40, "text"),
            ("conversations", 20, "messages"),
            ("small_talk", 20, "messages"),
        ):
            data = (texts / f"{kind}.{language}.jsonl").read_bytes()
            rows = data.decode().splitlines()
            assert len(rows) == len(set(rows)) == count and all(json.loads(row)[field] for row in rows)
            assert (again / f"{kind}.{language}.jsonl").read_bytes() == data
            assert (other / f"{kind}.{language}.jsonl").read_bytes() != data


def test_long_conversations_are_cut_after_an_answer() -> None:
    make = script("make_corpus")
    for letter, most in (("x", make.MOST_CHARACTERS["en"]), ("가", make.MOST_CHARACTERS["ko"])):
        turns = [{"role": ("user", "assistant")[n % 2], "content": letter * 100} for n in range(8)]
        lengths = [len(make.shortened(turns, characters / most)) for characters in (100, 230, 400, 460, 10_000)]
        assert lengths == [0, 2, 2, 4, 8]


def test_a_bundle_takes_the_place_of_another_and_of_nothing_else(trained: Path, tmp_path: Path) -> None:
    bundle = script("bundle").bundle
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"mine\.txt"):
        bundle(trained, tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    bundle(trained, tmp_path / "bundled")
    first = {path.name: path.read_bytes() for path in (tmp_path / "bundled").iterdir()}
    bundle(trained, tmp_path / "bundled")
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundled").iterdir()} == first
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "bundled"}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return file.metadata()


def test_the_weights_say_under_what_licence_they_are_and_nothing_of_the_machine(trained: Path, tmp_path: Path) -> None:
    script("bundle").bundle(trained, tmp_path / "bundled")
    about = metadata(tmp_path / "bundled" / "model.safetensors")
    assert about["license"] == "Apache-2.0"
    for path in (tmp_path / "bundled").iterdir():
        assert str(trained).encode() not in path.read_bytes() and b"/tmp" not in path.read_bytes(), path
    assert soban.load(tmp_path / "bundled").generate("One day", max_new_tokens=2)


def test_the_model_in_the_package_says_so_too() -> None:
    about = metadata(BUNDLED / "model.safetensors")
    assert about["license"] == "Apache-2.0" and "soban.origin" not in about


def test_the_longest_copied_run_is_found_wherever_it_stands() -> None:
    texts = list(islice(synthetic.stories(0, "en"), 60))
    corpus = script("judge_stories").Corpus(texts)

    def longest(words: list[str]) -> int:
        """By trying every run."""
        whole = " # ".join(" ".join(text.split()) for text in texts)
        runs = [(i, j) for i in range(len(words)) for j in range(i + 5, len(words) + 1)]
        return max((j - i for i, j in runs if f" {' '.join(words[i:j])} " in f" {whole} "), default=0)

    for text in texts[:3]:
        assert corpus.longest_run(["Whoever", *text.split()]) == len(text.split())
    for text in islice(synthetic.stories(1, "en"), 8):
        assert corpus.longest_run(text.split()) == longest(text.split())
    assert corpus.longest_run(["a", "b", "c", "d", "e", "f"]) == 0
    words = corpus.babble(random.Random(0))
    assert corpus.longest_run(words) >= 5 and " ".join(words[:5]) in {" ".join(text.split()[:5]) for text in texts}


def test_the_bundled_model_goes_on_in_run_and_answers_in_chat(trained: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    script("bundle").bundle(trained, tmp_path / "bundled")
    model = soban.load(tmp_path / "bundled")
    theirs = AutoTokenizer.from_pretrained(trained)
    assert model.prompt_ids("옛날 옛적에") == theirs("옛날 옛적에")["input_ids"]
    assert str(model.generate("옛날 옛적에", max_new_tokens=4, seed=1)).startswith("옛날 옛적에")
    prompt = model.start_chat(QUESTION).sequences[0].tokens
    assert prompt == theirs.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert model.detokenize(prompt).strip() == "[INST] 이야기 하나 해 줘. [/INST]"


def test_transformers_loads_the_trained_folder_and_talks_by_the_same_ids(trained: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs: Any = AutoModelForCausalLM.from_pretrained(trained)
    tokenizer: Any = AutoTokenizer.from_pretrained(trained)
    ids = tokenizer.apply_chat_template(QUESTION, return_dict=False)
    ours = soban.load(trained, dtype="f32")
    assert ids == ours.prompt_ids(QUESTION[0]["content"])
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0].numpy()
    assert abs(ours.logits(ids) - wanted).max() < 1e-4
