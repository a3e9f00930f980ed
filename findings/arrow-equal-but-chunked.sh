#!/usr/bin/env bash
# Guess:   `pa.array(series) == other` compares values, so a column that was read back is equal to the one that was
#          written; where the two cannot be compared something is raised.
# Happens: a pandas column of Arrow's own strings becomes an Array when it has one chunk and a ChunkedArray when it has
#          several. An Array and a ChunkedArray of the same values are never equal, and nothing is said: `==` is False.
#          A check of small files passes, and the same check refuses every file of more than one row group. What
#          compares values whatever their chunks is `ChunkedArray.equals`, on both sides a ChunkedArray.
# Version: pyarrow 26.0.1, pandas 2.3.3 (PyPI). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'pyarrow==26.0.1' 'pandas==2.3.3'
cd "$folder"
venv/bin/python - <<'PY'
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "pandas", pd.__version__)
written = pa.table({"digest": [f"sha256:{at:064x}" for at in range(4)]})
for rows in (4, 2):
    pq.write_table(written, "images.parquet", row_group_size=rows)
    read = pa.concat_tables([pq.ParquetFile("images.parquet").read_row_group(at) for at in range(4 // rows)])
    series = read.to_pandas(types_mapper={pa.string(): pd.ArrowDtype(pa.string())}.get)["digest"]
    mine, other = pa.array(series), written["digest"].combine_chunks()
    same, values = mine == other, read["digest"].equals(written["digest"])
    print(f"{4 // rows} row groups: {type(mine).__name__} == {type(other).__name__}: {same}; equals: {values}")
    assert values and same == (rows == 4), (rows, same)
PY
