"""Makes the bundled story model: stories -> tokenizer -> training -> 8 bits, in half an hour on 2 cores.

    python scripts/make_bundled.py out/bundled             # trains, leaves a Hugging Face folder, and bundles it
    python scripts/make_bundled.py out/bundled --resume    # goes on with an interrupted training

Everything but the number of steps that the half hour holds is decided by the seed.
"""

import argparse
from pathlib import Path

from bundle import bundle

from soban.learn.train import TrainOptions, train
from soban.loading import BUNDLED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder for the model")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    parser.add_argument("--minutes", type=float, default=30, help="time to train")
    given = parser.parse_args()
    train(TrainOptions(out=given.out, stories=80_000, batch_size=3072, minutes=given.minutes, resume=given.resume))
    bundle(Path(given.out), BUNDLED)


if __name__ == "__main__":
    main()
