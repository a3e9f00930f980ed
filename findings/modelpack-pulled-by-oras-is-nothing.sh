#!/usr/bin/env bash
# Guess:   `oras pull` of a ModelPack model writes its files, for each layer says where it goes (`org.cncf.model.filepath`), or it fails.
# Happens: oras 1.3.3 knows the name of a file from `org.opencontainers.image.title` alone. Of a model that keeps to the letter of the
#          specification (0.0.7, docs/annotations.md) it writes no file and makes no folder, and ends with 0; two lines at the end say so.
#          With the path in both annotations the files are written, also those in folders.
# Version: oras.land/oras v1.3.3 (needs go). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder GOFLAGS=-buildvcs=false go install oras.land/oras/cmd/oras@v1.3.3 2>build.log || { cat build.log; exit 1; }
python3 - <<'PY'
import hashlib
import json
from pathlib import Path

root, model = Path("layout"), "application/vnd.cncf.model"
(root / "blobs/sha256").mkdir(parents=True)


def blob(content, kind, **more):
    name = hashlib.sha256(content).hexdigest()
    (root / "blobs/sha256" / name).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content), **more}


listed = []
for tag, notes in (("plain", ["org.cncf.model.filepath"]), ("titled", ["org.cncf.model.filepath", "org.opencontainers.image.title"])):
    layers = [
        blob(content, f"{model}.weight.v1.raw", annotations=dict.fromkeys(notes, path))
        for path, content in (("config.json", b"{}"), ("sub/model.gguf", b"GGUF1234"))
    ]
    config = {"descriptor": {}, "config": {}, "modelfs": {"type": "layers", "diffIds": [each["digest"] for each in layers]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": f"{model}.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), f"{model}.config.v1+json"),
        "layers": layers,
    }
    name = {"org.opencontainers.image.ref.name": tag}
    listed.append(blob(json.dumps(manifest).encode(), manifest["mediaType"], annotations=name))
(root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
(root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
PY
for tag in plain titled; do
  ./oras pull --oci-layout "layout:$tag" -o "out-$tag" >"$tag.log" && code=0 || code=$?
  echo "$tag: exit $code, files: $( (cd "out-$tag" 2>/dev/null && find . -type f | sort | tr '\n' ' ') || true)"
  [ "$code" = 0 ]
done
[ ! -e out-plain ] && grep -q "Skipped pulling layers without file name" plain.log
[ -f out-titled/sub/model.gguf ] && [ -f out-titled/config.json ]
