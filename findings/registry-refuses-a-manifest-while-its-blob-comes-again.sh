#!/usr/bin/env bash
# Guess:   many CI jobs may sign and attach in one repository at once: content is named by its digest, so sending a blob that is
#          already there changes nothing for anybody.
# Happens: docker-registry 2.8.2 writes a blob's link in place. Who puts a manifest while another client sends its config once more
#          (the empty config "{}" of every artifact is the same blob) gets 400 DIGEST_INVALID, "provided digest did not match
#          uploaded content", together with MANIFEST_BLOB_UNKNOWN: both untrue, and 400 is no answer that clients try again.
#          HEAD and GET of that blob answer 500 now and then. The same manifest sent again is taken.
# Version: docker-registry 2.8.2 of Debian 12, by apt. Date: 2026-11-30.
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
storage: {filesystem: {rootdirectory: $folder/data}}
http: {addr: "127.0.0.1:$port"}
YAML
"$registry" serve "$folder/config.yml" >"$folder/log" 2>&1 &
server=$!
python3 - "$port" <<'PY'
import collections
import hashlib
import http.client
import json
import sys
import threading
import time

PORT = int(sys.argv[1])
CONFIG = "sha256:" + hashlib.sha256(b"{}").hexdigest()
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": CONFIG, "size": 2}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def ask(connection, method, path, body=b"", kind="application/octet-stream"):
    connection.request(method, path, body=body, headers={"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, answer.getheader("Location"), answer.read()


def opened():
    return http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)


def send_config(connection):
    _, location, _ = ask(connection, "POST", "/v2/app/blobs/uploads/")
    status, _, _ = ask(connection, "PUT", f"{location.split(str(PORT), 1)[-1]}&digest={CONFIG}", b"{}")
    assert status == 201, status


def artifact(number):
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": EMPTY, "layers": [EMPTY], "annotations": {"n": str(number)}}
    return json.dumps(document).encode()


def put(connection, manifest):
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    return ask(connection, "PUT", f"/v2/app/manifests/{digest}", manifest, MANIFEST)


for _ in range(100):
    try:
        send_config(opened())
        break
    except OSError:
        time.sleep(0.1)
over = threading.Event()


def send_again():
    connection = opened()
    while not over.is_set():
        send_config(connection)


others = [threading.Thread(target=send_again) for _ in range(4)]
for other in others:
    other.start()
connection, answers, refused = opened(), collections.Counter(), []
for number in range(1000):
    status, _, said = put(connection, artifact(number))
    answers[status, *(sorted({one["code"] for one in json.loads(said)["errors"]}) if status == 400 else ())] += 1
    if status == 400:
        refused.append(number)
over.set()
for other in others:
    other.join()
print("while others send the config:", dict(answers))
print("the refused ones, once more, alone:", {put(connection, artifact(number))[0] for number in refused})
assert answers[400, "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"] and answers[201,]
assert {put(connection, artifact(number))[0] for number in refused} == {201}
PY
