#!/usr/bin/env bash
# Guess:   KServe's `oci+fetch://`, which copies /models of a model image to the server, brings what a container of that image has there.
# Happens: it unpacks each layer over the one before, and knows no whiteouts. What a later layer deleted or replaced as a folder is there
#          again, old shards beside new ones, and a file `.wh.NAME` beside both: a server that loads `*.safetensors` of the folder
#          mixes two models. Of layers that any node starts it reads none whose names begin with `./`, as plain tar writes them, none of
#          several gzip members, as eStargz has them ("has no /models/ directory"), and no hard link (KeyError).
# Version: kserve-storage 0.21.0 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'kserve-storage==0.21.0'
KSERVE_OCI_INSECURE_REGISTRY=1 venv/bin/python - <<'PY' 2>fetch.log || { tail -5 fetch.log; exit 1; }
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from importlib.metadata import version
from pathlib import Path

from kserve_storage import Storage

OCI = "application/vnd.oci.image"
blobs, tags = {}, {}


def tar(*members):
    """Names with a slash at the end are folders; a pair is a hard link; all else a file that holds its own name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name in members:
            name, target = name if isinstance(name, tuple) else (name, None)
            member = tarfile.TarInfo(name.rstrip("/"))
            content = b"" if name.endswith("/") or target else name.encode()
            member.type = tarfile.LNKTYPE if target else tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.linkname, member.size, member.mode = target or "", len(content), 0o755
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def put(content, kind):
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blobs[digest] = content
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def image(tag, *layers):
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    tags[tag] = json.dumps({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{OCI}.config.v1+json"),
        "layers": [put(layer, f"{OCI}.layer.v1.tar+gzip") for layer in layers],
    }).encode()


first = tar("models/", "models/config.json", "models/shard-1.safetensors", "models/shard-2.safetensors")
image("deleted", gzip.compress(first), gzip.compress(tar("models/", "models/.wh.shard-1.safetensors", "models/.wh.shard-2.safetensors", "models/whole.safetensors")))
image("replaced", gzip.compress(first), gzip.compress(tar("models/", "models/.wh..wh..opq", "models/whole.safetensors")))
image("dots", gzip.compress(tar("./models/", "./models/whole.safetensors")))
image("members", b"".join(gzip.compress(first[start : start + 512]) for start in range(0, len(first), 512)))
image("links", gzip.compress(tar("models/", "models/a", ("models/b", "models/a"))))


class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = {**tags, **blobs}[self.path.rsplit("/", 1)[1]]
        self.send_response(200)
        self.send_header("Content-Type", f"{OCI}.manifest.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("kserve-storage", version("kserve-storage"))
said = {}
for tag in tags:
    target = Path(f"target-{tag}")
    try:
        Storage.download(f"oci://127.0.0.1:{server.server_port}/model:{tag}", str(target))
        said[tag] = sorted(each.name for each in target.iterdir())
    except Exception as error:
        said[tag] = f"{type(error).__name__}: {str(error).replace(str(server.server_port), 'PORT')[:110]}"
    print(f"{tag}:", said[tag])
old = ["config.json", "shard-1.safetensors", "shard-2.safetensors", "whole.safetensors"]
assert said["deleted"] == [".wh.shard-1.safetensors", ".wh.shard-2.safetensors", *old]
assert said["replaced"] == [".wh..wh..opq", *old]
assert "has no /models/" in said["dots"] and "has no /models/" in said["members"] and said["links"].startswith("KeyError")
PY
