"""Prompt lookup on texts that copy from their prompt: decode with and without it, in turn, on one sequence.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/lookup.py out/gemma-2-2b-random --dtype q4

The traces are a task and its answer; the model is made to choose the answer's tokens, so that random weights have the
speed of trained ones and the acceptance of the text. The sequence goes on with and without lookup by turns of
--turn tokens; a second round exchanges the turns, so each of the two has decoded the whole answer. Appends a line for
each trace to benchmarks/results/lookup.jsonl.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import soban
from soban.base.machine import cpu_name
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request
from soban.ops import native
from soban.ops.formats import Floats

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "lookup.jsonl"
PARTING = "=====\n"  # between the prompt and the answer of a trace


class Recorded:
    """Stands in for a sampler: chooses what was recorded."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self.tokens = iter(tokens)

    def note(self, tokens: Iterable[int]) -> None:
        """Nothing depends on what there was before."""

    def choose(self, logits: Floats) -> int:
        return next(self.tokens)


def decode(model: soban.Model, prompt: list[int], answer: list[int], turn: int, first: bool) -> dict[bool, list[float]]:
    """Seconds, tokens and steps without (False) and with lookup (True), then drafted and accepted tokens."""
    requests = {
        on: Request(prompt, Sampling(max_new_tokens=len(answer), prompt_lookup_num_tokens=None if on else 0))
        for on in (False, True)
    }
    (sequence,) = model.engine.prepare(requests[first])
    sequence.sampler = Recorded(answer)  # type: ignore[assignment]
    model.engine.queue([sequence])
    while not sequence.produced:
        model.engine.step()
    spent = {False: [0.0] * 5, True: [0.0] * 5}
    mode, until = first, 1 + turn
    while model.engine.busy:
        if sequence.produced >= until:
            mode, until = not mode, sequence.produced + turn
            sequence.request = requests[mode]
        before = sequence.produced, sequence.drafted, sequence.accepted
        start = time.perf_counter()
        model.engine.step()
        seconds = time.perf_counter() - start
        after = sequence.produced, sequence.drafted, sequence.accepted
        tokens, drafted, accepted = (a - b for a, b in zip(after, before, strict=True))
        spent[mode] = [a + b for a, b in zip(spent[mode], (seconds, tokens, 1, drafted, accepted), strict=True)]
    assert sequence.tokens[len(prompt) :] == answer
    return spent


def tokens_of(model: soban.Model, tokenizer: Path | None) -> Callable[[str], list[int]]:
    """The model's own tokenizer, or that of another file: a random model's may cut real words into many pieces."""
    if tokenizer is None:
        return lambda text: model.tokenize(text, bos=False)
    if tokenizer.suffix == ".model":
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).encode  # type: ignore[no-any-return]
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    return lambda text: loaded.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="q4")
    parser.add_argument("--traces", nargs="+", default=["summarising", "editing"])
    parser.add_argument("--tokenizer", type=Path, help="another tokenizer.json or .model for the traces")
    parser.add_argument("--turn", type=int, default=50, help="tokens that are decoded with or without at a time")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    model = soban.load(options.folder, dtype=options.dtype)
    encode = tokens_of(model, options.tokenizer)
    for name in options.traces:
        prompt, answer = map(encode, (HERE / "traces" / f"{name}.txt").read_text(encoding="utf-8").split(PARTING))
        spent = {False: [0.0] * 5, True: [0.0] * 5}
        for number in range(options.rounds):
            for mode, found in decode(model, prompt, answer, options.turn, number % 2 == 1).items():
                spent[mode] = [a + b for a, b in zip(spent[mode], found, strict=True)]
        report(model, name, options, len(prompt), len(answer), spent)


def report(
    model: soban.Model, name: str, options: Any, prompt: int, answer: int, spent: dict[bool, list[float]]
) -> None:
    without, with_lookup = (spent[mode][1] / spent[mode][0] for mode in (False, True))
    _, tokens, steps, drafted, accepted = spent[True]
    record = {
        "when": time.strftime("%Y-%m-%d"), "machine": cpu_name(), "isa": native.chosen_isa(), "dtype": options.dtype,
        "trace": name, "tokenizer": options.tokenizer.name if options.tokenizer else "the model's",
        "prompt_tokens": prompt, "answer_tokens": answer, "without_per_s": round(without, 2),
        "with_per_s": round(with_lookup, 2), "ratio": round(with_lookup / without, 2),
        "tokens_a_step": round(tokens / steps, 2), "drafted": int(drafted), "accepted": int(accepted),
        "step_costs": {count: round(ratio, 2) for count, ratio in model.engine.costs.ratios.items()},
    }  # fmt: skip
    print(
        f"{name}: {without:.2f} tokens/s without, {with_lookup:.2f} with lookup: {with_lookup / without:.2f}x; "
        f"{tokens / steps:.2f} tokens a step, {accepted / max(1, drafted):.0%} of the drafted ones accepted"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
