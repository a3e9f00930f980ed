#!/usr/bin/env bash
# Guess:   containerd asks a registry on loopback without TLS, as Docker does, and needs no hosts.toml for it; or it tries both, and takes
#          the one that works.
# Happens: containerd 2.1.9 begins with TLS wherever the port is not 80, and takes plain HTTP only when the answer to its hello is an HTTP
#          one, as Go's servers send it, or none for ten seconds. A server that closes such a connection, which is no less
#          right, cannot be pulled from ("EOF"); one that waits for the end of a request first costs each pull those seconds, for
#          the manifest and again for the layers. With the address in a hosts.toml as `http://` nobody is sent a hello, and all three work.
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
import socket
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
    """A registry of one image, without TLS. hello: what a TLS hello is answered with."""

    def handle(self):
        if self.connection.recv(1, socket.MSG_PEEK) != b"\x16":
            self.server.asked.append("HTTP")
            return super().handle()
        self.server.asked.append("TLS")
        if self.server.hello == "waits":
            while self.connection.recv(1 << 14):  # until the other side gives up
                pass
        else:
            self.connection.recv(1 << 14)
            if self.server.hello == "says so":
                self.connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")

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


def field(number, value):
    """One protobuf field of text, or of a message."""
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


def pulled(hello, named):
    """How a pull ends, and what the connections of it began with. named: a hosts.toml says http."""
    root = folder / f"{hello}-{named}".replace(" ", "-")
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.hello, server.asked, server.daemon_threads = hello, [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    if named:
        (root / "certs.d" / host).mkdir(parents=True)
        (root / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n[host."http://{host}"]\n')
    (root / "config.toml").write_text(
        f'version = 3\nroot = "{root}/root"\nstate = "{root}/state"\n'
        f'[grpc]\naddress = "{root}/c.sock"\n[ttrpc]\naddress = "{root}/t.sock"\n'
        f'[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "{root}/certs.d"\n'
    )
    command = [folder / "containerd", "--config", root / "config.toml"]
    daemon = subprocess.Popen(command, stderr=(root / "log").open("w"))
    try:
        with grpc.insecure_channel(f"unix://{root}/c.sock") as channel:
            pull = channel.unary_unary("/runtime.v1.ImageService/PullImage")
            pull(field(1, field(1, f"{host}/app:v1")), wait_for_ready=True, timeout=120)
            said = "pulled"
    except grpc.RpcError as error:
        said = error.details()
    finally:
        daemon.terminate()
        daemon.wait()
        server.shutdown()
    began = [server.asked[0], f"TLS {server.asked.count('TLS')}", f"HTTP {server.asked.count('HTTP')}"]
    print(f"{'http:// in hosts.toml' if named else 'no hosts.toml':22} a hello is answered: {hello:8} first {began[0]}; {', '.join(began[1:])}; {said[-50:]}", flush=True)
    return said, server.asked


for hello in ("says so", "closes", "waits"):
    said, asked = pulled(hello, named=False)
    assert asked[0] == "TLS", asked
    assert (said == "pulled") == (hello != "closes") and (said == "pulled" or said.endswith("EOF")), said
    said, asked = pulled(hello, named=True)
    assert said == "pulled" and "TLS" not in asked, (said, asked)
PY
unshare --net --mount venv/bin/python try.py "$folder"
