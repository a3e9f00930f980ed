#!/usr/bin/env bash
# Guess:   `client.images.pull(name, tag)` of the Python package `docker` returns the image that was pulled, or raises.
# Happens: it reads the daemon's progress to the end without looking at it, and then returns what the daemon has under that name. A pull that
#          breaks after its first line (a layer that cannot be fetched, a full disk) is status 200 with an `errorDetail` in the
#          stream, as the engine's API has it; where an older image has the tag, that one comes back as if it were new. Where none has it, the
#          error is ImageNotFound, and the reason is gone. `push` raises nothing either. (A small daemon stands in here.)
# Version: docker 7.2.0 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'docker==7.2.0'
venv/bin/python - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import docker

OLD = "sha256:" + "0" * 64
REASON = "no space left on device"
has_old = True


class Daemon(BaseHTTPRequestHandler):
    """Has one image, of last week, under registry.example/app:v1; each transfer breaks after it began."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, *lines):
        body = "".join(json.dumps(line) + "\r\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.47", "MinAPIVersion": "1.24", "Version": "28.0.0"})
        elif has_old:
            self.answer(200, {"Id": OLD, "RepoTags": ["registry.example/app:v1"]})
        else:
            self.answer(404, {"message": "No such image: registry.example/app:v1"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        begun = {"status": "Pulling fs layer", "progressDetail": {}, "id": "4f4fb700ef54"}
        self.answer(200, begun, {"errorDetail": {"message": REASON}, "error": REASON})

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Daemon)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{server.server_address[1]}")
print("docker", version("docker"))
pulled = client.images.pull("registry.example/app", tag="v1")
print("pull where an old image has the tag:", pulled.id == OLD and "the old image")
pushed = client.images.push("registry.example/app", tag="v1")
print("push:", type(pushed).__name__, "with the reason in it" if REASON in pushed else "")
has_old = False
try:
    client.images.pull("registry.example/app", tag="v1")
    reason = ""
except docker.errors.ImageNotFound as error:
    reason = str(error)
print("pull where none has:", reason)
assert pulled.id == OLD
assert isinstance(pushed, str) and REASON in pushed
assert "No such image" in reason and REASON not in reason
PY
