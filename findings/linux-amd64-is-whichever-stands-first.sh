#!/usr/bin/env bash
# Guess:   of an index with an image for amd64 and a faster one for amd64/v3 (its CPUs' newer instructions), `--platform linux/amd64` is the
#          plain one for every tool: who wants v3 says v3.
# Happens: crane and oras take what stands first: a variant that was not asked for may be any. With v3 in front, `linux/amd64` is the v3
#          image, which older nodes kill at its first instruction; skopeo takes the plain one in each order. What is resolved, pinned and
#          copied by digest depends on who wrote the index how. `linux/amd64/v1`, the plain one's full name, is found by skopeo alone: crane and
#          oras refuse it, as they do `linux/arm64/v8` where the index says `arm64` (BuildKit leaves v8 out), which containerd and Docker
#          call the same.
# Version: github.com/google/go-containerregistry v0.22.1, oras.land/oras v1.3.3 (needs go), skopeo 1.9.3 of Debian 12, by apt.
#          Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
for module in github.com/google/go-containerregistry/cmd/crane@v0.22.1 oras.land/oras/cmd/oras@v1.3.3; do
  GOBIN=$folder GOFLAGS=-buildvcs=false go install "$module" 2>build.log || { cat build.log; exit 1; }
done
apt-get -qq -o APT::Sandbox::User=root download skopeo/bookworm && dpkg-deb -x skopeo_*.deb root
python3 - <<'PY'
import hashlib
import http.server
import json
import subprocess
import threading

OCI = "application/vnd.oci.image"
kept, tags = {}, {}


class Registry(http.server.BaseHTTPRequestHandler):
    """Gives what is kept by digest or tag; takes nothing."""

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        kind, body = kept.get(tags.get(name, name), (None, b"{}"))
        self.send_response(200 if kind or self.path == "/v2/" else 404)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def keep(body, kind):
    raw = json.dumps(body).encode()
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    kept[digest] = f"{OCI}.{kind}.v1+json", raw
    return {"mediaType": f"{OCI}.{kind}.v1+json", "digest": digest, "size": len(raw)}


def image(architecture, variant):
    platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
    config = keep({**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}, "config")
    line = keep({"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": []}, "manifest")
    names[line["digest"]] = names[config["digest"]] = "/".join(filter(None, (architecture, variant)))
    return {**line, "platform": platform}


names = {}
plain, v3, arm = image("amd64", ""), image("amd64", "v3"), image("arm64", "")
for tag, lines in (("plain-first", [plain, v3, arm]), ("v3-first", [v3, plain, arm])):
    tags[tag] = keep({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": lines}, "index")["digest"]
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
place = f"127.0.0.1:{server.server_port}/app"


def asked(*command):
    done = subprocess.run(command, capture_output=True)
    return done.stdout if done.returncode == 0 else b""


def skopeo(tag, platform):
    _, architecture, variant = (*platform.split("/"), "")[:3]
    wanted = ["--override-arch", architecture, *(["--override-variant", variant] if variant else [])]
    raw = asked("root/usr/bin/skopeo", "inspect", "--tls-verify=false", "--config", "--raw", *wanted, f"docker://{place}:{tag}")
    return names["sha256:" + hashlib.sha256(raw).hexdigest()] if raw else "refused"


def by(*command):
    return names.get(asked(*command).decode().strip(), "refused")


print(asked("./crane", "version").decode().strip() or "crane 0.22.1", asked("root/usr/bin/skopeo", "--version").decode().strip(), "oras 1.3.3")
found = {}
for tag in ("plain-first", "v3-first"):
    for platform in ("linux/amd64", "linux/amd64/v1", "linux/amd64/v3", "linux/arm64", "linux/arm64/v8"):
        found[tag, platform] = (
            by("./crane", "digest", "--platform", platform, f"{place}:{tag}"),
            by("./oras", "resolve", "--plain-http", "--platform", platform, f"{place}:{tag}"),
            skopeo(tag, platform),
        )
        print(f"{tag}, {platform}: crane {found[tag, platform][0]}, oras {found[tag, platform][1]}, skopeo {found[tag, platform][2]}")
server.shutdown()
for tag, first in (("plain-first", "amd64"), ("v3-first", "amd64/v3")):
    assert found[tag, "linux/amd64"] == (first, first, "amd64")
    assert found[tag, "linux/amd64/v1"] == ("refused", "refused", "amd64")
    assert found[tag, "linux/amd64/v3"][:2] == ("amd64/v3", "amd64/v3")
    assert found[tag, "linux/arm64"] == ("arm64", "arm64", "arm64")
    assert found[tag, "linux/arm64/v8"] == ("refused", "refused", "arm64")
PY
