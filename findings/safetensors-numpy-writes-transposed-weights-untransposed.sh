#!/usr/bin/env bash
# Guess:   what `safetensors.numpy` writes is the array that it was given: a transposed weight (`kernel.T`, as whoever carries weights
#          from one framework to another writes it) comes back transposed, or is refused, as `safetensors.torch` refuses it.
# Happens: 0.8.0 takes shape and bytes apart from each other: the shape is the transposed one, the bytes are those of memory. The
#          file is valid, has the right names, shapes and size, its loading says nothing, and the weights are others. An array in
#          Fortran's order, which is whole and dense, too. 0.7.0 wrote both right, so an update alone changes what a conversion makes.
#          `numpy.ascontiguousarray` around each array helps in both.
# Version: safetensors 0.7.0 and 0.8.0, numpy 2.3.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
for version in 0.7.0 0.8.0; do
  venv/bin/pip install -q --disable-pip-version-check "safetensors==$version" 'numpy==2.3.5'
  venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy
from safetensors import numpy as tensors

which = version("safetensors")
kernel = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
given = {"transposed": kernel.T, "fortran": numpy.asfortranarray(kernel), "made whole": numpy.ascontiguousarray(kernel.T)}
for what, array in given.items():
    tensors.save_file({"kernel": array}, "model.safetensors")
    back = tensors.load_file("model.safetensors")["kernel"]
    same = numpy.array_equal(back, array)
    print(f"safetensors {which}, {what}: given {array.tolist()}, read back {back.tolist()}")
    assert back.shape == array.shape and same == (which == "0.7.0" or what == "made whole")
PY
done
