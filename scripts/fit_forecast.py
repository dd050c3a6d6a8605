"""The curve of `soban train --forecast`: short real trainings, and the constants that fit them.

    python scripts/fit_forecast.py run DATA... --out benchmarks/results/forecast.csv   # some minutes for each folder
    python scripts/fit_forecast.py fit benchmarks/results/forecast.csv                 # the constants, and their errors

Each training is a row: its network, its tokens, the bits per byte it came to on text held out, and what a trigram
model of the same data has there. The rows of llama2.c are the losses that its README tells, turned into bits per byte
by its tokenizers on TinyStories; it does not say on how many tokens, which are many. `fit` looks for the constants of
forecast.ratio: the exponents on a grid, the rest by least squares of relative errors with no term below zero.
"""

import argparse
import csv
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from soban.learn.training import forecast, running, scratch, sizes
from soban.learn.training.arguments import TrainArguments
from soban.learn.training.checkpoint import Progress
from soban.learn.training.resolve import resolved

LENGTHS = {"260k": (16, 32, 64, 128), "1m": (16, 32, 64, 128)}  # steps of 8192 tokens
COLUMNS = ("data", "preset", "parameters", "tokens", "trigram", "bits_per_byte")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "fit"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/forecast.csv"))
    given = parser.parse_args()
    if given.what == "run":
        run(given.paths, given.out)
    else:
        fit([row for path in given.paths for row in csv.DictReader(path.open(encoding="utf-8"))])


def run(folders: Sequence[Path], out: Path) -> None:
    """Trains every preset for every length on every folder, and adds the rows that `out` does not have."""
    done = list(csv.DictReader(out.open(encoding="utf-8"))) if out.is_file() else []
    known = {(row["data"], row["preset"], row["tokens"]) for row in done}
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not done:
            writer.writeheader()
        for preset, data in itertools.product(LENGTHS, folders):
            for steps in LENGTHS[preset]:
                arguments = TrainArguments(data=str(data), out="", preset=preset, steps=steps)
                settings = resolved(arguments, data)
                tokens = steps * settings.step_tokens
                if (data.name, preset, str(tokens)) in known:
                    continue
                row = {
                    "data": data.name, "preset": preset,
                    "parameters": sizes.parameters(settings), "tokens": tokens,
                    "trigram": f"{forecast.trigram_bits(data):.4f}", "bits_per_byte": f"{trained(arguments, data):.4f}",
                }  # fmt: skip
                print(*row.values(), flush=True)
                writer.writerow(row)
                file.flush()


def trained(arguments: TrainArguments, data: Path) -> float:
    """Bits per byte of text held out, after a training."""
    settings = resolved(arguments, data)
    with tempfile.TemporaryDirectory() as name:
        whole = scratch.start(settings, data, Path(name), evaluate_every=settings.steps)
        (Path(name) / "training").mkdir()
        progress, _ = running.run(replace(whole, save_seconds=1e9), Progress(), lambda event: None, lambda: False)
    assert progress.best is not None
    return progress.best


def fit(rows: Sequence[dict[str, str]]) -> None:
    """Prints the constants and what they give for each row."""
    parameters, tokens, trigram, bits = (
        np.array([float(row[name]) for row in rows]) for name in ("parameters", "tokens", "trigram", "bits_per_byte")
    )
    found = bits / trigram
    best: tuple[float, tuple[float, float], list[float]] | None = None
    for exponents in itertools.product(np.arange(0.1, 1.01, 0.02), repeat=2):
        terms = np.stack([np.ones_like(found), parameters ** -exponents[0], tokens ** -exponents[1]], 1)
        constants = not_negative(terms / found[:, None])
        worst = float(np.square(terms @ constants / found - 1).mean() ** 0.5)
        if best is None or worst < best[0]:
            best = worst, exponents, list(constants)
    assert best is not None
    error, (of_parameters, of_tokens), (floor, width, data) = best
    print(f"FLOOR, WIDTH, DATA = {floor:.4f}, {width:.4g}, {data:.4g}")
    print(f"OF_WEIGHTS, OF_TOKENS = {of_parameters:.2f}, {of_tokens:.2f}")
    print(f"off by {error:.1%} (root mean square) over {len(rows)} trainings")
    guesses = floor + width * parameters**-of_parameters + data * tokens**-of_tokens
    for row, ratio, guess in zip(rows, found, guesses, strict=True):
        print(f"{row['data']:14} {row['preset']:5} {int(row['tokens']):>10,}  {ratio:.3f}  {guess:.3f}")


def not_negative(terms: np.ndarray) -> np.ndarray:
    """Coefficients, none below zero, with which the terms sum up to about 1 in every row: the best subset of them."""
    best, least = np.zeros(terms.shape[1]), np.inf
    for used in itertools.chain.from_iterable(itertools.combinations(range(3), count) for count in (1, 2, 3)):
        found = np.linalg.lstsq(terms[:, used], np.ones(len(terms)), rcond=None)[0]
        off = float(np.square(terms[:, used] @ found - 1).sum())
        if (found >= 0).all() and off < least:
            best, least = np.zeros(terms.shape[1]), off
            best[list(used)] = found
    return best


if __name__ == "__main__":
    main()
