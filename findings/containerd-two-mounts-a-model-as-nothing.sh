#!/usr/bin/env bash
# Guess:   containerd 2 says no to a model (ModelPack: layers that are files, a config without rootfs) that is to be mounted as an
#          image, as containerd 1.6 does ("mismatched image rootfs and manifest layers"), or else shows its files.
# Happens: pull and mount both end with 0, and the folder is empty: layers of unknown types are passed over, and none is left to
#          unpack. Who mounts weights so must look for the files before the program starts.
# Version: github.com/containerd/containerd/v2 v2.1.9 (needs root and go; builds daemon and client, some minutes the first time).
#          Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf 'module finding\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.9\n' >go.mod
for each in containerd ctr; do
  CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -tags=no_btrfs,no_devmapper,no_zfs' \
    go build -o "$each" "github.com/containerd/containerd/v2/cmd/$each" 2>build.log || { cat build.log; exit 1; }
done
./containerd --version | cut -d' ' -f1-3
cat >try.py <<'PY'
import hashlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
programs, held = folder, {}


def put(raw, kind):
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    held[digest] = (kind, raw)
    return {"mediaType": kind, "digest": digest, "size": len(raw)}


weights = put(b"weights" * 1000, "application/vnd.cncf.model.weight.v1.raw")
weights["annotations"] = {"org.cncf.model.filepath": "model.safetensors"}
facts = {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": [weights["digest"]]}}
config = put(json.dumps(facts).encode(), "application/vnd.cncf.model.config.v1+json")
manifest = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "artifactType": "application/vnd.cncf.model.manifest.v1+json",
    "config": config,
    "layers": [weights],
}
held["1"] = held[put(json.dumps(manifest).encode(), manifest["mediaType"])["digest"]]


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind, raw = held.get(self.path.rsplit("/", 1)[1], ("text/plain", b""))
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
socket, mounted = folder / "c.sock", folder / "mounted"
mounted.mkdir()
(folder / "config.toml").write_text(
    f'version = 3\nroot = "{folder}/r"\nstate = "{folder}/s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{folder}/t.sock"\n'
)
daemon = subprocess.Popen([programs / "containerd", "-c", folder / "config.toml"], stderr=subprocess.DEVNULL)


def ctr(*words):
    return subprocess.run([programs / "ctr", "-a", socket, *words], capture_output=True, text=True)


try:
    while ctr("version").returncode:
        time.sleep(0.2)
    name = f"127.0.0.1:{server.server_port}/models/a:1"
    pulled, shown = ctr("images", "pull", "--plain-http", name), ctr("images", "mount", name, str(mounted))
    files = sorted(each.name for each in mounted.iterdir())
    print(f"pull ends with {pulled.returncode}, mount with {shown.returncode}; files in the folder: {files}")
    subprocess.run(["umount", mounted], check=shown.returncode == 0)
    assert (pulled.returncode, shown.returncode, files) == (0, 0, []), (pulled.stderr, shown.stderr)
finally:
    daemon.terminate()
    daemon.wait()
PY
python3 try.py "$folder"
