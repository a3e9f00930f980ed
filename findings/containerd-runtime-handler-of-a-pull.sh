#!/usr/bin/env bash
# Guess:   containerd pulls an image for the runtime that a kubelet names with the pull: CRI has `ImageSpec.runtime_handler` for it,
#          and `runtime_platforms` in the configuration says the runtime's snapshotter.
# Happens: 2.1.9 unpacks into the default snapshotter whatever the field says; what counts is an annotation of the *pod*,
#          `io.containerd.cri.runtime-handler`. The pod that follows unpacks the same image again into the runtime's snapshotter,
#          while it is created. With `discard_unpacked_layers = true` that cannot be: layers are gone once they are unpacked, and the
#          pod fails with "content digest ...: not found" for an image that is listed as there; pulling it again mends it only
#          with the annotation.
# Version: github.com/containerd/containerd/v2 v2.1.9 (needs go and root; builds its daemon, some minutes the first time), grpcio
#          1.83.0. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf 'module finding\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.9\n' >go.mod
CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -tags=no_btrfs,no_devmapper,no_zfs' \
  go build -o containerd github.com/containerd/containerd/v2/cmd/containerd 2>build.log || { cat build.log; exit 1; }
./containerd --version | cut -d' ' -f1-3
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'grpcio==1.83.0'
cat >try.py <<'PY'
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

folder = Path(sys.argv[1])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

OCI = "application/vnd.oci.image"
blobs = {}


def put(raw, kind):
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    blobs[digest] = (kind, raw)
    return {"mediaType": kind, "digest": digest, "size": len(raw)}


tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode="w") as made:
    entry = tarfile.TarInfo("pause")
    entry.size, entry.mode = 5, 0o755
    made.addfile(entry, io.BytesIO(b"pause"))
diff = "sha256:" + hashlib.sha256(tar.getvalue()).hexdigest()
layer = put(gzip.compress(tar.getvalue(), mtime=0), f"{OCI}.layer.v1.tar+gzip")
config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/pause"]}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
config = put(json.dumps(config).encode(), f"{OCI}.config.v1+json")
manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
blobs["v1"] = (manifest["mediaType"], json.dumps(manifest).encode())
blobs["sha256:" + hashlib.sha256(blobs["v1"][1]).hexdigest()] = blobs["v1"]


class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, raw = blobs.get(self.path.rsplit("/", 1)[-1], ("text/plain", b""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(raw).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_port}"
image = f"{host}/pause:v1"
(folder / "certs.d" / host).mkdir(parents=True)
(folder / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n[host."http://{host}"]\n')


def field(number, value):
    """One protobuf field: text, bytes of a message, or a small number."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    raw = value.encode() if isinstance(value, str) else value
    key = number << 3 | 2
    head = [key] if key < 128 else [key & 127 | 128, key >> 7]
    return bytes([*head, *([len(raw)] if len(raw) < 128 else [len(raw) & 127 | 128, len(raw) >> 7])]) + raw


def pod(annotated):
    """PodSandboxConfig, in the machine's network. annotated: it names the runtime, as a pod's annotation."""
    named = field(1, "io.containerd.cri.runtime-handler") + field(2, "own")
    metadata = field(1, "pod") + field(2, "1") + field(3, "default")
    linux = field(2, field(1, field(1, 2)))
    return field(1, metadata) + (field(7, named) if annotated else b"") + field(8, linux)


class Node:
    """containerd with a runtime `own` that has a snapshotter of its own."""

    def __init__(self, name, discard):
        self.root = folder / name
        self.root.mkdir()
        socket, images = self.root / "c.sock", 'plugins."io.containerd.cri.v1.images"'
        runtime = 'plugins."io.containerd.cri.v1.runtime"'
        (self.root / "config.toml").write_text(
            f'version = 3\nroot = "{self.root}/root"\nstate = "{self.root}/state"\n'
            f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{self.root}/t.sock"\n'
            f'[{images}]\ndiscard_unpacked_layers = {discard}\nsnapshotter = "overlayfs"\n'
            f'[{images}.pinned_images]\nsandbox = "{image}"\n[{images}.registry]\nconfig_path = "{folder}/certs.d"\n'
            f'[{images}.runtime_platforms.own]\nplatform = "linux/amd64"\nsnapshotter = "native"\n'
            f'[{runtime}.containerd.runtimes.own]\nruntime_type = "{folder}/no-shim"\nsnapshotter = "native"\n'
        )
        unpacks = "".join(
            f'[[plugins."io.containerd.transfer.v1.local".unpack_config]]\nplatform = "linux/amd64"\nsnapshotter = "{each}"\n'
            for each in ("overlayfs", "native")
        )
        with (self.root / "config.toml").open("a") as file:
            file.write(unpacks)
        command = [folder / "containerd", "--config", self.root / "config.toml"]
        self.daemon = subprocess.Popen(command, stderr=(self.root / "log").open("w"))
        self.channel = grpc.insecure_channel(f"unix://{socket}")

    def call(self, name, body, service="ImageService"):
        return self.channel.unary_unary(f"/runtime.v1.{service}/{name}")(body, wait_for_ready=True, timeout=60)

    def pull(self, handler="", annotated=False):
        spec = field(1, image) + (field(19, handler) if handler else b"")
        self.call("PullImage", field(1, spec) + field(3, pod(annotated)))
        return self.held()

    def start(self):
        try:
            self.call("RunPodSandbox", field(1, pod(True)) + field(2, "own"), "RuntimeService")
        except grpc.RpcError as error:
            return error.details()
        raise SystemExit("there is no shim, and a pod runs")

    def held(self):
        """Snapshotters that have the image's file."""
        return sorted({each.relative_to(self.root / "root").parts[0].rsplit(".", 1)[-1] for each in self.root.glob("root/**/pause")})

    def layer_there(self):
        return (self.root / "root/io.containerd.content.v1.content/blobs/sha256" / layer["digest"][7:]).exists()

    def remove(self):
        self.call("RemoveImage", field(1, field(1, image)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.daemon.terminate()
        self.daemon.wait()


with Node("keeps", "false") as node:
    by_field = node.pull(handler="own")
    print("pulled with runtime_handler:", by_field)
    said = node.start()
    print("the pod after it:", said[-90:], node.held())
    assert by_field == ["overlayfs"] and "content digest" not in said and node.held() == ["native", "overlayfs"]
with Node("annotated", "false") as node:
    by_annotation = node.pull(annotated=True)
    print("pulled with the pod's annotation:", by_annotation)
    assert by_annotation == ["native"]
with Node("discards", "true") as node:
    node.pull(handler="own")
    for _ in range(300):
        if not node.layer_there():
            break
        time.sleep(0.1)
    print("discarding: the layer is in the store:", node.layer_there())
    said = node.start()
    print("the pod after it:", said[-130:])
    assert "content digest" in said and said.endswith("not found") and node.held() == ["overlayfs"], said
    node.pull(handler="own")
    again = node.start()
    print("pulled again with runtime_handler, the pod:", again[-60:], node.held())
    node.pull(annotated=True)
    mended = node.start()
    print("pulled again with the annotation, the pod:", mended[-60:], node.held())
    assert "content digest" in again and "content digest" not in mended and node.held() == ["native", "overlayfs"]
PY
unshare --net --mount venv/bin/python try.py "$folder"
