#!/usr/bin/env bash
# Guess:   Parquet files in folders `commit=0012345/` have a column `commit` with the text of the folder's name, for all readers: hive
#          partitions are text, and 7350e12 is a short commit id as good as any.
# Happens: it depends on the reader, and on which other commits are there. A folder whose ids are digits alone is 12345 for
#          pyarrow (int32) and polars (Int64). polars also takes digits with an e for a power of ten: 7350e12 is 7.35e15, 1e400000 infinity, so
#          two commits are one. Let one id with another letter come, and the column is text for all rows. duckdb keeps text. A filter
#          `commit == "0012345"` is an error one day and finds its row the next.
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


def by_pyarrow(folder):
    return pyarrow.dataset.dataset(folder, partitioning="hive").to_table()["commit"].to_pylist()


def by_polars(folder):
    return polars.read_parquet(folder)["commit"].to_list()


def by_duckdb(folder):
    return [row[0] for row in duckdb.sql(f"select commit from '{folder}/*/*.parquet'").fetchall()]


seen = {}
for commits in (("0012345",), ("0012345", "7350e12"), ("1e400000", "2e400000"), ("0012345", "7350e12", "abc1234")):
    folder = "+".join(commits)
    for commit in commits:
        place = pathlib.Path(folder, f"commit={commit}")
        place.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"bytes": [1]}), place / "a.parquet")
    for reader in (by_pyarrow, by_polars, by_duckdb):
        seen[commits, reader] = sorted(reader(folder))
        print(f"{', '.join(commits)} {reader.__name__}: {seen[commits, reader]}")
    assert seen[commits, by_duckdb] == sorted(commits)
digits, power, huge, text = dict.fromkeys(commits for commits, _ in seen)
assert seen[digits, by_pyarrow] == seen[digits, by_polars] == [12345]
assert seen[power, by_pyarrow] == list(power) and seen[power, by_polars] == [12345.0, 7.35e15]
assert seen[huge, by_polars] == [float("inf")] * 2
assert seen[text, by_pyarrow] == seen[text, by_polars] == list(text)
try:
    polars.scan_parquet(digits[0]).filter(polars.col("commit") == digits[0]).collect()
    filtered = "a row"
except polars.exceptions.PolarsError as error:
    filtered = type(error).__name__
later = polars.scan_parquet("+".join(text)).filter(polars.col("commit") == digits[0]).collect()
print("filter by the text, one commit:", filtered, "; three commits:", len(later), "row")
assert filtered == "ComputeError" and len(later) == 1
PY
