"""A model of the llama family as llama2.c's .bin, with the tokenizer.bin that its run.c reads."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.base.files import check_absent, check_room, new_file
from soban.convert.source import Floats, Source, pairs, rotated_heads
from soban.models import FAMILIES, Architecture
from soban.models.config import activation
from soban.text.tokenizers.llama2c import BOS, EOS, read_pieces
from soban.text.tokenizers.llama2c_writing import llama2c_pieces, tokenizer_bin
from soban.weights.checkpoint import LLAMA2C
from soban.weights.llama2c import DOWN, EMBEDDING, FINAL_NORM, LAYER, LONGEST, OUTPUT, Header
from soban.weights.llama2c_writing import THETA, group_size, write_bin

EPSILON = 1e-5  # of the norms: run.c has it in its code
VERSIONS = {"v0": 0, "v1": 1, "v2": 2}


def to_llama2c(
    source: Source,
    path: Path,
    format: str,
    *,
    tokenizer: Path | None,
    tokenizer_out: Path | None,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes the model as a .bin of a format (v0, v1, v2), and its tokenizer unless `tokenizer_out` is None.

    tokenizer: the tokenizer.bin of a model that is a .bin already. Raises UserError, before anything is written, for
    what the format cannot hold.
    """
    if (model_type := source.config.get("model_type")) not in FAMILIES:
        raise _refused(source.path, "model_type", model_type, "llama")
    source, architecture = source.fitted()
    if not (names := architecture.plan.names(LLAMA2C)):
        raise _refused(source.path, "model_type", model_type, "llama")
    header, scale = described(source, architecture, VERSIONS[format])
    check_absent(path)
    rotated = {} if source.is_llama2c else rotated_heads(architecture)

    def rows(name: str) -> Iterator[Floats]:
        ours = names[name]
        return _rows(source, ours, LAYER.sub("layers.{i}.", name), rotated.get(ours), np.float32(scale), header.tied)

    if tokenizer_out is None:
        check_room(path, header.file_size)
        write_bin(path, header, rows, progress)
        return
    if source.is_llama2c:
        assert tokenizer is not None
        words = tokenizer_bin(*read_pieces(tokenizer, header.vocabulary))
    else:
        words = tokenizer_bin(*llama2c_pieces(source.folder, source.config))
    check_room(path, header.file_size + len(words))
    is_new = _write_tokenizer(tokenizer_out, words)
    try:
        write_bin(path, header, rows, progress)
    except BaseException:
        if is_new:
            tokenizer_out.unlink(missing_ok=True)
        raise


def described(source: Source, architecture: Architecture, version: int) -> tuple[Header, float]:
    """The header of the model's .bin, and the factor that its residual stream takes on: see `_scale`."""
    c = architecture.config
    _check(source.path, {
        "head_dim": (c.head_size, c.hidden_size / c.num_attention_heads),
        "attention_bias": (c.attention_bias, False),
        "mlp_bias": (c.mlp_bias, False),
        "rope_theta": (c.rotation.theta, THETA),
        "rope_scaling": (c.rotation.kind, "default"),
        "hidden_act": (activation("hidden_act", c.hidden_act), "silu"),
        "sliding_window": (next((w for w in c.windows if w and w < c.max_position_embeddings), None), None),
        "max_position_embeddings": (max(c.max_position_embeddings, LONGEST), LONGEST),
    })  # fmt: skip
    _check_end(source)
    header = Header(
        version, c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads, c.kv_heads,
        c.vocab_size, c.max_position_embeddings, c.tie_word_embeddings,
        group_size(c.hidden_size, c.intermediate_size) if version == 2 else None,
    )  # fmt: skip
    return header, _scale(source, c.rms_norm_eps)


def _check(path: Path, facts: dict[str, tuple[Any, Any]]) -> None:
    """Raise UserError for the first key whose value is not the one that llama2.c has."""
    for key, (value, fixed) in facts.items():
        if value != fixed:
            raise _refused(path, key, value, fixed)


def _refused(path: Path, key: str, value: object, fixed: object) -> UserError:
    return UserError(
        "{path}: {key}={value} has no place in a llama2.c .bin, whose models have {fixed}",
        path=path, key=key, value=value, fixed=fixed,
        hint="keep it as a Hugging Face folder: soban and transformers run it as it is",
    )  # fmt: skip


def _check_end(source: Source) -> None:
    """Raise UserError where another token ends a text than llama2.c knows; a note where run.c does not stop at it."""
    ends = source.checkpoint.generation_config.get("eos_token_id", source.config.get("eos_token_id"))
    ids = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    if other := ids - {BOS, EOS}:
        raise _refused(source.path, "eos_token_id", ends if len(other) > 1 else other.pop(), EOS)
    if ids == {EOS} and not source.is_llama2c:
        messages.warn(
            "run.c stops only at token {bos}, and this model ends its texts with token {eos}: run.c goes on after it,"
            " as far as -n says", bos=BOS, eos=EOS,
        )  # fmt: skip


def _scale(source: Source, epsilon: float) -> float:
    """By how much the residual stream grows so that the norms' own epsilon becomes 1e-5, and nothing else changes.

    x / sqrt(mean(x^2) + e) stays the same when x is scaled by s and e by s^2. All that is added to the stream comes
    from the embedding, the attention's output and the MLP's, so these three take the factor.
    """
    if epsilon == EPSILON:
        return 1.0
    messages.warn(
        "rms_norm_eps is {own}, and llama2.c has {fixed} in its code: the weights are scaled so that the model computes"
        " the same", own=epsilon, fixed=EPSILON,
    )  # fmt: skip
    return math.sqrt(EPSILON / epsilon)


def _rows(source: Source, name: str, kind: str, heads: int | None, factor: np.float32, tied: bool) -> Iterator[Floats]:
    """A tensor as it stands in the .bin, where it is of this kind; `heads`: of one whose rows are to be in pairs."""
    if heads is not None:
        yield pairs(source.whole(name), heads)
    elif kind in (EMBEDDING, OUTPUT, DOWN):
        yield from (rows * factor for rows in source.rows(name))
    elif kind == FINAL_NORM and tied:
        yield from (
            np.divide(rows, factor, dtype=np.float32) for rows in source.rows(name)
        )  # the head is the embedding, which has the factor
    else:
        yield from source.rows(name)


def _write_tokenizer(path: Path, words: bytes) -> bool:
    """Writes tokenizer.bin; False where the same one is there already, UserError where it is another."""
    if path.is_file():
        if path.read_bytes() == words:
            return False
        raise UserError(
            "{path}: is there already and belongs to another model", path=path,
            hint="name another place with --tokenizer-out",
        )  # fmt: skip
    with new_file(path, len(words)) as file:
        file.write(words)
    return True
