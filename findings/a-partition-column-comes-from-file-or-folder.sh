#!/usr/bin/env bash
# Guess:   where a Parquet file has a column `stage` and lies in a folder `stage=released` (it was copied there when it was released, and still
#          says candidate), a reader shows one of the two, always the same, or refuses.
# Happens: three readers, and what one of them does depends on how it was called. duckdb: the folder's, also for one file. polars: the
#          folder's where a folder is read, the file's where a pattern or the file is. pyarrow: the folder's by `dataset`, the file's
#          by `read_table` of the file, and `read_table` of the folder raises, though both are text.
# Version: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'duckdb==2.0.1' 'polars==2.1.0' 'pyarrow==26.0.1'
venv/bin/python - <<'PY'
import pathlib
from importlib.metadata import version

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

print(*(f"{name} {version(name)}" for name in ("duckdb", "polars", "pyarrow")))
place = pathlib.Path("evidence", "stage=released")
place.mkdir(parents=True)
file = str(place / "a.parquet")
pyarrow.parquet.write_table(pyarrow.table({"image": ["app"], "stage": ["candidate"]}), file)
ways = {
    "duckdb, pattern": (lambda: duckdb.sql("select stage from 'evidence/*/*.parquet'").fetchall()[0][0], "released"),
    "duckdb, file": (lambda: duckdb.sql(f"select stage from '{file}'").fetchall()[0][0], "released"),
    "polars, folder": (lambda: polars.read_parquet("evidence")["stage"][0], "released"),
    "polars, pattern": (lambda: polars.read_parquet("evidence/*/*.parquet")["stage"][0], "candidate"),
    "polars, file": (lambda: polars.read_parquet(file)["stage"][0], "candidate"),
    "pyarrow, dataset": (
        lambda: pyarrow.dataset.dataset("evidence", partitioning="hive").to_table()["stage"][0].as_py(), "released"
    ),
    "pyarrow, read_table of the file": (lambda: pyarrow.parquet.read_table(file)["stage"][0].as_py(), "candidate"),
    "pyarrow, read_table of the folder": (
        lambda: pyarrow.parquet.read_table("evidence")["stage"][0].as_py(), "ArrowTypeError"
    ),
}
for name, (read, expected) in ways.items():
    try:
        seen = read()
    except pyarrow.ArrowTypeError as error:
        seen = type(error).__name__
        print("   ", str(error)[:120])
    print(f"{name}: {seen}")
    assert seen == expected
PY
