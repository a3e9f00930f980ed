#!/usr/bin/env bash
# Guess:   `crane mutate --annotation stage=prod` of an artifact (a ModelPack model, a Helm chart) adds the annotation, and nothing else; what
#          it cannot do to something that is no image it refuses.
# Happens: crane 0.20.7, which Debian has, reads every config as an image's and writes it anew: name, version, precision and list of files
#          of the model are gone, what is left is an empty image config under the model's media type. `artifactType` is lost from the
#          manifest, too. It ends with 0 and moves the tag; tools that ask for the type find no model there. crane 0.22.1 keeps all.
# Version: github.com/google/go-containerregistry v0.20.7 and v0.22.1, oras.land/oras v1.3.3 (needs go), docker-registry 2.8.2 of Debian 12,
#          by apt. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
for module in google/go-containerregistry/cmd/crane@v0.20.7 google/go-containerregistry/cmd/crane@v0.22.1 oras; do
  [ "$module" = oras ] && module=oras.land/oras/cmd/oras@v1.3.3 || module=github.com/$module
  GOBIN=$folder GOFLAGS=-buildvcs=false go install "$module" 2>build.log || { cat build.log; exit 1; }
  case $module in *crane@*) mv crane "crane-${module#*@v}" ;; esac
done
apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm && dpkg-deb -x docker-registry_*.deb root
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$folder/store" "$port" >registry.yml
root/usr/bin/docker-registry serve registry.yml >registry.log 2>&1 & server=$!
for _ in $(seq 100); do python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
model=application/vnd.cncf.model place=127.0.0.1:$port/model
echo '{"descriptor":{"name":"llama","version":"1"},"config":{"precision":"bf16"},"modelfs":{"type":"layers","diffIds":[]}}' >config.json
echo weights >model.safetensors
./oras push --plain-http "$place:v1" --artifact-type $model.manifest.v1+json --config config.json:$model.config.v1+json \
  model.safetensors:$model.weight.v1.raw >/dev/null
for version in 0.20.7 0.22.1; do
  "./crane-$version" mutate --annotation stage=prod "$place:v1" --tag "$place:prod-$version" >/dev/null 2>&1 && code=0 || code=$?
  echo "crane $version mutate: exit $code"
  [ "$code" = 0 ]
done
for tag in v1 prod-0.20.7 prod-0.22.1; do
  ./oras manifest fetch --plain-http "$place:$tag" >"$tag.json"
  ./oras manifest fetch-config --plain-http "$place:$tag" >"$tag.config"
done
python3 - <<'PY'
import json

found = {}
for tag in ("v1", "prod-0.20.7", "prod-0.22.1"):
    manifest, config = (json.load(open(f"{tag}.{kind}")) for kind in ("json", "config"))
    print(f"{tag}: artifactType {manifest.get('artifactType')}, config {manifest['config']['mediaType']}: {json.dumps(config)}")
    found[tag] = manifest, config
    assert tag == "v1" or manifest["annotations"]["stage"] == "prod"
    assert manifest["config"]["mediaType"] == found["v1"][0]["config"]["mediaType"]
(before, was), (spoiled, empty), (kept, same) = found.values()
assert "artifactType" not in spoiled and empty["config"] == {} and "descriptor" not in empty and "modelfs" not in empty
assert kept["artifactType"] == before["artifactType"] and same == was
PY
