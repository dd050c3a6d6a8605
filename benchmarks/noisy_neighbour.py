"""One core taken by a process that spins: our rate of decoding over the undisturbed one, and the peer's.

python benchmarks/noisy_neighbour.py out/gemma-2-2b-random
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import common


@contextmanager
def neighbour(core: int | None) -> Iterator[None]:
    """A process that spins on one core, or where the system puts it."""
    spin = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if core is not None:
            os.sched_setaffinity(spin.pid, {core})
        yield
    finally:
        spin.kill()
        spin.wait()


def main() -> None:
    options = common.parser(__doc__).parse_args()
    alone = common.decode(64, 16)
    tasks = [dataclasses.replace(alone, name="decode alone")]
    tasks.append(dataclasses.replace(alone, name="decode, a neighbour", around=lambda: neighbour(None)))
    if hasattr(os, "sched_setaffinity"):
        last = max(os.sched_getaffinity(0))
        tasks.append(dataclasses.replace(alone, name="decode, a pinned neighbour", around=lambda: neighbour(last)))
    made = [common.soban(options.model, "q4", options.threads, 128)]
    if "llama" in options.peers:
        gguf = common.random_gguf(options.model, "Q4_0", options.files)
        made.append(common.llama(gguf, "Q4_0", options.threads, 128))
    rows = common.run("noisy_neighbour", made, tasks, options.rounds)
    for engine in dict.fromkeys(row.engine for row in rows):
        first, *others = (row for row in rows if row.engine == engine)
        print(f"{engine:24}" + "; ".join(f"{row.task}: {row.rate / first.rate:.0%}" for row in others))


if __name__ == "__main__":
    main()
