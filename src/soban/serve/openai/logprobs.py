"""Log-probabilities as OpenAI's two APIs write them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from soban.engine.logprobs import Logprobs, logprobs_of
from soban.model import Model
from soban.talk.generation import Scored


def token_text(model: Model, token: int) -> str:
    """A token as text; a part of a character, or bytes that are none, as OpenAI writes them."""
    data = model.tokenizer.token_bytes(token)
    if not data:
        return model.tokenizer.decode([token], skip_special=False)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_content(model: Model, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The list that a chat's choice has under logprobs.content."""
    return [
        {**_entry(model, token, of.chosen),
         "top_logprobs": [_entry(model, *one) for one in zip(of.ids, of.values, strict=True)]}
        for token, of in scored
    ]  # fmt: skip


def _entry(model: Model, token: int, logprob: float) -> dict[str, Any]:
    return {
        "token": token_text(model, token), "logprob": max(logprob, -9999.0),
        "bytes": list(model.tokenizer.token_bytes(token) or b""),
    }  # fmt: skip


def completion(model: Model, scored: Sequence[tuple[int, Logprobs | None]], offset: int, top: int) -> dict[str, Any]:
    """The older form, as lists over the tokens; `offset`: characters of the text before the first of them."""
    tokens = [token_text(model, token) for token, _ in scored]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    likeliest: list[dict[str, float] | None] = []
    for token, of in scored:
        if of is None:
            likeliest.append(None)
            continue
        table = {token_text(model, token): of.chosen}
        for one, value in zip(of.ids, of.values, strict=True):
            name = token_text(model, one)
            table[name] = max(value, table.get(name, -np.inf))  # two tokens may be written alike
        likeliest.append(table)
    return {
        "tokens": tokens,
        "token_logprobs": [None if of is None else max(of.chosen, -9999.0) for _, of in scored],
        "top_logprobs": likeliest if top else None,
        "text_offset": offsets,
    }


def of_prompt(model: Model, ids: Sequence[int], top: int) -> list[tuple[int, Logprobs | None]]:
    """A prompt's tokens, each with what the ones before it say of it; nothing is said of the first."""
    scored: list[tuple[int, Logprobs | None]] = [(ids[0], None)]
    if len(ids) > 1:
        for rows in model.logit_rows(ids[:-1]):
            for row in rows:
                token = ids[len(scored)]
                scored.append((token, logprobs_of(row, token, top)))
    return scored
