#!/usr/bin/env bash
# Guess:   an auth.json with a login for each namespace (`registry/team-a`, `registry/team-b`), as podman and skopeo write it and the
#          kubelet reads it, means the same to the other clients; one that knows no paths asks without a login.
# Happens: crane and oras look for a key of the registry's host, find several, and take whichever comes first out of a map, another in each
#          process. Team A's image is asked for as team B in most runs, and the registry answers 401, 403 or "not found"; a second try
#          works now and then, so it looks like an unsteady registry. skopeo takes the login of the namespace in every run.
# Version: github.com/google/go-containerregistry v0.22.1, oras.land/oras v1.3.3 (needs go), skopeo 1.9.3 of Debian 12, by apt.
#          Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
for module in github.com/google/go-containerregistry/cmd/crane@v0.22.1 oras.land/oras/cmd/oras@v1.3.3; do
  GOBIN=$folder GOFLAGS=-buildvcs=false go install "$module" 2>build.log || { cat build.log; exit 1; }
done
apt-get -qq -o APT::Sandbox::User=root download skopeo/bookworm && dpkg-deb -x skopeo_*.deb root
python3 - <<'PY'
import base64
import collections
import http.server
import json
import os
import subprocess
import threading
from pathlib import Path

seen = []


class Registry(http.server.BaseHTTPRequestHandler):
    """Wants a login, and has nothing."""

    def do_GET(self):
        login = self.headers.get("Authorization")
        if login:
            seen.append(base64.b64decode(login.split()[1]).decode().partition(":")[0])
        self.send_response(404 if login else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_port}"
teams = [f"team-{letter}" for letter in "abcdefgh"]
logins = {f"{host}/{team}": {"auth": base64.b64encode(f"{team}:secret".encode()).decode()} for team in teams}
Path("config.json").write_text(json.dumps({"auths": logins}))
names = {**os.environ, "DOCKER_CONFIG": os.getcwd(), "REGISTRY_AUTH_FILE": f"{os.getcwd()}/config.json", "HOME": os.getcwd()}
tools = {
    "skopeo": ["root/usr/bin/skopeo", "--insecure-policy", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/team-a/app:v1"],
    "crane": ["./crane", "manifest", f"{host}/team-a/app:v1"],
    "oras": ["./oras", "manifest", "fetch", "--plain-http", f"{host}/team-a/app:v1"],
}
found = {}
for tool, command in tools.items():
    used = collections.Counter()
    for _ in range(30):
        seen.clear()
        subprocess.run(command, env=names, capture_output=True, timeout=120)
        used.update(set(seen))
    found[tool] = dict(sorted(used.items()))
    print(f"{tool}, 30 times {len(teams)} logins for the image of team-a:", found[tool])
assert found["skopeo"] == {"team-a": 30}
assert len(found["crane"]) > 1 and len(found["oras"]) > 1
PY
