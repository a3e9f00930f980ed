#!/usr/bin/env bash
# Guess:   reading a Deployment with the Python client of Kubernetes, changing its image and writing it back (`replace_namespaced_deployment`)
#          leaves everything else; a client that is older than the cluster says so where it meets a field that it does not know.
# Happens: unknown fields are dropped at reading, without a word. Client 29 knows no `image` volumes (a model as an OCI image, Kubernetes
#          1.31): the volume is written back as a name alone, and a volume without a source "is implied to be an EmptyDir", by Kubernetes'
#          own API. So a new image for the server takes its model away, and the folder is there and empty. Client 36 keeps it.
# Version: kubernetes 29.0.0 and 36.0.3 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv old && python3 -m venv new
old/bin/pip install -q --disable-pip-version-check 'kubernetes==29.0.0'
new/bin/pip install -q --disable-pip-version-check 'kubernetes==36.0.3'
cat >replace.py <<'PY'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from kubernetes import client

model = {"reference": "registry.example/models/llama@sha256:" + "0" * 64, "pullPolicy": "IfNotPresent"}
container = {"name": "server", "image": "registry.example/server:1", "volumeMounts": [{"name": "model", "mountPath": "/models"}]}
stored = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "llama", "namespace": "models"},
    "spec": {
        "selector": {"matchLabels": {"app": "llama"}},
        "template": {
            "metadata": {"labels": {"app": "llama"}},
            "spec": {"containers": [container], "volumes": [{"name": "model", "image": model}]},
        },
    },
}
put = []


class Server(BaseHTTPRequestHandler):
    """Holds one Deployment, and keeps what is put in its place."""

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(stored).encode())

    def do_GET(self):
        self.answer()

    def do_PUT(self):
        put.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
apps = client.AppsV1Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")))
deployment = apps.read_namespaced_deployment("llama", "models")
deployment.spec.template.spec.containers[0].image = "registry.example/server:2"
apps.replace_namespaced_deployment("llama", "models", deployment)
written = put[0]["spec"]["template"]["spec"]
print(f"kubernetes {version('kubernetes')}: image {written['containers'][0]['image']}, volumes {written['volumes']}")
assert written["containers"][0]["image"].endswith(":2")
assert written["volumes"] == [{"name": "model"} if sys.argv[1] == "loses" else {"name": "model", "image": model}]
PY
old/bin/python replace.py loses 2>&1 | tee said
test "$(grep -c . said)" = 1  # not even a warning
new/bin/python replace.py keeps
