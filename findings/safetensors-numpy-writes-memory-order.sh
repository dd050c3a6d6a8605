#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy.save_file writes an array in Fortran order as it lies in memory, under its shape.
#
# What is read back has the right shape, the right values and none of them in its place; nothing is said, neither on
# writing nor on reading. 0.7.0 wrote the same array rightly. Whoever transposes a weight with NumPy before saving it
# (`w.T`, GPT-2's matrices, an SVD's factors) gets a model that talks nonsense. The torch module of the same package
# refuses such tensors by name. np.ascontiguousarray is the cure. (safetensors#825 is open.)
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
for version in 0.7.0 0.8.0; do
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 "safetensors==$version"
  "$folder/venv/bin/python" - "$version" "$folder/weights.safetensors" <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

version, path = sys.argv[1:]
weight = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"transposed": weight.T, "copied": np.ascontiguousarray(weight.T)}, path)
back = load_file(path)
right = np.array_equal(back["transposed"], weight.T)
print(f"safetensors {version}: {weight.T.tolist()} comes back as {back['transposed'].tolist()}")
assert np.array_equal(back["copied"], weight.T)
assert right == (version == "0.7.0")
PYTHON
done
