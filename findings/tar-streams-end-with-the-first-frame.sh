#!/usr/bin/env bash
# Guess:   `tarfile.open(fileobj=blob, mode="r|zst")`, or `r|*`, of backports.zstd (Python 3.14's tarfile for older ones) lists a zstd
#          layer as it comes from a registry; if it cannot read one it raises.
# Happens: streams end with the first frame. In zstd:chunked layers, and in those that several threads wrote, each file or block is a frame
#          of its own: the listing has the files of the first one, and nothing is raised, so a listing has one file of a
#          thousand, and a copy unpacks that. gzip's streams do the same with several members, as eStargz has them. `r:zst`, which seeks, reads
#          all. zstandard's `read_to_iter` and `decompressobj` stop there, too, without a word; its `stream_reader` goes on.
# Version: backports.zstd 1.8.0, zstandard 0.25.0 (PyPI), Python 3.11 to 3.13. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'backports.zstd==1.8.0' 'zstandard==0.25.0'
venv/bin/python - <<'PY'
import gzip
import io
from importlib.metadata import version

import zstandard
from backports.zstd import tarfile

NAMES = ["usr/a", "usr/b", "usr/c"]
pieces = []
for name in NAMES:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo(name)
        member.size = 512
        file.addfile(member, io.BytesIO(bytes(512)))
    pieces.append(packed.getvalue()[:1024])
plain = b"".join(pieces) + bytes(1024)
# As zstd:chunked: a frame for each file, and its table at the end in a frame that is to be skipped.
table = (0x184D2A50).to_bytes(4, "little") + (8).to_bytes(4, "little") + bytes(8)
layers = {
    "zst": b"".join(map(zstandard.compress, [*pieces, bytes(1024)])) + table,
    "gz": b"".join(map(gzip.compress, [*pieces, bytes(1024)])),
}
print("backports.zstd", version("backports.zstd"), "zstandard", version("zstandard"))
for kind, layer in layers.items():
    for mode, expected in ((f"r:{kind}", NAMES), (f"r|{kind}", NAMES[:1]), ("r|*", NAMES[:1])):
        with tarfile.open(fileobj=io.BytesIO(layer), mode=mode) as file:
            names = file.getnames()
        print(f"tarfile, {mode} of {kind} in {len(pieces) + 1} frames or members:", names)
        assert names == expected
layer, reader = layers["zst"], zstandard.ZstdDecompressor
sizes = {
    "stream_reader": len(reader().stream_reader(io.BytesIO(layer)).read()),
    "read_to_iter": len(b"".join(reader().read_to_iter(io.BytesIO(layer)))),
    "decompressobj": len(reader().decompressobj().decompress(layer)),
}
print(f"zstandard, of {len(plain)} bytes:", sizes)
assert sizes == {"stream_reader": len(plain), "read_to_iter": 1024, "decompressobj": 1024}
PY
