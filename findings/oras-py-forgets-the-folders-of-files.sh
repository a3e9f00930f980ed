#!/usr/bin/env bash
# Guess:   `push(files=["en/model.safetensors", "de/model.safetensors"])` of the Python client of ORAS is `oras push` of the same two: each file
#          comes back under its path. A folder that one of the clients pushed, the other unpacks.
# Happens: oras-py names a file by its last part alone: both are `model.safetensors`. Its own pull writes the second over the first, and
#          returns that path twice, as two files; `oras pull` leaves the first there and ends with 1 ("duplicate name"). Shards, adapters and
#          configs of several models have equal names by custom, and the one that is lost is still in the registry, without its place. A folder it
#          packs without oras' note `io.deis.oras.content.unpack`: `oras pull` ends with 0 and leaves a *file* of the folder's name, a
#          tar.gz. What oras pushed, oras-py takes apart right, both times.
# Version: oras 0.2.43 (PyPI), oras.land/oras v1.3.3 (needs go), docker-registry 2.8.2 of Debian 12, by apt. Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'oras==0.2.43'
GOBIN=$folder GOFLAGS=-buildvcs=false go install oras.land/oras/cmd/oras@v1.3.3 2>build.log || { cat build.log; exit 1; }
apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm && dpkg-deb -x docker-registry_*.deb root
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$folder/store" "$port" >registry.yml
root/usr/bin/docker-registry serve registry.yml >registry.log 2>&1 & server=$!
for _ in $(seq 100); do python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
mkdir -p models/en models/de models/tokenizer
echo english >models/en/model.safetensors
echo german >models/de/model.safetensors
echo words >models/tokenizer/vocab.txt
cd models
../venv/bin/python - "127.0.0.1:$port" <<'PY'
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import oras.client

host = sys.argv[1]
client = oras.client.OrasClient(hostname=host, insecure=True)
FILES = ["en/model.safetensors", "de/model.safetensors"]


def by_go(*command):
    done = subprocess.run(["../oras", *command, "--plain-http"], capture_output=True, text=True)
    return done.returncode, done.stderr.strip()


def lies_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


print("oras-py", version("oras"), "-", *subprocess.check_output(["../oras", "version"], text=True).split()[:2])
for name, files in (("files", FILES), ("folder", ["tokenizer"])):
    client.push(target=f"{host}/model:py-{name}", files=files, quiet=True)
    assert by_go("push", f"{host}/model:go-{name}", *files)[0] == 0
answers, trees = {}, {}
for tag in ("py-files", "go-files", "py-folder", "go-folder"):
    got = client.pull(target=f"{host}/model:{tag}", outdir=f"../by-py/{tag}")
    code, said = by_go("pull", f"{host}/model:{tag}", "--output", f"../by-go/{tag}")
    trees[tag] = lies_in(f"../by-py/{tag}"), lies_in(f"../by-go/{tag}")
    answers[tag] = [os.path.basename(path) for path in got], code
    print(f"{tag}: oras-py returns {answers[tag][0]} and wrote {list(trees[tag][0])}; oras ends with {code} {said}, wrote {list(trees[tag][1])}")
both = {"en/model.safetensors": b"english\n", "de/model.safetensors": b"german\n"}
assert answers["py-files"] == (["model.safetensors"] * 2, 1), answers
assert trees["py-files"][0] == {"model.safetensors": b"german\n"}, trees
assert trees["go-files"] == (both, both), trees
assert trees["py-folder"][0] == {"tokenizer/vocab.txt": b"words\n"} and answers["py-folder"][1] == 0
[(name, content)] = trees["py-folder"][1].items()
assert name == "tokenizer" and content[:2] == b"\x1f\x8b", trees
assert trees["go-folder"] == ({"tokenizer/vocab.txt": b"words\n"},) * 2, trees
PY
