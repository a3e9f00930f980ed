#!/usr/bin/env bash
# Guess:   a column of Arrow's dictionary type is the compact way to write words to Parquet: what is written of a slice is the slice.
# Happens: with each group of rows the whole dictionary of the column is written, also the words that no row of the group has. A
#          million rows with a word of their own each, in groups of 16,384, make a file many times the size of that of plain strings,
#          for which Parquet makes a dictionary by itself, a group at a time. A table that is read back and cut has the same.
# Version: pyarrow 26.0.1 (PyPI). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pyarrow==26.0.1'
cd "$folder"
venv/bin/python - <<'PY'
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__)
words = pa.array([f"{number * 2654435761 % 2**32:032x}" for number in range(200_000)])
sizes = {}
for name, column in (("strings", words), ("dictionary", words.dictionary_encode())):
    pq.write_table(pa.table({"word": column}), f"{name}.parquet", row_group_size=16_384, compression="zstd")
    sizes[name] = Path(f"{name}.parquet").stat().st_size
    assert pq.read_table(f"{name}.parquet")["word"].to_pylist() == words.to_pylist()
ratio = sizes["dictionary"] / sizes["strings"]
print(f"{sizes}: the dictionary's is {ratio:.1f} times as large")
assert ratio > 5, sizes
PY
