"""Long contexts: prefill of 512 and 4096 tokens, decoding at 100 and at 4,000.

    python benchmarks/long_context.py out/gemma-2-2b-random

The peers need minutes to read 4,000 tokens, which decoding there begins with: name them with --peers llama.
"""

from typing import Any

import common

GGUF = {"q4": "Q4_0", "q8": "Q8_0"}
LONGEST = 4096


def main() -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(peers=[], rounds=2)
    parser.add_argument("--kinds", nargs="+", default=["q4"], choices=sorted(GGUF))
    parser.add_argument("--caches", nargs="+", default=["auto"], help="formats of the cache: auto int8")
    options = parser.parse_args()
    made: list[common.Contestant | None] = []
    for kind in options.kinds:
        for cache in options.caches:
            more: dict[str, Any] = {} if cache == "auto" else {"cache": cache}
            made.append(common.soban(options.model, kind, options.threads, LONGEST, **more))
        if "llama" in options.peers:
            gguf = common.random_gguf(options.model, GGUF[kind], options.files)
            made.append(common.llama(gguf, GGUF[kind], options.threads, LONGEST))
    tasks = [common.prefill(512), common.decode(100, 16), common.decode(4000, 16), common.prefill(LONGEST)]
    rows = common.run("long_context", made, tasks, options.rounds)
    for engine in dict.fromkeys(row.engine for row in rows):
        short, near, far, long = (row.rate for row in rows if row.engine == engine)
        print(f"{engine:32} prefill 4096 to 512: {long / short:.0%}; decoding at 4,000 to 100: {far / near:.0%}")


if __name__ == "__main__":
    main()
