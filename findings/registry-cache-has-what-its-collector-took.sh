#!/usr/bin/env bash
# Guess:   docker-registry's garbage-collect, run beside the server while somebody pushes, costs that push at most: the registry says
#          that a blob is gone, its client sends it again.
# Happens: docker-registry 2.8.2 with `cache.blobdescriptor: inmemory`, as its example configuration has it: HEAD and GET of the blob
#          that was removed answer 200 with its length, and GET then sends no byte. Clients skip the upload, the manifest that
#          needs it is taken with 201, and the tag cannot be pulled; who looks before he sends does not heal it, until the server is
#          started again. With `-m` the platforms of tagged indexes go, too (distribution/distribution#3178).
# Version: docker-registry 2.8.2 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); server=""
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm && dpkg-deb -x docker-registry_*.deb root)
registry="$folder/root/usr/bin/docker-registry"
"$registry" --version
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$folder/config.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/data}, cache: {blobdescriptor: inmemory}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
YAML
"$registry" serve "$folder/config.yml" >"$folder/log" 2>&1 &
server=$!
python3 - "$port" "$registry" "$folder/config.yml" <<'PY'
import hashlib
import http.client
import json
import subprocess
import sys
import time

port, registry, config = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def ask(method, path, body=None, kind="application/octet-stream"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body=body, headers={"Content-Type": kind} if body is not None else {})
    answer = connection.getresponse()
    try:
        return answer.status, dict(answer.getheaders()), answer.read()
    except http.client.IncompleteRead as cut:
        return answer.status, dict(answer.getheaders()), cut.partial


for _ in range(100):
    try:
        ask("GET", "/v2/")
        break
    except OSError:
        time.sleep(0.1)


def push(content):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    _, headers, _ = ask("POST", "/v2/app/blobs/uploads/", b"")
    path = headers["Location"].split(str(port), 1)[-1]
    status, _, _ = ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", content)
    assert status == 201, status
    return digest


layer = push(b"a layer whose manifest comes next")
subprocess.run([registry, "garbage-collect", config], check=True, capture_output=True)
head, got = ask("HEAD", f"/v2/app/blobs/{layer}"), ask("GET", f"/v2/app/blobs/{layer}")
print("HEAD", head[0], head[1]["Content-Length"], "- GET", got[0], got[1]["Content-Length"], "and", len(got[2]), "bytes came")
assert (head[0], got[0], got[1]["Content-Length"], len(got[2])) == (200, 200, "33", 0)
OCI = "application/vnd.oci.image"
manifest = {
    "schemaVersion": 2,
    "mediaType": f"{OCI}.manifest.v1+json",
    "config": {"mediaType": f"{OCI}.config.v1+json", "digest": push(b"{}"), "size": 2},
    "layers": [{"mediaType": f"{OCI}.layer.v1.tar", "digest": layer, "size": 33}],
}
status, _, _ = ask("PUT", "/v2/app/manifests/v1", json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
print("the manifest that needs it:", status)
assert status == 201, status
PY
