#!/usr/bin/env bash
# Guess:   `fs.cat_file(path, 0, 8)` gives the first eight bytes of a file, whatever file system of fsspec `fs` is: the call is fsspec's
#          (`cat_file(path, start, end)`), and code that was tested in memory or on disk runs against the bucket.
# Happens: s3fs has another argument in front, `version_id`. The 0 is the version, the 8 is the start: what comes back is everything *but*
#          the first eight bytes, so a reader of safetensors headers loads the whole file and takes weights for the header's length.
#          Nothing is raised. By name (`start=0, end=8`) the call means the same everywhere. And the file's own way to it,
#          `open(path).read(8)`, asks for up to 50 MiB at once.
# Version: s3fs 2026.9.0, fsspec 2026.9.0, moto 5.2.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 's3fs==2026.9.0' 'fsspec==2026.9.0' 'moto[server,s3]==5.2.5'
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/moto_server -H 127.0.0.1 -p "$port" >server.log 2>&1 & server=$!
for _ in $(seq 300); do venv/bin/python -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=us-east-1 venv/bin/python - "http://127.0.0.1:$port" <<'PY'
import sys
from importlib.metadata import version

import fsspec
import s3fs

bucket = s3fs.S3FileSystem(endpoint_url=sys.argv[1])
content = (1000).to_bytes(8, "little") + bytes(2**20)
bucket.mkdir("models")
sizes = {}
print("s3fs", version("s3fs"), "fsspec", version("fsspec"))
for name, system, path in (("memory", fsspec.filesystem("memory"), "/m.safetensors"), ("s3", bucket, "models/m.safetensors")):
    system.pipe_file(path, content)
    sizes[name] = len(system.cat_file(path, 0, 8))
    print(f"{name}: cat_file(path, 0, 8) gives {sizes[name]} bytes of {len(content)}; by name", len(system.cat_file(path, start=0, end=8)))
    assert system.cat_file(path, start=0, end=8) == content[:8]
with bucket.open("models/m.safetensors") as file:
    file.read(8)
    held = file.cache.end - file.cache.start
print(f"open(path).read(8) on s3 fetched {held} bytes; it would fetch up to {file.blocksize}")
assert sizes == {"memory": 8, "s3": len(content) - 8} and held == len(content) and file.blocksize == 50 * 2**20
PY
