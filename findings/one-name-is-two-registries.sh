#!/usr/bin/env bash
# Guess:   `team/app:v1` is one image for all tools of OCI: what crane or skopeo copied, oras shows the referrers of.
# Happens: without a dot or a port in front crane and skopeo mean Docker Hub's `team/app`; oras asks a host `team` for `app`, which in a
#          cluster is any service of that name. Each tool gives the answer of its own registry, and none says which one it asked: the
#          copy, the check of its digest and its attachments are those of two images.
# Version: github.com/google/go-containerregistry v0.22.1, oras.land/oras v1.3.3 (needs go), skopeo 1.9.3 of Debian 12, by apt.
#          Date: 2026-11-30. A proxy on loopback notes who is asked for, and passes nothing on.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
for module in github.com/google/go-containerregistry/cmd/crane@v0.22.1 oras.land/oras/cmd/oras@v1.3.3; do
  GOBIN=$folder GOFLAGS=-buildvcs=false go install "$module" 2>build.log || { cat build.log; exit 1; }
done
apt-get -qq -o APT::Sandbox::User=root download skopeo/bookworm && dpkg-deb -x skopeo_*.deb root
python3 - <<'PY'
import http.server
import os
import subprocess
import threading

asked = set()


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        asked.add(self.path)
        self.send_error(502)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
names = {"HTTPS_PROXY": address, "https_proxy": address, "NO_PROXY": "", "no_proxy": "", "HOME": os.getcwd()}
tools = {
    "crane": ["./crane", "manifest"],
    "skopeo": ["root/usr/bin/skopeo", "--insecure-policy", "inspect", "--raw"],
    "oras": ["./oras", "manifest", "fetch"],
}
found = {}
for image in ("team/app:v1", "team.example/app:v1"):
    for tool, command in tools.items():
        asked.clear()
        place = f"docker://{image}" if tool == "skopeo" else image
        done = subprocess.run([*command, place], env={**os.environ, **names}, capture_output=True, text=True, timeout=120)
        found[image, tool] = sorted(asked) or [done.stderr]
        print(f"{tool} {image}: asks", *found[image, tool])
hub = ["index.docker.io:443"], ["registry-1.docker.io:443"]
assert found["team/app:v1", "crane"] in hub and found["team/app:v1", "skopeo"] in hub
assert found["team/app:v1", "oras"] == ["team:443"]
assert {tuple(found["team.example/app:v1", tool]) for tool in tools} == {("team.example:443",)}
PY
