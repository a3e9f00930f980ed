#!/usr/bin/env bash
# Guess:   the same tensors and the same metadata, saved twice by one version of safetensors, are the same file: the format sorts its
#          tensors, holds no time and no host, and a registry or a cache that goes by digests keeps the model once.
# Happens: the entries of `__metadata__` are written in an order that is drawn by chance in every save. With two entries there are two
#          digests, with five 120, for one model. Weights differ in nothing, yet each training job that saves again, and each copy
#          that is loaded and saved, is a new layer, and a signature of the one does not fit the other. Without metadata, or with the one
#          entry `format` that transformers writes, the files are equal.
# Version: safetensors 0.8.0, numpy 2.3.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'safetensors==0.8.0' 'numpy==2.3.5'
venv/bin/python - <<'PY'
import hashlib
from importlib.metadata import version

import numpy
from safetensors.numpy import load, save

print("safetensors", version("safetensors"))
weights = {"a": numpy.zeros(3), "b": numpy.ones(4)}
five = {"format": "pt", "step": "1000", "run": "x", "base": "y", "data": "z"}
for metadata in (None, {"format": "pt"}, five):
    files = [save(weights, metadata=metadata) for _ in range(20)]
    digests = {hashlib.sha256(file).hexdigest() for file in files}
    print(f"{len(metadata or {})} entries of metadata: 20 saves, {len(digests)} digests, sizes", {len(file) for file in files})
    assert all(numpy.array_equal(load(file)["b"], weights["b"]) for file in files)
    assert len({len(file) for file in files}) == 1
    # Twenty draws out of 120 orders that are all alike: less than one in 10^39.
    assert (len(digests) > 1) == (metadata is five)
PY
