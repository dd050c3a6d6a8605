"""Puts a trained model into the package as the one that comes with soban: 8-bit weights, tokenizer, settings.

python scripts/bundle.py out/stories [--target FOLDER]
"""

import argparse
import json
import shutil
import struct
import tempfile
from pathlib import Path

from soban.loading.loaded import BUNDLED, CONTINUES
from soban.models import architecture
from soban.packing.assemble import pack
from soban.packing.fitting import fitted
from soban.packing.packed_file import ORIGIN
from soban.weights import checksums
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import ALIGNMENT

GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
SETTINGS = ("config.json", GENERATION, "tokenizer.json", "tokenizer_config.json")
TEMPERATURE = 0.5  # by the judge: docs/bundled-model.md
MOST = 6_000_000  # bytes in all, so that the wheel stays small
LICENSE = "Apache-2.0"  # soban's own: the corpus is its work, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, default=BUNDLED)
    options = parser.parse_args()
    bundle(options.folder, options.target)


def bundle(folder: Path, target: Path) -> None:
    """The model of a Hugging Face folder in 8 bits, in place of the one that the target held."""
    others = sorted({path.name for path in target.iterdir()} - {*SETTINGS, WEIGHTS}) if target.exists() else []
    if others:
        raise SystemExit(f"{target}: holds {others[0]}, which is no part of a bundled model; choose another --target")
    checkpoint = open_checkpoint(folder)
    model = architecture(checkpoint.config)
    fit = fitted(model, checkpoint)
    model, checkpoint = fit.architecture, fit.checkpoint
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        pack(model, checkpoint, "q8", work / WEIGHTS)
        sign(work / WEIGHTS)
        for setting in SETTINGS:
            shutil.copyfile(folder / setting, work / setting)
        settings = json.loads((work / GENERATION).read_text(encoding="utf-8"))
        settings["temperature"] = TEMPERATURE
        settings[CONTINUES] = True  # `soban run` goes on with a story, whatever `soban chat` does
        (work / GENERATION).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in work.iterdir())
        if size > MOST:
            raise SystemExit(f"too big: {size / 1e6:.2f} MB, at most {MOST / 1e6:.0f} MB")
        target.mkdir(exist_ok=True)
        for path in sorted(work.iterdir()):
            path.replace(target / path.name)
    print(f"{target}: {size / 1e6:.2f} MB")


def sign(path: Path) -> None:
    """Writes the licence into a packed file's metadata, in place of the folder that it was made of."""
    packed = path.read_bytes()
    start = 8 + struct.unpack("<Q", packed[:8])[0]
    header = json.loads(packed[8:start])
    del header["__metadata__"][ORIGIN]
    header["__metadata__"]["license"] = LICENSE
    sums = {name: int(value, 16) for name, value in json.loads(header["__metadata__"][checksums.KEY]).items() if name}
    header["__metadata__"][checksums.KEY] = checksums.text(sums)  # of the header: filled in below
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    path.write_bytes(struct.pack("<Q", len(text)) + checksums.sealed(text) + packed[start:])


if __name__ == "__main__":
    main()
