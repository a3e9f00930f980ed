#!/usr/bin/env bash
# Guess:   where registries.conf says that an image lies at another `location`, every command of skopeo asks there: behind an air gap
#          `skopeo inspect` works where `skopeo copy` does.
# Happens: `copy`, and `inspect` of manifest, config and digest (`--raw`, `--config`, `--no-tags`), ask the location. The list of
#          tags, which plain `inspect` asks for too, and `list-tags` are asked of the host that stands in the name: offline they
#          fail. With `mirror` instead of `location` it is the same.
# Version: skopeo 1.9.3 and docker-registry 2.8.2 of Debian 12, by apt. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); server=""
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download docker-registry/bookworm skopeo/bookworm golang-github-containers-common/bookworm libgpgme11/bookworm libassuan0/bookworm libdevmapper1.02.1/bookworm \
  && for each in *.deb; do dpkg-deb -x "$each" root; done)
export LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu:$folder/root/lib/x86_64-linux-gnu"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$folder/config.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/data}}
http: {addr: "127.0.0.1:$port"}
YAML
"$folder/root/usr/bin/docker-registry" serve "$folder/config.yml" >"$folder/log" 2>&1 &
server=$!
python3 - "$port" <<'PY'
import hashlib
import json
import sys
import time
import urllib.request

base = f"http://127.0.0.1:{sys.argv[1]}/v2/mirror/app"


def ask(method, url, body=None, kind="application/octet-stream"):
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind} if kind else {})
    return urllib.request.urlopen(request, timeout=20)


for _ in range(100):
    try:
        ask("GET", f"http://127.0.0.1:{sys.argv[1]}/v2/", kind="")
        break
    except OSError:
        time.sleep(0.1)
config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
where = ask("POST", f"{base}/blobs/uploads/", b"").headers["Location"]
ask("PUT", f"{where}{'&' if '?' in where else '?'}digest={digest}", config)
told = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
kind = "application/vnd.oci.image.manifest.v1+json"
manifest = {"schemaVersion": 2, "mediaType": kind, "config": told, "layers": []}
ask("PUT", f"{base}/manifests/v1", json.dumps(manifest).encode(), kind)
PY
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$folder/policy.json"
skopeo=("$folder/root/usr/bin/skopeo" --policy "$folder/policy.json" --registries-conf "$folder/registries.conf" --command-timeout 20s)
"${skopeo[@]}" --version
image=docker://registry.invalid/app:v1
try() { # name, expected (0 or 1), command
  local name=$1 expected=$2; shift 2
  local code=0
  "${skopeo[@]}" "$@" >"$folder/out" 2>"$folder/err" || code=1
  printf '%-10s %-28s %s\n' "$form" "$name" "$([ $code = 0 ] && echo works || { echo -n 'fails, asks '; grep -o 'registry\.invalid' "$folder/err" | head -1; })"
  [ "$code" = "$expected" ]
}
for form in location mirror; do
  if [ "$form" = location ]; then
    printf '[[registry]]\nprefix = "registry.invalid"\nlocation = "127.0.0.1:%s/mirror"\ninsecure = true\n' "$port"
  else
    printf '[[registry]]\nprefix = "registry.invalid"\nlocation = "registry.invalid"\n[[registry.mirror]]\nlocation = "127.0.0.1:%s/mirror"\ninsecure = true\n' "$port"
  fi >"$folder/registries.conf"
  try copy 0 copy "$image" "dir:$folder/copied"
  try "inspect --raw" 0 inspect --raw "$image"
  try "inspect --config" 0 inspect --config "$image"
  try "inspect --no-tags" 0 inspect --no-tags "$image"
  try inspect 1 inspect "$image"
  try list-tags 1 list-tags docker://registry.invalid/app
done
