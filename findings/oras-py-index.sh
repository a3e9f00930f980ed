#!/usr/bin/env bash
# Guess:   the Python client of ORAS pulls a tag that names an index as the Go client does: it chooses a child, or it
#          refuses with an error.
# Happens: `pull` asks for the index only, looks for `layers` in it, returns an empty list and raises nothing. A script that
#          pulls a multi-platform artifact goes on with no files and exit code 0. The child, asked for by digest, comes.
# Version: oras (PyPI) 0.2.43. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'oras==0.2.43'
cd "$folder"
venv/bin/python - <<'PY'
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import oras.client

OCI = "application/vnd.oci.image"
stored = {}


def keep(raw, media_type):
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    stored[digest] = (raw, media_type)
    return {"mediaType": media_type, "digest": digest, "size": len(raw)}


layer = {**keep(b"hello", f"{OCI}.layer.v1.tar"), "annotations": {"org.opencontainers.image.title": "a.txt"}}
config = keep(b"{}", f"{OCI}.config.v1+json")
manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
child = {**keep(json.dumps(manifest).encode(), manifest["mediaType"]), "platform": {"os": "linux", "architecture": "amd64"}}
index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [child]}
stored["multi"] = (json.dumps(index).encode(), index["mediaType"])
asked = []


class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        asked.append("index" if name == "multi" else "child" if name == child["digest"] else "blob")
        raw, media_type = stored[name]
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_address[1]}"
client = oras.client.OrasClient(hostname=host, insecure=True)
from_index = client.pull(target=f"{host}/app:multi", outdir="one")
asked_for_index = list(asked)
from_child = client.pull(target=f"{host}/app@{child['digest']}", outdir="two")
print("oras", version("oras"))
print("pull of the index:", from_index, "asked for:", asked_for_index)
print("pull of its child:", [path.rsplit("/", 1)[-1] for path in from_child])
assert from_index == [] and asked_for_index == ["index"]
assert [path.rsplit("/", 1)[-1] for path in from_child] == ["a.txt"]
PY
