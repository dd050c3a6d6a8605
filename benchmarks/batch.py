"""A step of 1, 2, 4, 8 and 16 sequences with short contexts: the weights are read once for all.

python benchmarks/batch.py out/gemma-2-2b-random
"""

import common

CONTEXT, COUNT = 64, 12
SIZES = (1, 2, 4, 8, 16)
GGUF = {"q4": "Q4_0", "q8": "Q8_0"}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--kinds", nargs="+", default=["q4"], choices=sorted(GGUF))
    options = parser.parse_args()
    made: list[common.Contestant | None] = []
    positions = max(SIZES) * (CONTEXT + 64)
    for kind in options.kinds:
        made.append(common.soban(options.model, kind, options.threads, positions))
        if "llama" in options.peers:
            gguf = common.random_gguf(options.model, GGUF[kind], options.files)
            made.append(common.llama(gguf, GGUF[kind], options.threads, positions, sequences=max(SIZES)))
    rows = common.run("batch", made, [common.decode(CONTEXT, COUNT, size) for size in SIZES], options.rounds)
    print(f"\n{'time of a step, to that of one':32}" + "".join(f"{size:>8}" for size in SIZES))
    for engine in dict.fromkeys(row.engine for row in rows):
        steps = [size / row.rate for size, row in zip(SIZES, (r for r in rows if r.engine == engine), strict=True)]
        print(f"{engine:32}" + "".join(f"{step / steps[0]:8.2f}" for step in steps))


if __name__ == "__main__":
    main()
