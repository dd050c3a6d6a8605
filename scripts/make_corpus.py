"""Writes the corpus of the bundled model: the world's stories and conversations, in English and Korean.

    python scripts/make_corpus.py out/corpus --seed 0 --stories 60000 --conversations 40000

One jsonl for each kind and language; numbers are for both languages together. The same seed writes the same files.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from soban.learn import synthetic
from soban.learn.synthetic.table import Language
from soban.learn.synthetic.talk import Message

LANGUAGES: tuple[Language, ...] = ("en", "ko")
# Of a conversation's words with its template: a tokenizer of 4096 entries writes 512 tokens of them at the least.
MOST_CHARACTERS = {"en": 1730, "ko": 950}
HANGUL = re.compile("[가-힣]")
A_TURN = 14  # characters that [INST] and the like count for, as the same tokenizer writes them


def stories(seed: int, language: Language) -> Iterator[dict[str, object]]:
    """Records of stories without end."""
    return ({"text": text} for text in synthetic.stories(seed, language))


def conversations(seed: int, language: Language) -> Iterator[dict[str, object]]:
    """Records of conversations without end, none longer than a small model's context."""
    for messages in synthetic.conversations(seed, language):
        if cut := shortened(messages):
            yield {"messages": cut}


def small_talk(seed: int, language: Language) -> Iterator[dict[str, object]]:
    """Records of conversations that are mostly about no story, without end."""
    for messages in synthetic.small_conversations(seed, language):
        if cut := shortened(messages):
            yield {"messages": cut}


def sums(seed: int, language: Language) -> Iterator[dict[str, object]]:
    """Records of conversations of sums, without end."""
    return ({"messages": shortened(messages)} for messages in synthetic.sum_conversations(seed, language))


def shortened(messages: list[Message], context: float = 1.0) -> list[Message]:
    """The messages up to the last answer that a small model's context has room for, or `context` times as much."""
    size, count = 0.0, 0
    for number, message in enumerate(messages, 1):
        language: Language = "ko" if HANGUL.search(message["content"]) else "en"
        size += (len(message["content"]) + A_TURN) / MOST_CHARACTERS[language]
        if size <= context and message["role"] == "assistant":
            count = number
    return messages[:count]


KINDS = {"stories": stories, "conversations": conversations, "small_talk": small_talk, "sums": sums}


def write(out: Path, kind: str, language: Language, seed: int, count: int) -> None:
    """A file of so many records that all differ, one a line."""
    seen: set[int] = set()
    path = out / f"{kind}.{language}.jsonl"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in KINDS[kind](seed, language):
            line = json.dumps(record, ensure_ascii=False)
            if len(seen) == count:
                break
            if hash(line) not in seen:
                seen.add(hash(line))
                file.write(line + "\n")
                if len(seen) % 10_000 == 0 or len(seen) == count:
                    print(f"{path.name}: {len(seen):,} of {count:,}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stories", type=int, default=60_000, help="of both languages together")
    parser.add_argument("--conversations", type=int, default=40_000, help="of both languages together")
    parser.add_argument("--small-talk", type=int, default=40_000, help="of both languages together")
    parser.add_argument("--sums", type=int, default=0, help="of both languages together")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    counts = {kind: getattr(given, kind) // len(LANGUAGES) for kind in KINDS}
    with ProcessPoolExecutor() as workers:
        for job in [
            workers.submit(write, given.out, kind, language, given.seed, count)
            for kind, count in counts.items()
            for language in LANGUAGES
        ]:
            job.result()


if __name__ == "__main__":
    main()
