#!/usr/bin/env bash
# Guess:   a mirror of `registry-mirrors` that wants an account gets the one that `docker login MIRROR` kept for it.
# Happens: dockerd 20.10.24 never sends it. It answers the mirror's 401 with the account of Docker Hub, name and password in Basic
#          authentication: whoever runs the mirror reads it. With no account of Docker Hub the mirror is passed over without a
#          word, and the pull ends with an error about registry-1.docker.io; so a private registry that wants an account cannot
#          be a mirror.
# Version: docker.io 20.10.24 of Debian 12, with its containerd, by apt (needs root and unshare). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d /tmp/mirror.XXXX)
trap 'rm -rf "$folder"' EXIT
(
  cd "$folder"
  apt-get -qq -o APT::Sandbox::User=root download docker.io/bookworm containerd/bookworm runc/bookworm
  for package in *.deb; do dpkg-deb -x "$package" root; done
)
cat >"$folder/try.py" <<'PY'
import base64
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = []


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        seen.append(base64.b64decode(text).decode() if kind == "Basic" else "")
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"127.0.0.1:{server.server_port}"
(folder / "daemon.json").write_text(json.dumps({"registry-mirrors": [f"http://{host}"], "insecure-registries": [host]}))
environment = {
    **os.environ,
    "PATH": f"{folder}/root/usr/bin:{folder}/root/usr/sbin:{os.environ['PATH']}",
    "DOCKER_HOST": f"unix://{folder}/d.sock",
    "HOME": str(folder),
}
command = f"dockerd --config-file {folder}/daemon.json --data-root {folder}/data --exec-root {folder}/run -p {folder}/pid"
command += f" -H unix://{folder}/d.sock --iptables=false --ip6tables=false --bridge=none --ip-forward=false"
daemon = subprocess.Popen(command.split(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def docker(*words):
    return subprocess.run(["docker", *words], env=environment, capture_output=True, text=True)


def pull(auths):
    (folder / ".docker").mkdir(exist_ok=True)
    rows = {name: {"auth": base64.b64encode(account.encode()).decode()} for name, account in auths.items()}
    (folder / ".docker/config.json").write_text(json.dumps({"auths": rows}))
    seen.clear()
    return docker("pull", "app:v1").stderr.strip()


try:
    while docker("version").returncode:
        assert daemon.poll() is None
        time.sleep(0.1)
    print(docker("version", "--format", "dockerd {{.Server.Version}}").stdout.strip())
    error = pull({host: "robot:of-the-mirror"})
    print("account of the mirror kept: the mirror saw", sorted(set(seen)), "and the error is about", error[40:75])
    assert seen and set(seen) == {""} and "registry-1.docker.io" in error
    pull({host: "robot:of-the-mirror", "https://index.docker.io/v1/": "me:of-docker-hub"})
    print("account of Docker Hub kept, too: the mirror saw", sorted(set(seen)))
    assert "me:of-docker-hub" in seen and "robot:of-the-mirror" not in seen
finally:
    daemon.terminate()
    daemon.wait()
    subprocess.run(["umount", folder / "run/netns/default"], capture_output=True)
PY
unshare --net python3 "$folder/try.py" "$folder"
