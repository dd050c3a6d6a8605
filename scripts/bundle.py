"""Puts a trained model into the package as the one that comes with soban: 8-bit weights, tokenizer, settings.

python scripts/bundle.py out/stories [--target FOLDER]
"""

import argparse
import json
import shutil
from pathlib import Path

from soban.loading import BUNDLED, CONTINUES
from soban.models import architecture
from soban.models.assemble import check_tensors, pack
from soban.weights.checkpoint import open_checkpoint

GENERATION = "generation_config.json"
SETTINGS = ("config.json", GENERATION, "tokenizer.json", "tokenizer_config.json")
TEMPERATURE = 0.4  # a small model keeps to its names and things better where it chooses the likelier
MOST = 6_000_000  # bytes in all, so that the wheel stays small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, default=BUNDLED)
    options = parser.parse_args()
    bundle(options.folder, options.target)


def bundle(folder: Path, target: Path) -> None:
    """The model of a Hugging Face folder in 8 bits, in place of what the target held."""
    checkpoint = open_checkpoint(folder)
    made = architecture(checkpoint.config)
    check_tensors(made, checkpoint)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    pack(made, checkpoint, "q8", target / "model.safetensors")
    for name in SETTINGS:
        shutil.copyfile(folder / name, target / name)
    settings = json.loads((target / GENERATION).read_text(encoding="utf-8"))
    settings["temperature"] = TEMPERATURE
    settings[CONTINUES] = True  # `soban run` goes on with a story, whatever `soban chat` does
    (target / GENERATION).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size / 1e6:.2f} MB")
    if size > MOST:
        raise SystemExit(f"too big: at most {MOST / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
