#!/usr/bin/env bash
# Guess:   `cosign copy SOURCE TARGET` ("Copy the supplied container image and signatures") copies what `cosign sign` of the same version wrote.
# Happens: cosign 3 signs in the form of bundles, which are referrers of the image, and `copy` knows the older tags (`.sig`, `.att`) alone: the
#          image arrives with status 0, its signature does not, and `verify` there says "no signatures found". Worse, of an index it
#          writes each image under the tag `sha256-DIGEST`, which registries without the referrers API have for the list of signatures: that
#          list is then the index itself. With `--force`, a signature that the target had is gone, too. All it says is that `copy` is
#          deprecated. `cosign save`, then `load`, brings the signature.
# Version: github.com/sigstore/cosign/v3 v3.1.3 (needs go; builds it, many minutes the first time),
#          github.com/google/go-containerregistry v0.22.1 as the registry. Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder GOFLAGS=-buildvcs=false go install github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 2>build.log || { cat build.log; exit 1; }
GOBIN=$folder GOFLAGS=-buildvcs=false go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2>build.log || { cat build.log; exit 1; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
./crane registry serve --address "127.0.0.1:$port" >registry.log 2>&1 & server=$!
for _ in $(seq 100); do python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
export COSIGN_PASSWORD=
./cosign generate-key-pair >/dev/null 2>&1
python3 - "127.0.0.1:$port" <<'PY'
import hashlib
import http.client
import json
import subprocess
import sys

host = sys.argv[1]
OCI = "application/vnd.oci.image"


def ask(method, path, body=None, kind="application/octet-stream"):
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, path, body, {"Content-Type": kind, "Accept": f"{OCI}.index.v1+json"})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def put(repository, content, kind, tag=""):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    if "manifest" in kind or "index" in kind:
        status, *_ = ask("PUT", f"/v2/{repository}/manifests/{tag or digest}", raw, kind)
    else:
        _, headers, _ = ask("POST", f"/v2/{repository}/blobs/uploads/", b"")
        path = headers["Location"].split(host, 1)[-1]
        status, *_ = ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", raw)
    assert status == 201, status
    return {"mediaType": kind, "digest": digest, "size": len(raw)}


def cosign(*command):
    done = subprocess.run(["./cosign", *command, "--allow-http-registry"], capture_output=True, text=True)
    return done.returncode, (done.stderr.strip() or done.stdout.strip() or 'nothing').splitlines()[-1]


def sign(name):
    code, said = cosign("sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", name)
    assert code == 0, said


def verified(name):
    code, said = cosign("verify", "--key", "cosign.pub", "--insecure-ignore-tlog", name)
    return "verified" if code == 0 else said


def kinds(repository):
    """What stands in the list of referrers: the artifact types, or the platforms of images."""
    status, _, body = ask("GET", f"/v2/{repository}/manifests/{image['digest'].replace(':', '-')}")
    lines = json.loads(body).get("manifests", []) if status == 200 else []
    return [line["platform"]["architecture"] if "platform" in line else "a referrer" for line in lines]


def push(repository):
    lines = []
    for architecture in ("amd64", "arm64"):
        platform = {"os": "linux", "architecture": architecture}
        layer = put(repository, architecture.encode() * 100, f"{OCI}.layer.v1.tar")
        config = {**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
        config = put(repository, config, f"{OCI}.config.v1+json")
        kind = f"{OCI}.manifest.v1+json"
        lines.append({**put(repository, {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}, kind), "platform": platform})
    kind = f"{OCI}.index.v1+json"
    return put(repository, {"schemaVersion": 2, "mediaType": kind, "manifests": lines}, kind, "v1")


[version] = [line.split()[-1] for line in subprocess.check_output(["./cosign", "version"], text=True).splitlines() if "GitVersion" in line]
print("cosign", version)
image = push("source")
push("signed-before")
sign(f"{host}/source:v1")
sign(f"{host}/signed-before:v1")
print("source:", verified(f"{host}/source:v1"), kinds("source"))
assert verified(f"{host}/source:v1") == verified(f"{host}/signed-before:v1") == "verified"
assert kinds("source") == kinds("signed-before") == ["a referrer"]
for target, options in (("empty", []), ("signed-before", ["--force"])):
    code, _ = cosign("copy", *options, f"{host}/source:v1", f"{host}/{target}:v1")
    print(f"copy {' '.join(options)} to {target}: exit {code}; {verified(f'{host}/{target}:v1')}, the list of referrers has {kinds(target)}")
    assert code == 0 and verified(f"{host}/{target}:v1") == "error during command execution: no signatures found"
    assert kinds(target) == ["amd64", "arm64"]
for command in (("save", "--dir", "saved", f"{host}/source:v1"), ("load", "--dir", "saved", f"{host}/loaded:v1")):
    code, said = cosign(*command)
    assert code == 0, said
print("save and load:", verified(f"{host}/loaded:v1"), kinds("loaded"))
assert verified(f"{host}/loaded:v1") == "verified"
PY
