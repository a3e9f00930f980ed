#!/usr/bin/env bash
# Guess: two uploads of the same object at once, by parts, are safe in every object store: the one that ends last counts, as in S3.
# What happens: Azure throws away all blocks that are not in a list as soon as one list is committed, also those of another upload
#   that is still under way. The second one ends with 400 InvalidBlockList, though its content was the same.
# Versions: obstore 0.12.1, Azurite 3.35.0. Date: 2026-11-29. Needs node, npm and Python.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q obstore==0.12.1 azure-storage-blob==12.26.0
npm install --silent --no-audit --no-fund --prefix "$work/npm" azurite@3.35.0 >/dev/null
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/npm/node_modules/.bin/azurite-blob" --silent --disableTelemetry --skipApiVersionCheck --inMemoryPersistence \
  --blobHost 127.0.0.1 --blobPort "$port" >/dev/null 2>&1 &
server=$!
cat >"$work/ask.py" <<'END'
import os, sys, threading, time
import obstore
from azure.storage.blob import BlobServiceClient
from obstore.store import AzureStore

port, part = sys.argv[1], 8 << 20
key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # of every emulator
service = BlobServiceClient(f"http://127.0.0.1:{port}/devstoreaccount1", credential={"account_name": "devstoreaccount1", "account_key": key})
for _ in range(100):
    try:
        service.create_container("images")
        break
    except Exception:
        time.sleep(0.1)
os.environ["AZURITE_BLOB_STORAGE_URL"] = f"http://127.0.0.1:{port}"
store = AzureStore("images", use_emulator=True, client_options={"allow_http": True})
begun, ended, said = threading.Event(), threading.Event(), {}


def slow():
    yield bytes(part)
    yield bytes(part)
    begun.set()
    ended.wait(60)
    yield b"end"


def quick():
    yield bytes(part)
    yield bytes(part)
    yield b"end"


def upload(name, pieces):
    try:
        obstore.put(store, "layer", pieces, chunk_size=part, max_concurrency=1)
        said[name] = "stored"
    except Exception as error:
        said[name] = "InvalidBlockList" if "InvalidBlockList" in str(error) else str(error)


first = threading.Thread(target=upload, args=("first", slow()))
first.start()
begun.wait(60)
upload("second", quick())
ended.set()
first.join()
print(f"the one that ended first: {said['second']}; the one that began before it: {said['first']}; bytes: {obstore.head(store, 'layer')['size']}")
END
said=$("$work/venv/bin/python" "$work/ask.py" "$port")
echo "$said"
[ "$said" = "the one that ended first: stored; the one that began before it: InvalidBlockList; bytes: 16777219" ]
