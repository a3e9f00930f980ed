#!/usr/bin/env bash
# Guess:   what GGUFWriter of the package gguf writes into a file, GGUFReader of the same version reads out of it, or the writer refuses it.
# Happens: an empty text and an empty list are not written, without a word: `general.license` set to "" is no field at all. A list of lists
#          is written as such, and `contents()` gives one flat list of it. A list of whole numbers is of 32 bits by its
#          first element: [1, 2**40] is no refusal but a struct.error, when the whole file is already begun. Numbers alone that large
#          have a method each (`add_uint64`), lists have none.
# Version: gguf 0.19.0, numpy 2.4.6 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'gguf==0.19.0' 'numpy==2.4.6'
venv/bin/python - <<'PY'
import os
import struct
from importlib.metadata import version

from gguf import GGUFReader, GGUFWriter

ABSENT = "no field"


def through(fill):
    """What a file has under `own.key` after `fill` was given its writer."""
    writer = GGUFWriter("model.gguf", "llama")
    fill(writer)
    writer.write_header_to_file()
    try:
        writer.write_kv_data_to_file()
    finally:
        writer.close()
    field = GGUFReader("model.gguf").get_field("own.key")
    return ABSENT if field is None else field.contents()


print("gguf", version("gguf"))
lists = {"empty list": [], "list": [1, 2], "lists": [[1, 2], [3]]}
seen = {name: through(lambda writer, value=value: writer.add_array("own.key", value)) for name, value in lists.items()}
seen |= {f"text {text!r}": through(lambda writer, text=text: writer.add_string("own.key", text)) for text in ("", "MIT")}
seen["one large number"] = through(lambda writer: writer.add_uint64("own.key", 2**40))
for name, value in seen.items():
    print(f"{name}: {value}")
try:
    through(lambda writer: writer.add_array("own.key", [1, 2**40]))
    said = ""
except struct.error as error:
    said = str(error)
print("list with a large number: struct.error,", said, "; left behind:", os.path.getsize("model.gguf"), "bytes")
assert said and os.path.getsize("model.gguf") > 0
assert seen["empty list"] == seen["text ''"] == ABSENT
assert seen["list"] == [1, 2] and seen["text 'MIT'"] == "MIT" and seen["one large number"] == 2**40
assert seen["lists"] == [1, 2, 3]
PY
