"""python -m tests.fuzz: cases of every format for so many minutes, or so many of each; a table of what came."""

import argparse
import datetime
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "SOBAN_THREADS", "OMP_NUM_THREADS"):  # workers are forked: no threads before that
    os.environ[_name] = "1"
os.environ.update(TOKENIZERS_PARALLELISM="false", SOBAN_LANG="en", SOBAN_CACHE="/dev/null/none")

from tests.fuzz.formats import registry  # noqa: E402
from tests.fuzz.working import Failure, Tally, run  # noqa: E402

OUT = Path("out/fuzz")
PAGE = Path("docs/reliability.md")
MARKED = re.compile(r"(?s)(<!-- counts: .*?-->\n).*?(<!-- end of counts -->)")
RESULTS = "results.jsonl"  # a line for each round
ROUND = 1000  # cases of a format before the next one has its turn


def main(arguments: list[str]) -> int:
    """0 where nothing failed."""
    known = registry()
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, help="how long, over all formats")
    parser.add_argument("--cases", type=int, default=0, help="how many of each format")
    parser.add_argument("--formats", default="", help=f"some of {','.join(known)}")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one every second")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--jobs", type=int, default=1, help="processes, which share the formats")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--sum", action="store_true", help=f"add up what {RESULTS} has, and do nothing else")
    parser.add_argument("--page", action="store_true", help=f"as --sum, and write the counts into {PAGE}")
    options = parser.parse_args(arguments)
    if options.sum or options.page:
        tallies = recorded(options.out)
        print(table(tallies))
        if options.page:
            PAGE.write_text(
                MARKED.sub(lambda found: found[1] + page(tallies) + found[2], PAGE.read_text("utf-8")), "utf-8"
            )
        return 0
    names = [name for name in options.formats.split(",") if name] or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no format {unknown[0]}; there are {', '.join(known)}")
    if not options.minutes and not options.cases:
        parser.error("give --minutes or --cases")
    seed = int(time.time()) if options.seed is None else options.seed
    begun = len(lines(options.out))
    limits = (options.minutes * 60, options.cases, options.first)
    children = [shared(names[job :: options.jobs], seed, limits, options.out) for job in range(1, options.jobs)]
    fuzz(names[:: options.jobs], seed, limits, options.out)
    code = max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], default=0)
    tallies = recorded(options.out, begun)
    print(table(tallies))
    return max(abs(code), int(any(tally.failures for tally in tallies.values())))


def shared(names: list[str], seed: int, limits: tuple[float, int, int], out: Path) -> int:
    """A process that does a share of the formats."""
    if child := os.fork():
        return child
    code = 1
    try:
        fuzz(names, seed, limits, out)
        code = 0
    finally:
        os._exit(code)


def fuzz(names: list[str], seed: int, limits: tuple[float, int, int], out: Path) -> None:
    """Formats, each prepared once, take turns until time or cases are used up; every turn is recorded."""
    seconds, cases, first = limits
    known, end = registry(), time.monotonic() + (seconds or 1e9)
    done = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory() as work:
        formats = {}
        for name in names:
            (folder := Path(work, name)).mkdir()
            formats[name] = known[name](folder)
        gc.collect()
        gc.freeze()
        while names := [name for name in names if not cases or done[name] < cases]:
            for name in names:
                if time.monotonic() > end:
                    return
                count = min(ROUND, cases - done[name]) if cases else ROUND
                record(name, seed, run(formats[name], seed, first + done[name], count, out), out)
                done[name] += count


def record(name: str, seed: int, tally: Tally, out: Path) -> None:
    """One more line: when, at which commit, what became of which cases."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    told = {
        "when": datetime.datetime.now().isoformat(timespec="seconds"),
        "commit": commit,
        "seed": seed,
        "format": name,
    }
    counts = {key: value for key, value in vars(tally).items() if key != "failures"}
    told |= counts | {"failures": [[failure.case, failure.kind] for failure in tally.failures]}
    out.mkdir(parents=True, exist_ok=True)
    with (out / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def lines(out: Path) -> list[str]:
    path = out / RESULTS
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def recorded(out: Path, begin: int = 0) -> dict[str, Tally]:
    """What the results have from a line on, by format."""
    found: dict[str, Tally] = {}
    for told in map(json.loads, lines(out)[begin:]):
        tally = found.setdefault(told["format"], Tally())
        for key in ("cases", "beyond", "loads", "refusals", "seconds"):
            setattr(tally, key, getattr(tally, key) + told[key])
        tally.failures += [Failure(told["format"], told["seed"], case, kind) for case, kind in told["failures"]]
    return found


def table(tallies: dict[str, Tally]) -> str:
    """A line for each format, one for all, and the kinds of failures with the case that shows each."""
    made = [f"{'format':<24}{'cases':>11}{'beyond':>11}{'loads':>11}{'refusals':>11}{'failures':>10}{'CPU ms':>8}"]
    rows = [(name, t.cases, t.beyond, t.loads, t.refusals, len(t.failures), t.seconds) for name, t in tallies.items()]
    total = [sum(row[column] for row in rows) for column in range(1, 7)]
    for name, done, *rest, failed, seconds in [*rows, ("all", *total)]:
        counts = "".join(f"{n:>11,}" for n in (done, *rest))
        made.append(f"{name:<24}{counts}{failed:>10,}{1e3 * seconds / max(1, done):>8.2f}")
    kinds: dict[tuple[str, str], list[Failure]] = {}
    for name, tally in tallies.items():
        for failure in tally.failures:
            kinds.setdefault((name, failure.kind), []).append(failure)
    for (name, kind), found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        again = f"--formats {name} --seed {found[0].seed} --first {found[0].case} --cases 1"
        made.append(f"  {len(found):>6} x {name}: {kind} ({again})")
    return "\n".join(made)


def page(tallies: dict[str, Tally]) -> str:
    """The counts for people, as a Markdown table."""
    made = ["| format | cases | beyond the header | loaded | refused | failures |", "|---|---|---|---|---|---|"]
    rows = {name: (t.cases, t.beyond, t.loads, t.refusals, len(t.failures)) for name, t in tallies.items()}
    rows["**all**"] = tuple(map(sum, zip(*rows.values(), strict=True)))  # type: ignore[assignment]
    made += [f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |" for name, counts in rows.items()]
    return "\n".join(made) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
