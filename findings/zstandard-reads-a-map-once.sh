#!/usr/bin/env bash
# Guess:   `ZstdDecompressor().stream_reader(mapped)` reads a memory map as the buffer that it is, from its first byte, so
#          any number of readers may be made of one map, as of bytes.
# Happens: a map has a method `read`, so it is taken for a file: each reader goes on where the one before stopped. The
#          second one gets nothing and raises nothing. `memoryview(mapped)` is read as a buffer.
# Version: zstandard 0.25.0 (PyPI). Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'zstandard==0.25.0'
cd "$folder"
venv/bin/python - <<'PY'
import mmap

import zstandard

print("zstandard", zstandard.__version__)
with open("frame", "w+b") as file:
    file.write(zstandard.compress(b"x" * 100))
    file.flush()
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for what, source in (("map", mapped), ("view of it", memoryview(mapped)), ("bytes", mapped[:])):
        sizes = [len(zstandard.ZstdDecompressor().stream_reader(source).read()) for _ in range(2)]
        print(f"{what}: two readers get {sizes} bytes")
        assert sizes == ([100, 0] if what == "map" else [100, 100]), sizes
PY
