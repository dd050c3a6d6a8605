"""Makes the bundled story model: stories -> tokenizer -> training -> a Hugging Face folder, in half an hour on 2 cores.

    python scripts/make_bundled.py out/bundled

Everything but the number of steps that the half hour holds is decided by the seed.
"""

import argparse
from pathlib import Path

from soban.learn.train import TrainOptions, train

# What the wheel has room for: a byte a weight, and two for the scale of every 64
MOST_WEIGHTS = 5_400_000
MOST_TOKENIZER = 350_000


def main() -> None:
    """Train, and see that the result fits into the wheel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="folder for the model")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    arguments = parser.parse_args()
    train(TrainOptions(out=arguments.out, stories=80_000, batch_size=3072, minutes=30, seed=0, resume=arguments.resume))
    folder = Path(arguments.out)
    weights = (folder / "model.safetensors").stat().st_size / 4 * (1 + 2 / 64)
    tokenizer = (folder / "tokenizer.json").stat().st_size
    print(f"{weights / 1e6:.2f} MB at 8 bits, tokenizer {tokenizer / 1e3:.0f} kB")
    if weights > MOST_WEIGHTS or tokenizer > MOST_TOKENIZER:
        raise SystemExit(f"too big: at most {MOST_WEIGHTS} and {MOST_TOKENIZER} bytes")


if __name__ == "__main__":
    main()
