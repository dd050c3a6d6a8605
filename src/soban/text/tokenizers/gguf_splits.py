"""How the byte-level vocabularies of GGUF files cut a text into words: tokenizer.ggml.pre, by its groups.

The expressions are those of the models' own tokenizer.json files, which llama.cpp (llama-vocab.cpp) rewrites for its
own matcher; each cuts what the one before it has left, and what lies between two matches is a word, too.
"""

from dataclasses import dataclass

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # what is cut off an English word
OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3 = rf"{SHORT}|{LETTERS}|\p{{N}}{{1,3}}|{OTHER}"
QWEN2 = rf"{SHORT}|{LETTERS}|\p{{N}}|{OTHER}"
QWEN35 = (
    rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(ending: str, digits: str) -> str:
    """Words by their upper and lower case."""
    start, letters = r"[^\r\n\p{L}\p{N}]?", (f"{UPPER}*{LOWER}+", f"{UPPER}+{LOWER}*")
    return "|".join([*(f"{start}{word}{ending}" for word in letters), digits, SLASHED])


GPT4O = _cased(f"{SHORT}?", r"\p{N}{1,3}")
CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
MARKED = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Splits:
    """A group: its expressions, one after the other; whether a word that is an entry is taken before it is merged, and
    whether a BOS begins a text where no key says so."""

    expressions: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False


_GROUPS: tuple[tuple[str, Splits], ...] = (
    ("default", Splits((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))),
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        Splits((LLAMA3,), whole_words=True, bos=True),
    ),
    ("dbrx smaug-bpe", Splits((LLAMA3,))),
    ("glm4 glm5", Splits((LLAMA3,), whole_words=True)),
    ("chatglm-bpe", Splits((LLAMA3,))),
    ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", Splits((QWEN2,))),
    ("qwen35", Splits((QWEN35,))),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", Splits((GPT4O,))),
    ("gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling", Splits((GPT2,))),
    (
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        Splits((r"\p{N}", GPT2)),
    ),
    ("tekken", Splits((_cased("", r"\p{N}"),), whole_words=True, bos=True)),
    (
        "exaone-moe",
        Splits((
            rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        )),
    ),
    ("tiny_aya cohere2moe", Splits((r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O))),
    (
        "minicpm5",
        Splits((r"\p{N}{1,3}", rf"{SHORT}|{LETTERS}|\p{{N}}+|{OTHER}"), whole_words=True),
    ),
    (
        "youtu",
        Splits((
            "[\uac00-\ud7a3\u3131-\u318e]+|[！…“”‘’—：；，\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + CJK,
            _cased(f"{SHORT}?", r"\p{N}"),
        ), whole_words=True),
    ),
    ("deepseek-v3 hunyuan-dense joyai-llm", Splits((r"\p{N}{1,3}", CJK, MARKED))),
    ("seed-coder", Splits((rf"{SHORT}|{LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",))),
    (
        "bailingmoe bailingmoe2 llada-moe",
        Splits((
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        )),
    ),
)  # fmt: skip
SPLITS: dict[str, Splits] = {name: splits for names, splits in _GROUPS for name in names.split()}
