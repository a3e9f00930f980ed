#!/usr/bin/env bash
# Guess:   `skopeo copy --all` of an image index writes the index as it is: nothing of it is selected or converted, so its digest, and
#          what was signed about it, stay.
# Happens: skopeo 1.9.3 (Debian 12) reads an index into fields of its own and writes it anew. `artifactType` of a line, which OCI's
#          image-spec 1.1 added and every SOCI index of version 2 has, is lost: the copy ends with 0, and has another digest
#          under the same tag. `--preserve-digests` refuses such a copy; skopeo 1.22 keeps the bytes.
# Version: skopeo 1.9.3 of Debian 12, by apt. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download skopeo/bookworm && dpkg-deb -x skopeo_*.deb root)
skopeo="$folder/root/usr/bin/skopeo"
"$skopeo" --version
python3 - "$folder" "$skopeo" <<'PY'
import hashlib
import json
import subprocess
import sys
from pathlib import Path

folder, skopeo = Path(sys.argv[1]), sys.argv[2]
blobs = folder / "source/blobs/sha256"
blobs.mkdir(parents=True)


def put(content, kind, **more):
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (blobs / digest).write_bytes(raw)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(raw), **more}


OCI = "application/vnd.oci.image"
platform = {"architecture": "amd64", "os": "linux"}


def manifest(config, layer):
    lines = {"config": config, "layers": [layer]}
    return {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", **lines}


layer = put(bytes(1024), f"{OCI}.layer.v1.tar")
config = put({**platform, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}, f"{OCI}.config.v1+json")
image = put(manifest(config, layer), f"{OCI}.manifest.v1+json", platform=platform)
kind = "application/vnd.amazon.soci.index.v2+json"
soci = put(
    manifest(put(b"{}", kind), put(b"ztoc", "application/octet-stream")),
    *(f"{OCI}.manifest.v1+json",),
    platform=platform,
    artifactType=kind,
)
index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [image, soci]}
top = put(index, f"{OCI}.index.v1+json", annotations={"org.opencontainers.image.ref.name": "v1"})
(folder / "source/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
(folder / "source/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def copy(*options):
    done = [skopeo, "--insecure-policy", "copy", "--quiet", "--all", *options, f"oci:{folder}/source:v1", f"oci:{folder}/copy:v1"]
    return subprocess.run(done, capture_output=True, text=True)


plain = copy()
copied = json.loads((folder / "copy/index.json").read_text())["manifests"][0]["digest"]
lines = json.loads((folder / "copy/blobs/sha256" / copied[7:]).read_text())["manifests"]
print("source", top["digest"][:19], "copy", copied[:19], "exit", plain.returncode, "artifactType", [line.get("artifactType") for line in lines])
preserved = copy("--preserve-digests")
print("with --preserve-digests: exit", preserved.returncode, preserved.stderr.strip()[-120:])
assert plain.returncode == 0 and copied != top["digest"] and not any("artifactType" in line for line in lines)
assert preserved.returncode == 1
PY
