"""What the tests of text share: strings that tokenizers get wrong, and small tokenizers made on the spot."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EMOJI = ["👩‍👩‍👧‍👦", "🇰🇷", "👍🏽", "🏳️‍🌈", "1️⃣", "❤️", "🧑🏿‍🚀"]
STRINGS = [
    "", " ", "  ", "\n", "\n\n", "\t\t", "a", " a", "a ", "Hello world", " Hello  world ", "안녕하세요", "옛날 옛적에",
    "각", "é é ﬁ ① ㈜", "\u3000ideographic\u00a0space", "▁", "▁a▁", "<s>", "</s>", "<unk>", "<0x41>", "\x00", "a\x00b",
    "\u200d", "<0x0A>",
    "def f(x):\n    return x\n", "3.14159 1234567", "====", "ÀÉÎ", "中文字", *EMOJI,
]  # fmt: skip


def _random_strings(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    alphabet = "abc  ▁\n\t<>s/안녕각ㄱ😀👨‍👩é\u3000\u00a0①ﬁ\x00==.,0x1"
    return ["".join(chance.choices(alphabet, k=chance.randrange(40))) for _ in range(count)]


@pytest.fixture(scope="session")
def strings() -> list[str]:
    """Hand-picked and random strings, and runs of one character."""
    runs = [character * count for character in "a =-0한▁\n" for count in (2, 3, 5, 7, 8, 17, 33)]
    return STRINGS + runs + _random_strings(seed=5, count=600)


MARKUP = [
    "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|turn>",
    "<turn|>", "<|channel>", "<channel|>", "<tool_call>", "</tool_call>",
]  # fmt: skip


@pytest.fixture(scope="session")
def markup_texts() -> list[str]:
    """The markup tokens of the tokenizers that `byte_level` makes."""
    return MARKUP


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with a small byte-level tokenizer: half of its markup tokens special, half only added."""
    tokenizers = pytest.importorskip("tokenizers")

    def make(**settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("tokenizer")
        library = tokenizers.Tokenizer(tokenizers.models.BPE())
        library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>", "</s>"],
            show_progress=False,
        )
        library.train_from_iterator(["the quick brown fox jumps over the lazy dog, 안녕하세요 안녕 " * 3], trainer)
        added = [
            tokenizers.AddedToken(content, special=n % 2 == 0, normalized=False) for n, content in enumerate(MARKUP)
        ]
        library.add_tokens(added)
        library.add_tokens([tokenizers.AddedToken("\n\n", special=False, normalized=False)])
        library.save(str(folder / "tokenizer.json"))
        config = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast", **settings}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make
