"""Tries what is installed: each instruction set of this machine tells the bundled model's story. Used on the wheels."""

import os
import sys

import soban
from soban.ops import native

library = native.library()
if library is None:
    sys.exit(f"{native.library_path()} is missing or does not load")
stories = {}
for isa in native.isas():
    if not library.soban_isa_works(native.ISAS.index(isa)):
        sys.exit(f"{isa}: miscalculates")
    os.environ["SOBAN_ISA"] = isa
    stories[isa] = soban.load().generate("Once upon a time", max_new_tokens=24, do_sample=False)
print(f"{native.library_path()}: {', '.join(stories)}")
if len(set(stories.values())) != 1:
    sys.exit(f"the instruction sets tell different stories: {stories}")
