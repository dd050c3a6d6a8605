"""tokenizer.model files give exactly the ids and texts of the sentencepiece library."""

import io
import itertools
import random
import time
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers.merge import merge
from soban.text.tokenizers.sentencepiece import SentencePieceTokenizer
from soban.text.tokenizers.settings import Settings
from soban.text.tokenizers.spm_file import _fields, read_sentencepiece
from soban.text.tokenizers.tokenizer import load_tokenizer

spm = pytest.importorskip("sentencepiece")

NAMES = [
    "gemma3_test_vocab.spm", "gemma3n_test_vocab.spm", "gemma4_test_vocab.spm", "gemma_export_vocab.spm",
    "gemma_test_vocab.spm", "llama_export_vocab.spm", "llama_test_vocab.spm", "mistral_test_vocab.spm",
    "phi3_test_vocab.spm", "tokenizer.model",
]  # fmt: skip


def load(path: Path) -> tuple[SentencePieceTokenizer, "spm.SentencePieceProcessor"]:
    judge = spm.SentencePieceProcessor()
    judge.Load(str(path))
    return SentencePieceTokenizer(read_sentencepiece(path), Settings()), judge


def assert_equal(tokenizer: SentencePieceTokenizer, judge: "spm.SentencePieceProcessor", strings: list[str]) -> None:
    for text in strings:
        ids = judge.encode(text)
        assert tokenizer.encode(text, bos=False) == ids, text
        if judge.unk_id() not in ids:
            assert tokenizer.decode(ids) == judge.decode(ids), text
            stream = tokenizer.stream()
            assert "".join(map(stream.feed, ids)) + stream.finish() == judge.decode(ids), text


@pytest.mark.parametrize("name", NAMES)
def test_real_vocabularies_give_the_ids_of_sentencepiece(fixtures: Path, name: str, strings: list[str]) -> None:
    assert_equal(*load(fixtures / "tokenizers" / name), strings)


@pytest.mark.parametrize("name", ["gemma_export_vocab.spm", "phi3_test_vocab.spm"])
def test_user_defined_markup_is_recognised_only_as_special(fixtures: Path, name: str) -> None:
    tokenizer, judge = load(fixtures / "tokenizers" / name)
    for text in ("x<|user|>y", "<start_of_turn>user\nhi<end_of_turn>", "<|user|>", " <start_of_turn> <start_of_turn>"):
        assert tokenizer.encode(text, bos=False, special=True) == judge.encode(text)
        plain = tokenizer.encode(text, bos=False)
        assert not {span.token_id for span in tokenizer.find_markup(text)} & set(plain) - {tokenizer._model.unk_id}


def test_the_ids_that_llama_cpp_expects_of_llama(fixtures: Path) -> None:
    folder = fixtures / "gguf_vocab"
    texts = (folder / "ggml-vocab-llama-spm.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = (folder / "ggml-vocab-llama-spm.gguf.out").read_text(encoding="utf-8").split("\n")
    tokenizer, _ = load(fixtures / "tokenizers" / "tokenizer.model")
    for text, line in zip(texts, expected, strict=False):
        assert tokenizer.encode(text, bos=False) == [int(word) for word in line.split()], text


def trained(folder: Path, kind: str, **options: object) -> Path:
    sentences = [
        "the cat sat on the mat",
        "옛날 옛적에 호랑이가 살았어요",
        "a b c ab abc aaaa",
        "ﬁ ① Ａ １２３ the fox",
    ] * 20
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type=kind, hard_vocab_limit=False,
        minloglevel=3, **options,
    )  # fmt: skip
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc_cf"])
@pytest.mark.parametrize("prefix", [True, False])
def test_models_of_every_kind_and_option(
    tmp_path: Path, strings: list[str], kind: str, rule: str, prefix: bool
) -> None:
    path = trained(
        tmp_path, kind, vocab_size=320 if kind != "word" else 30, byte_fallback=kind in ("bpe", "unigram"),
        normalization_rule_name=rule, add_dummy_prefix=prefix, remove_extra_whitespaces=prefix,
        user_defined_symbols=["==", "cat"], control_symbols=["<ctl>"],
    )  # fmt: skip
    texts = [*strings, "the cat", "<ctl>", "a==b ==c", "cats  == "]
    if kind == "word":  # sentencepiece takes a control piece that stands as a word for nothing at all
        texts = [text for text in texts if text not in ("<s>", "</s>", "<ctl>")]
    assert_equal(*load(path), texts)


def test_pieces_across_words_are_merged_as_one_text(tmp_path: Path, strings: list[str]) -> None:
    path = trained(tmp_path, "bpe", vocab_size=120, split_by_whitespace=False, byte_fallback=False)
    assert_equal(*load(path), [*strings, "the cat sat on the mat"])


def test_merging_long_runs_is_fast_and_exact(fixtures: Path) -> None:
    tokenizer, judge = load(fixtures / "tokenizers" / "tokenizer.model")
    for text in ("a" * 50_000, "=" * 9_999, "ab" * 20_000, " " * 9_999):
        assert tokenizer.encode(text, bos=False) == judge.encode(text)


def test_ties_are_merged_leftmost_first() -> None:
    assert merge(list("aaa"), {"aa": 1.0}) == [(0, "aa"), (2, "a")]
    assert merge(list("aba"), {"ab": 1.0, "ba": 1.0}) == [(0, "ab"), (2, "a")]
    assert merge(list("aba"), {"ab": 1.0, "ba": 2.0}) == [(0, "a"), (1, "ba")]


def test_a_folder_with_only_a_tokenizer_model_has_its_bos_and_eos(fixtures: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes((fixtures / "tokenizers" / "tokenizer.model").read_bytes())
    tokenizer = load_tokenizer(tmp_path, {"bos_token_id": 7})
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.vocab_size) == (1, (2,), 32000)
    assert tokenizer.encode("Hello") == [1, 15043]
    assert tokenizer.encode("<s>Hello", special=True) == [1, 15043]
    assert tokenizer.encode("<s><s>Hello", special=True, bos=True) == [1, 15043]
    assert 1 not in tokenizer.encode("<s>Hello", bos=False)
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false, "add_eos_token": true}', encoding="utf-8")
    assert load_tokenizer(tmp_path, {}).encode("Hello") == [15043, 2]


def noise(dice: random.Random, most: int = 60) -> str:
    """Digits, runs of one character, quotation marks and words: where segmentations tie."""
    parts = [
        "0",
        "1",
        "7",
        "00",
        "12",
        " ",
        "  ",
        '"',
        "'",
        "a",
        "aa",
        "v",
        "the ",
        "cat ",
        "cats",
        "ab",
        "안녕",
        "호랑이",
        "==",
        ".",
    ]
    return "".join(dice.choice(parts) * dice.choice((1, 1, 1, 2, 3, 7)) for _ in range(dice.randrange(most)))


@pytest.mark.parametrize("fallback", [False, True])
def test_unigram_scores_are_added_over_the_whole_text_in_float32(tmp_path: Path, fallback: bool) -> None:
    """Pieces of few different scores, so that ties are everywhere, and texts so long that every sum is rounded."""
    dice = random.Random(4)
    for n in range(6):
        path = trained(
            tmp_path, "unigram", vocab_size=(400, 120, 60)[n % 3] if not fallback else 380 + 20 * n,
            byte_fallback=fallback, split_digits=n % 2 == 0, user_defined_symbols=["==", "<tag>"],
            seed_sentencepiece_size=1000 + 100 * n, add_dummy_prefix=n % 3 > 0,
        )  # fmt: skip
        tokenizer, judge = load(path)
        for size in [60] * 150 + [4000] * 3:
            text = noise(dice, size)
            assert tokenizer.encode(text, bos=False) == judge.encode(text), text
            marked = text[: size // 2] + "<tag>" + text[size // 2 :] + " <tag><tag"
            assert tokenizer.encode(marked, bos=False, special=True) == judge.encode(marked), marked


def test_a_long_text_takes_unigram_no_longer_by_character_than_a_short_one(tmp_path: Path) -> None:
    tokenizer, judge = load(trained(tmp_path, "unigram", vocab_size=120))
    text = noise(random.Random(6), 60_000)
    start = time.process_time()
    ids = tokenizer.encode(text, bos=False)
    assert time.process_time() - start < 1e-5 * len(text) and ids == judge.encode(text)


def rebuilt(data: bytes, number: int, field: int, value: int | bytes) -> bytes:
    """The model file with another value for a field of its part `number`: 2 the trainer's, 3 the normalizer's."""
    made = b""
    for part, held in _fields(data):
        if part == number:
            fields = dict(_fields(bytes(held))) | {field: value}  # type: ignore[arg-type]
            held = b"".join(entry(key, item) for key, item in fields.items())
        made += entry(part, held)
    return made


def entry(number: int, value: int | bytes) -> bytes:
    """A field of a message; of the numbers of four bytes, which none of the parts here needs, there are none."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    return varint_of(value & 2**64 - 1)


def varint_of(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint_of(value >> 7)


# Where soban differs from sentencepiece over a field: it refuses what no published model has.
STRICTER = {(2, 3, 0), (2, 3, 5), (2, 24, 1)}  # a type of model that is none; a space behind its word


def test_each_field_of_a_tokenizer_model_counts_as_in_sentencepiece(tmp_path: Path) -> None:
    """Its trainer's (type, suffix, byte fallback, ids and pieces of roles, unk_surface) and its normalizer's."""
    fields: list[tuple[int, int, list[int | bytes]]] = [
        (2, 3, [0, 5]), (2, 24, [0, 1]), (2, 35, [0, 1]), (2, 40, [0, 1, 5000, 2**64 - 1]), (2, 41, [0, 2, 2**64 - 1]),
        (2, 42, [1, 5000]), (2, 43, [0]), (2, 46, [b"<s>", b"zz", b"<ctl>", b"the"]), (2, 47, [b"zz"]),
        (2, 26, [0]), (2, 33, [1]), (3, 2, [b"", b"x", b"\0\0\0\0"]), (3, 3, [0, 1]), (3, 4, [0, 1]), (3, 5, [0, 1]),
    ]  # fmt: skip
    texts = ["the cat", " a  b ", "", "안녕 the", "a==b", "<unk>", "ﬁ ① x\ty", "日本 cat", "▁a▁", "aaaa\n", " "]
    path = tmp_path / "tokenizer.model"
    for kind, fallback in itertools.product(("bpe", "unigram"), (False, True)):
        data = trained(
            tmp_path, kind, vocab_size=320 if fallback else 80, byte_fallback=fallback,
            user_defined_symbols=["==", "cat"], control_symbols=["<ctl>"],
        ).read_bytes()  # fmt: skip
        for number, field, values in fields:
            for value in values:
                path.write_bytes(rebuilt(data, number, field, value))
                judge = spm.SentencePieceProcessor()
                try:
                    judge.LoadFromSerializedProto(path.read_bytes())
                except (RuntimeError, ValueError):
                    judge = None
                case = (number, field, value)
                if judge is None or case in STRICTER:
                    with pytest.raises(UserError, match=r"tokenizer\.model"):
                        read_sentencepiece(path)
                    continue
                tokenizer = SentencePieceTokenizer(read_sentencepiece(path), Settings())
                for text in texts:
                    ids = judge.encode(text)
                    assert tokenizer.encode(text, bos=False) == ids, (kind, case, text)
                    if judge.unk_id() not in ids:
                        assert tokenizer.decode(ids) == judge.decode(ids), (kind, case, text)
                bos = -1 if tokenizer.bos_id is None else tokenizer.bos_id
                assert (bos, *(tokenizer.eos_ids or (-1,))) == (judge.bos_id(), judge.eos_id()), (kind, case)
    for rest in (entry(5, entry(2, b"\4\0\0\0\0\0\0\0x")), entry(1, entry(1, b"?") + entry(3, 2))):
        path.write_bytes(data + rest)  # a rewriting of decoded text; a second unknown piece
        with pytest.raises(UserError, match=r"tokenizer\.model"):
            read_sentencepiece(path)
