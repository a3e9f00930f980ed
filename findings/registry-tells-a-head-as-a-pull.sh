#!/usr/bin/env bash
# Guess:   a notification of docker-registry with `action: pull` is an image that somebody got, and one of a deletion names a digest.
# Happens: docker-registry 2.8.2 tells HEAD of a manifest as a `pull`, with `request.method: HEAD` as the only difference, and
#          clients ask so before each pull and each copy. A deletion by digest is told once with the digest, and once more for
#          each of its tags with the tag alone: neither digest nor media type.
# Version: docker-registry 2.8.2 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); server=""
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm && dpkg-deb -x docker-registry_*.deb root)
registry="$folder/root/usr/bin/docker-registry"
"$registry" --version
read -r port told < <(python3 -c '
import socket
made = [socket.socket(), socket.socket()]
for each in made:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in made))')
cat >"$folder/config.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
notifications:
  endpoints: [{name: told, url: "http://127.0.0.1:$told/", timeout: 5s, threshold: 3, backoff: 1s}]
YAML
"$registry" serve "$folder/config.yml" >"$folder/log" 2>&1 &
server=$!
python3 - "$port" "$told" <<'PY'
import hashlib
import http.client
import http.server
import json
import sys
import threading
import time

port, told = int(sys.argv[1]), int(sys.argv[2])
events = []


class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        events.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


threading.Thread(target=http.server.HTTPServer(("127.0.0.1", told), Take).serve_forever, daemon=True).start()
KIND = "application/vnd.docker.distribution.manifest.v2+json"


def ask(method, path, body=None, kind="application/octet-stream"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Accept": KIND, **({"Content-Type": kind} if body is not None else {})}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Location", "")


for _ in range(100):
    try:
        ask("GET", "/v2/")
        break
    except OSError:
        time.sleep(0.1)
config = b"{}"
digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
place = ask("POST", "/v2/app/blobs/uploads/", b"")[1].partition(f":{port}")[2]
assert ask("PUT", f"{place}&digest={digest}", config)[0] == 201
blob = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": digest}
manifest = json.dumps({"schemaVersion": 2, "mediaType": KIND, "config": blob, "layers": []}).encode()
name = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
for tag in ("one", "two"):
    assert ask("PUT", f"/v2/app/manifests/{tag}", manifest, KIND)[0] == 201
assert ask("HEAD", "/v2/app/manifests/one")[0] == 200
assert ask("DELETE", f"/v2/app/manifests/{name}")[0] == 202
for _ in range(100):
    if sum(each["action"] == "delete" for each in events) == 3:
        break
    time.sleep(0.1)
pulls = [each["request"]["method"] for each in events if each["action"] == "pull"]
gone = [(each["target"].get("digest", ""), each["target"].get("tag", "")) for each in events if each["action"] == "delete"]
print("pulls:", pulls, "deletions:", gone)
assert pulls == ["HEAD"], pulls
assert sorted(gone) == sorted([(name, ""), ("", "one"), ("", "two")]), gone
PY
