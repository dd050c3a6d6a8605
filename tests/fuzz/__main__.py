"""python -m tests.fuzz: cases of every format for so many minutes, or so many of each; a table of what came."""

import argparse
import datetime
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "SOBAN_THREADS", "OMP_NUM_THREADS"):  # workers are forked: no threads before that
    os.environ[_name] = "1"
os.environ.update(TOKENIZERS_PARALLELISM="false", SOBAN_LANG="en", SOBAN_CACHE="/dev/null/none")

from tests.fuzz.formats import registry  # noqa: E402
from tests.fuzz.working import Tally, run  # noqa: E402

OUT = Path("out/fuzz")
ROUND = 4000  # cases of a format before the next one has its turn


def main(arguments: list[str]) -> int:
    """0 where nothing failed."""
    known = registry()
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, help="how long, over all formats")
    parser.add_argument("--cases", type=int, default=0, help="how many of each format")
    parser.add_argument("--formats", default="", help=f"some of {','.join(known)}")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one every second")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    names = [name for name in options.formats.split(",") if name] or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no format {unknown[0]}; there are {', '.join(known)}")
    if not options.minutes and not options.cases:
        parser.error("give --minutes or --cases")
    seed = int(time.time()) if options.seed is None else options.seed
    tallies = fuzz(names, seed, options.minutes * 60, options.cases, options.first, options.out)
    print(table(tallies, seed))
    record(tallies, seed, options.out)
    return int(any(tally.failures for tally in tallies.values()))


def fuzz(names: list[str], seed: int, seconds: float, cases: int, first: int, out: Path) -> dict[str, Tally]:
    """The tallies of the formats, each prepared once; they take turns until time or cases are used up."""
    tallies = {name: Tally() for name in names}
    known, end = registry(), time.monotonic() + (seconds or 1e9)
    with tempfile.TemporaryDirectory() as work:
        formats = {}
        for name in names:
            (folder := Path(work, name)).mkdir()
            formats[name] = known[name](folder)
        gc.collect()
        gc.freeze()
        while names := [name for name in names if not cases or tallies[name].cases < cases]:
            for name in names:
                if time.monotonic() > end:
                    return tallies
                done = tallies[name]
                count = min(ROUND, (cases or ROUND + done.cases) - done.cases)
                more = run(formats[name], seed, first + done.cases, count, out)
                for part in ("cases", "beyond", "loads", "refusals", "failures", "seconds"):
                    setattr(done, part, getattr(done, part) + getattr(more, part))
    return tallies


def table(tallies: dict[str, Tally], seed: int) -> str:
    """A line for each format, one for all, and the kinds of failures with the case that shows each."""
    lines = [f"{'format':<24}{'cases':>9}{'beyond':>9}{'loads':>9}{'refusals':>9}{'failures':>9}{'ms each':>9}"]
    rows = [(name, t.cases, t.beyond, t.loads, t.refusals, len(t.failures), t.seconds) for name, t in tallies.items()]
    total = [sum(row[column] for row in rows) for column in range(1, 7)]
    for name, done, *rest, seconds in [*rows, ("all", *total)]:
        lines.append(
            f"{name:<24}" + "".join(f"{n:>9,}" for n in (done, *rest)) + f"{1e3 * seconds / max(1, done):>9.2f}"
        )
    kinds: dict[tuple[str, str], list[int]] = {}
    for name, tally in tallies.items():
        for failure in tally.failures:
            kinds.setdefault((name, failure.kind), []).append(failure.case)
    for (name, kind), found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(
            f"  {len(found):>6} x {name}: {kind} (--formats {name} --seed {seed} --first {found[0]} --cases 1)"
        )
    return "\n".join(lines)


def record(tallies: dict[str, Tally], seed: int, out: Path) -> None:
    """One more line of results.jsonl."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    counts = {
        name: {
            "cases": t.cases,
            "beyond": t.beyond,
            "loads": t.loads,
            "refusals": t.refusals,
            "failures": len(t.failures),
        }
        for name, t in tallies.items()
    }
    line = {
        "when": datetime.datetime.now().isoformat(timespec="seconds"),
        "commit": commit,
        "seed": seed,
        "formats": counts,
    }
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
