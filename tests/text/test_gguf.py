"""Tokenizers of GGUF files: ids of llama.cpp's own tests, of sentencepiece, and of the tokenizers library."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from soban.base.errors import UserError
from soban.text.tokenizers.gguf import gguf_tokenizer
from soban.text.tokenizers.gguf_vocabulary import GgufVocabulary
from soban.weights.gguf.opening import special_ids
from soban.weights.gguf.reading import read_gguf

TEXTS = (
    "Once upon a time, there was a fox. It's 12345 o'clock; we'll see! The BIG iPhone's camelCase HTTPServer\n",
    "옛날 옛적에 여우가 살았습니다. 대한민국의 수도는 서울이에요! 안녕하세요, 반갑습니다.\n\n",
    "def f(x):\n    return x**2 + 3.14  # comment\n\tif (a != b) { return `c`; }\r\n",
    "naïve café ﬁ Ⅷ ½ ١٢٣ 你好，世界。こんにちは カタカナ Привет мир 🦙🚀👨\u200d👩\u200d👧 "
    "e\u0301 ㅋㅋㅋ 각 \u200b ﾊ\u3000x ſ'S'LL\n",
)
PIECES = [
    *"aZ9 \n\t'.,!?-_/(){}<>|$`", "  ", "    ", "\r\n", "'s", "'LL", "12", "123", "①", "가", "힣", "ᄀ", "각", "é",
    "e\u0301", "中", "あ", "ж", "ا", "١", "🦙", "👍🏽", "\u200d", "\u3000", "\x00", "\x85", "<|end|>", "<s>", "the",
    " the", "The", " foxglove",
]  # fmt: skip


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Strings of Korean, emoji, code, and whatever is rare, alone and between words."""
    dice = random.Random(seed)
    words = [word for text in TEXTS for word in text.split(" ")]

    def one() -> str:
        parts = [
            dice.choice(PIECES) if dice.random() < 0.5 else dice.choice(words) for _ in range(dice.randrange(1, 14))
        ]
        if dice.random() < 0.2:
            parts.append(chr(dice.choice((dice.randrange(32, 0xD800), dice.randrange(0xE000, 0x30000)))))
        return dice.choice(("", " ")).join(parts)

    return [one() for _ in range(count)]


def vocabulary(path: Path) -> GgufVocabulary:
    keys = read_gguf(path).keys
    return GgufVocabulary(path, keys, special_ids(path, keys, len(keys["tokenizer.ggml.tokens"])))


def write(path: Path, model: str, tokens: list[str], types: list[int] | None = None, **more: Any) -> Any:
    """A GGUF file that holds a vocabulary alone."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    if types is not None:
        writer.add_token_types(types)
    for name, value in more.items():
        key = f"tokenizer.ggml.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return gguf_tokenizer(vocabulary(path))


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_every_string_of_llama_cpps_own_tests_has_its_ids(fixtures: Path, name: str) -> None:
    path = fixtures / "gguf_vocab" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(index) for index in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
    tokenizer = gguf_tokenizer(vocabulary(path))
    assert len(texts) == len(expected) > 40
    assert [tokenizer.encode(text, bos=False) for text in texts] == expected
    for text, ids in zip(texts, expected, strict=True):
        assert tokenizer.decode(ids) == text or name == "llama-spm"


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """A small byte-level vocabulary."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def transformers_split(name: str) -> Any:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[name]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def digits() -> Any:
    """What SmolLM, StarCoder and EXAONE 3.5 have in their tokenizer.json."""
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return pre_tokenizers.Sequence(parts)


CLASSIC: Callable[[], Any] = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False)  # noqa: E731
# Groups, one or two names of each, and who says how they cut.
JUDGES: dict[str, Callable[[], Any]] = {
    **{name: CLASSIC for name in ("gpt-2", "exaone4", "a.x-4.0", "trillion")},
    **{name: digits for name in ("smollm", "exaone", "starcoder")},
    **{
        name: lambda name=name: transformers_split(name)
        for name in (
            "llama-bpe", "llama3", "midm-2.0", "lfm2", "qwen2", "kormo", "qwen35", "gpt-4o", "kanana2", "tekken",
        )
    },
}  # fmt: skip


def with_added(trained: Tokenizer) -> tuple[list[str], list[int], list[str]]:
    """Tokens and types of the vocabulary with two more, and its merges."""
    import json

    told = json.loads(trained.to_str())["model"]
    tokens = sorted(told["vocab"], key=told["vocab"].get)
    merges = [" ".join(pair) for pair in told["merges"]]
    whole = "\u0120foxglove"  # an entry to which no merges lead: only some groups take it
    return [*tokens, "<|end|>", "여우가", whole, "<bos>"], [1] * len(tokens) + [3, 4, 1, 3], merges


@pytest.mark.parametrize("pre", JUDGES)
def test_byte_level_ids_are_those_of_the_tokenizers_library(tmp_path: Path, trained: Tokenizer, pre: str) -> None:
    compare(tmp_path, trained, pre, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken"])
def test_of_many_strings_too(tmp_path: Path, trained: Tokenizer, pre: str) -> None:
    compare(tmp_path, trained, pre, 60_000)


def compare(tmp_path: Path, trained: Tokenizer, pre: str, count: int) -> None:
    tokens, types, merges = with_added(trained)
    whole = pre in ("llama-bpe", "llama3", "midm-2.0", "lfm2", "tekken")
    ours = write(tmp_path / "v.gguf", "gpt2", tokens, types, pre=pre, merges=merges, bos_token_id=len(tokens) - 1)
    judge = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges], ignore_merges=whole)
    )
    judge.pre_tokenizer = JUDGES[pre]()
    judge.decoder = decoders.ByteLevel()
    judge.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<|end|>", "<bos>")])
    judge.add_tokens([AddedToken("여우가", normalized=False)])
    for text in random_texts(count, seed=len(pre)):
        expected = judge.encode(text).ids
        assert ours.encode(text, bos=False, special=True) == expected, text
        assert ours.decode(expected, skip_special=False) == text
    assert (ours.encode("a")[:1] == [len(tokens) - 1]) == whole  # llama3's and tekken's begin with a BOS unasked
    assert len(tokens) - 2 not in ours.encode("x <|end|> y", bos=False)  # what a user types is text


def test_a_pre_that_is_not_known_is_refused_by_name(tmp_path: Path, trained: Tokenizer) -> None:
    tokens, types, merges = with_added(trained)
    with pytest.raises(UserError, match=r"tokenizer.ggml.pre='future-bpe' is not known"):
        write(tmp_path / "a.gguf", "gpt2", tokens, types, pre="future-bpe", merges=merges)
    with pytest.raises(
        UserError, match="tokenizers of the kind 'rwkv' are not read; this reads llama, t5, gpt2, gemma4"
    ):
        write(tmp_path / "b.gguf", "rwkv", tokens, types)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"merges": ["a b c"]}, "tokenizer.ggml.merges"),
        ({"merges": ["a\u0120 \u0120zz"]}, "tokenizer.ggml.merges"),
        ({"token_type": [1, 2]}, "tokenizer.ggml.token_type"),
        ({"token_type": "x"}, "tokenizer.ggml.token_type"),
        ({"add_bos_token": "yes"}, "tokenizer.ggml.add_bos_token"),
        ({"bos_token_id": 10**6}, "bos_token_id=1000000"),
    ],
)
def test_a_damaged_vocabulary_is_refused_in_one_line(
    tmp_path: Path, trained: Tokenizer, change: dict[str, Any], words: str
) -> None:
    tokens, _, merges = with_added(trained)
    with pytest.raises(UserError) as refusal:
        write(tmp_path / "a.gguf", "gpt2", tokens, **{"merges": merges, "pre": "gpt-2", **change})
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def pieces_of(model: sentencepiece.SentencePieceProcessor) -> tuple[list[str], list[float], list[int]]:
    """As llama.cpp's converter takes them over; user-defined blanks are written as such."""
    tokens, scores, types = [], [], []
    for i in range(model.get_piece_size()):
        text = model.id_to_piece(i)
        kind = (
            2 if model.is_unknown(i) else 3 if model.is_control(i) else 5 if model.is_unused(i) else 6
            if model.is_byte(i) else 1
        )  # fmt: skip
        if kind == 1 and text in ("▁▁", "▁▁▁", "▁▁▁▁", "\n", "\n\n") and model.get_score(i) == 0:
            kind, text = 4, text.replace("▁", " ")
        tokens.append(text)
        scores.append(model.get_score(i))
        types.append(kind)
    return tokens, scores, types


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
def test_sentencepiece_ids_are_those_of_the_sentencepiece_library(tmp_path: Path, fixtures: Path, kind: str) -> None:
    if kind == "llama2":
        path, more = fixtures / "tokenizers" / "tokenizer.model", {}
    else:  # no blank is put before a text, and runs of blanks are entries that nothing is merged with
        (tmp_path / "corpus.txt").write_text("".join(TEXTS) * 8, encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "corpus.txt"), model_prefix=str(tmp_path / "m"), vocab_size=560, model_type="bpe",
            byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, normalization_rule_name="identity",
            remove_extra_whitespaces=False, add_dummy_prefix=False, minloglevel=2, hard_vocab_limit=False,
            user_defined_symbols=["▁▁", "▁▁▁", "▁▁▁▁", "\n", "\n\n"],
        )  # fmt: skip
        path, more = tmp_path / "m.model", {"add_space_prefix": False}
    judge = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokens, scores, types = pieces_of(judge)
    found = write(
        tmp_path / "v.gguf", "llama", tokens, types, scores=scores, bos_token_id=judge.bos_id(),
        eos_token_id=judge.eos_id(), unknown_token_id=judge.unk_id(), **more,
    )  # fmt: skip
    assert found.encode("abc") == [judge.bos_id(), *judge.encode("abc")]  # unasked, as llama.cpp does it
    for text in random_texts(1500):
        if "<" not in text and "\x00" not in text:
            assert found.encode(text, bos=False) == judge.encode(text), text


@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity"])
def test_t5s_ids_are_those_of_sentencepieces_unigram(tmp_path: Path, rule: str) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(TEXTS) * 8, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "m"), vocab_size=260, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, normalization_rule_name=rule, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    judge = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    tokens, scores, types = pieces_of(judge)
    from soban.text.tokenizers.spm_file import read_sentencepiece

    charsmap = read_sentencepiece(tmp_path / "m.model").charsmap
    assert bool(charsmap) == (rule == "nmt_nfkc")
    found = write(
        tmp_path / "v.gguf", "t5", tokens, types, scores=scores, eos_token_id=1, unknown_token_id=2, padding_token_id=0,
        add_space_prefix=True, remove_extra_whitespaces=True,
        **({"precompiled_charsmap": bytes(charsmap)} if charsmap else {}),
    )  # fmt: skip
    assert found.encode("abc") == [*judge.encode("abc"), 1]  # T5 ends its texts, and begins them with nothing
    for text in random_texts(800, seed=5):
        if "<" not in text and "\x00" not in text:
            assert [i for i in found.encode(text)[:-1]] == judge.encode(text), text


def test_gemma_4s_ids_are_those_of_its_tokenizer_json(tmp_path: Path) -> None:
    judge = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    judge.normalizer = normalizers.Replace(" ", "▁")
    judge.pre_tokenizer = pre_tokenizers.Split(Regex("[^\n]+|[\n]+"), "isolated")  # so that no entry has both
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    judge.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    judge.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")  # Gemma 4's own
    import json

    told = json.loads(judge.to_str())["model"]
    tokens = sorted(told["vocab"], key=told["vocab"].get)
    types = [3, 3, 3, 2] + [6] * 256 + [1] * (len(tokens) - 260)
    plain = Tokenizer(
        models.BPE(
            told["vocab"],
            [tuple(pair) for pair in told["merges"]],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    plain.normalizer, plain.pre_tokenizer = judge.normalizer, judge.pre_tokenizer
    found = write(
        tmp_path / "v.gguf", "gemma4", tokens, types, merges=[" ".join(pair) for pair in told["merges"]],
        bos_token_id=2, eos_token_id=1, unknown_token_id=3, padding_token_id=0,
    )  # fmt: skip
    assert found.encode("ab")[0] == 2
    for text in random_texts(1500, seed=7):
        ids = found.encode(text, bos=False)
        assert ids == plain.encode(text).ids, text
        assert found.decode(ids) == text
