#!/usr/bin/env bash
# Guess:   `storageUri: s3://bucket/models/llama` brings the folder models/llama to the server, as `gs://` does.
# Happens: KServe asks S3 for everything that begins so: models/llama-70b and models/llama2 come, too, into folders `-70b` and `2` beside
#          the model. Bytes, start and disk are those of all neighbours, and a server that looks for weights in all folders finds several
#          models. A slash at the end helps. Files without content are left out without a word, so a model that brings its own code as a
#          package has no `__init__.py`.
# Version: kserve-storage 0.21.0, moto 5.2.5 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'kserve-storage==0.21.0' 'moto[server,s3]==5.2.5'
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/moto_server -H 127.0.0.1 -p "$port" >server.log 2>&1 & server=$!
for _ in $(seq 300); do venv/bin/python -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:$port
venv/bin/python - <<'PY' 2>download.log || { tail -5 download.log; exit 1; }
from importlib.metadata import version
from pathlib import Path

import boto3
from kserve_storage import Storage

stored = boto3.client("s3")
stored.create_bucket(Bucket="bucket")
names = ("llama/config.json", "llama/model.safetensors", "llama/code/__init__.py", "llama-70b/model.safetensors", "llama2/config.json")
for name in names:
    stored.put_object(Bucket="bucket", Key=f"models/{name}", Body=b"" if "__init__" in name else name.encode())
print("kserve-storage", version("kserve-storage"), "in the bucket:", *names)
brought = {}
for address in ("s3://bucket/models/llama", "s3://bucket/models/llama/"):
    target = Path(f"target-{len(brought)}")
    target.mkdir()
    Storage.download(address, str(target))
    brought[address] = sorted(str(each.relative_to(target)) for each in target.rglob("*") if each.is_file())
    print(f"{address}:", *brought[address])
model = ["config.json", "model.safetensors"]
assert list(brought.values()) == [["-70b/model.safetensors", "2/config.json", *model], model]
PY
