#!/usr/bin/env bash
# Guess:   of several hosts in hosts.toml containerd takes the next one when the first does not answer, and stays with it for the
#          rest of the pull: a dead registry costs one time limit for each pull.
# Happens: every request of a pull (digest, manifest, then config and layers) begins at the first host again. One that takes connections and
#          never answers a TLS hello costs ten seconds each: 30 s for an image of one layer. CRI fetches three layers at once, so there it
#          grows with the layers: 40 s with three, 71 s with twelve; where packets vanish (30 s each) 120 and 211 s. Without TLS
#          nothing ends the wait, and the second host is never asked.
# Version: containerd 1.6.20 of Debian 12, by apt (needs root); 2.1.9 does the same. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root
root/usr/bin/containerd --version | cut -d' ' -f1-3
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

folder = Path(sys.argv[1])
programs = folder / "root/usr/bin"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

OCI = "application/vnd.oci.image"
blobs = {}


def put(raw, kind):
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    blobs[digest] = (kind, raw)
    return {"mediaType": kind, "digest": digest, "size": len(raw)}


tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode="w") as made:
    made.addfile(tarfile.TarInfo("empty"))
diff = "sha256:" + hashlib.sha256(tar.getvalue()).hexdigest()
layer = put(gzip.compress(tar.getvalue(), mtime=0), f"{OCI}.layer.v1.tar+gzip")
config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode(), f"{OCI}.config.v1+json")
manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
digest = put(json.dumps(manifest).encode(), manifest["mediaType"])["digest"]
asked = []


class Registry(BaseHTTPRequestHandler):
    """The second host: it has the image."""

    def do_GET(self):
        asked.append(self.path)
        kind, raw = blobs[self.path.partition("?")[0].rsplit("/", 1)[-1]]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


second = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=second.serve_forever, daemon=True).start()
(folder / "config.toml").write_text(
    f'version = 2\nroot = "{folder}/data"\nstate = "{folder}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    f'[grpc]\naddress = "{folder}/c.sock"\n[ttrpc]\naddress = "{folder}/t.sock"\n'
)
daemon = subprocess.Popen([programs / "containerd", "--config", folder / "config.toml"], stderr=(folder / "log").open("w"))
ctr = [programs / "ctr", "--address", folder / "c.sock"]


def pull(scheme, limit_s):
    """Seconds of a pull, None where it was ended, and connections that the first host got. scheme: of that one, which
    listens and takes nothing: connections end in the kernel, as those of a process that hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as first:
        hosts = folder / scheme / "registry.invalid"
        hosts.mkdir(parents=True)
        urls = f"{scheme}://127.0.0.1:{first.getsockname()[1]}", f"http://127.0.0.1:{second.server_port}"
        tables = [f'[host."{url}"]\ncapabilities = ["pull", "resolve"]\n' for url in urls]
        (hosts / "hosts.toml").write_text(f'server = "{urls[1]}"\n' + "".join(tables))
        asked.clear()
        began = time.monotonic()
        try:
            command = [*ctr, "images", "pull", "--hosts-dir", hosts.parent, f"registry.invalid/app@{digest}"]
            subprocess.run(command, check=True, capture_output=True, timeout=limit_s)
            took = time.monotonic() - began
        except subprocess.TimeoutExpired:
            took = None
        first.setblocking(False)
        connections = 0
        try:
            while True:
                first.accept()[0].close()
                connections += 1
        except BlockingIOError:
            pass
    said = f"{took:.0f} s" if took else f"ended after {limit_s} s"
    print(f"first host {scheme:5} and silent: {said}; {connections} connections to it, {len(asked)} requests to the second", flush=True)
    return took, connections, len(asked)


try:
    while subprocess.run([*ctr, "version"], capture_output=True).returncode:
        time.sleep(0.1)
    plain = pull("http", 45)
    took, connections, requests = pull("https", 180)
finally:
    daemon.terminate()
    daemon.wait()
assert plain[0] is None and plain[2] == 0, "the second host was asked"
assert took >= 30 and connections >= 3 and requests >= 4, "it remembers the host that did not answer"
PY
unshare --net --mount python3 try.py "$folder"
