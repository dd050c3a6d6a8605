"""Texts of a grammar as a model would write them that knows nothing: random scores, drawn at a temperature."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from soban.engine.sampler import Sampler
from soban.engine.sampling import Sampling
from soban.text.grammar.grammar import Grammar, Grammars
from soban.text.grammar.matching import Matching
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer

from ...tiny import tokenizer as bytes_alone


def byte_tokens(folder: Path) -> Tokenizer:
    """A tokenizer whose tokens are single bytes."""
    (folder / "tokenizer.json").write_text(json.dumps(bytes_alone()), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<bos>", "eos_token": "<eos>"}', encoding="utf-8")
    return load_tokenizer(folder, {})


def write(
    grammars: Grammars, grammar: Grammar, room: int | None, seed: int = 0, **options: Any
) -> tuple[str, Matching]:
    """A text of at most `room` tokens, and its constraint. UserError where there is no room for one."""
    matching = grammars.factory(grammar)()
    matching.begin(room)
    sampling = Sampling(**{"do_sample": True, "temperature": 1.5, "top_k": 0, "seed": seed} | options)
    sampler, dice = Sampler(sampling, 0), np.random.default_rng(seed)
    size, end = grammars.tokenizer.vocab_size, grammars.tokenizer.eos_ids[0]
    data, count = b"", 0
    while not matching.ended and (room is None or count < room):
        token = sampler.choose(dice.normal(0, 2, size).astype(np.float32), matching, frozenset([end]))
        if token == end:
            assert matching.complete
            break
        settled = matching.settled(token, None if room is None else room - count)
        if settled is None:
            break
        matching.take(settled)
        sampler.note([settled])
        data += grammars.tokenizer.token_bytes(settled)
        count += 1
    return data.decode(), matching
