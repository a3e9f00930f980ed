#!/usr/bin/env bash
# Guess:   `crane append` of a layer (weights, a certificate) and `crane mutate` of a label or a command, given a tag that is an index, do it for
#          each platform (`--platform` says "default all"), as `crane flatten` does, or refuse, as `mutate --annotation` does.
# Happens: both take the image for linux/amd64, wherever they run, change it, and push it as the whole tag, with status 0. The index is gone
#          from the tag: nodes with arm64 (Graviton, Grace) that ran the image yesterday get one for another processor, and what was
#          signed about the index is not about the tag any more. Nothing is said of the choice.
# Version: github.com/google/go-containerregistry v0.22.1 (needs go). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder GOFLAGS=-buildvcs=false go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2>build.log || { cat build.log; exit 1; }
./crane version
./crane --help | grep -- --platform
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
./crane registry serve --address "127.0.0.1:$port" >registry.log 2>&1 & server=$!
for _ in $(seq 100); do python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
place=127.0.0.1:$port/app
python3 - <<'PY'
import hashlib
import io
import json
import tarfile
from pathlib import Path

OCI = "application/vnd.oci.image"
blobs = Path("both/blobs/sha256")
blobs.mkdir(parents=True)


def tar(name, content):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def put(content, kind, **more):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (blobs / digest).write_bytes(raw)
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(raw), **more}


lines = []
for architecture in ("arm64", "amd64"):
    layer = put(tar("program", architecture.encode()), "layer.v1.tar")
    platform = {"os": "linux", "architecture": architecture}
    config = put({**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}, "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
    lines.append(put(manifest, "manifest.v1+json", platform=platform))
Path("both/index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": lines}))
Path("both/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
Path("weights.tar").write_bytes(tar("model.safetensors", b"weights"))
PY
for tag in append mutate flatten annotate; do ./crane push --index both "$place:$tag" >/dev/null 2>&1; done
change() { # what is done to the tag of its name, which stays the tag
  case $1 in
    append) ./crane append --base "$place:append" --new_layer weights.tar --new_tag "$place:append" ;;
    mutate) ./crane mutate --label team=ml --tag "$place:mutate" "$place:mutate" ;;
    flatten) ./crane flatten --tag "$place:flatten" "$place:flatten" ;;
    annotate) ./crane mutate --annotation team=ml --tag "$place:annotate" "$place:annotate" ;;
  esac
}
for tag in append mutate flatten annotate; do
  change $tag >"$tag.said" 2>&1 && code=0 || code=$?
  ./crane manifest "$place:$tag" >"$tag.json"
  echo "$tag: exit $code, words of platforms: $(grep -ciE 'platform|amd64|index' "$tag.said" || true)"
  echo "$code" >"$tag.code"
done
./crane config "$place:append" >append.config
kill "$server"; wait "$server" 2>/dev/null || true; server=
python3 - <<'PY'
import json

found = {}
for tag in ("append", "mutate", "flatten", "annotate"):
    manifest = json.load(open(f"{tag}.json"))
    platforms = [line["platform"]["architecture"] for line in manifest.get("manifests", [])]
    found[tag] = open(f"{tag}.code").read().strip(), platforms, "platform" in open(f"{tag}.said").read()
    print(f"{tag}: the tag is now {manifest['mediaType'].split('.')[-2]} {platforms or ''}")
assert json.load(open("append.config"))["architecture"] == "amd64"
assert found["append"] == found["mutate"] == ("0", [], False), found
assert found["flatten"][:2] == ("0", ["arm64", "amd64"]) and found["annotate"][:2] == ("1", ["arm64", "amd64"]), found
PY
