#!/usr/bin/env bash
# Guess:   a hosts.toml with nothing but `server = "..."` sends every pull of that registry to the server: hosts.md calls `server`
#          "the default server for this registry host namespace", and `[host]` tables what is tried before it.
# Happens: containerd 1.6.20 takes a file without any `[host]` table for broken ("invalid `host` tree"), says so at the level of a
#          log line, and asks the registry of the image's name instead: behind an air gap a pull waits for docker.io, and where
#          there is a way, it goes to the internet past the mirror. With the same address in one `[host]` table the file counts.
#          containerd 2.1.9 takes the first file, too.
# Version: containerd 1.6.20 of Debian 12, by apt (needs root and unshare). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d /tmp/hosts.XXXX)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root)
cat >"$folder/try.py" <<'PY'
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
asked = []


class Mirror(BaseHTTPRequestHandler):
    def do_HEAD(self):
        asked.append(self.path)
        self.send_error(404)

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v2/mirror"
bin = folder / "root/usr/bin"
print(subprocess.run([bin / "containerd", "--version"], capture_output=True, text=True).stdout.strip())
(folder / "config.toml").write_text(
    f'version = 2\nroot = "{folder}/r"\nstate = "{folder}/s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
    f'[grpc]\naddress = "{folder}/g.sock"\n[ttrpc]\naddress = "{folder}/t.sock"\n'
)
daemon = subprocess.Popen([bin / "containerd", "--config", folder / "config.toml"], stderr=subprocess.DEVNULL)
ctr = [bin / "ctr", "--address", folder / "g.sock"]
while subprocess.run([*ctr, "version"], capture_output=True).returncode:
    assert daemon.poll() is None
    time.sleep(0.1)


def pull(text):
    asked.clear()
    path = folder / "certs.d/docker.io/hosts.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = [*ctr, "images", "pull", "--hosts-dir", folder / "certs.d", "docker.io/library/app:v1"]
    return subprocess.run(done, capture_output=True, text=True).stderr


try:
    rules = 'capabilities = ["pull", "resolve"]\noverride_path = true\n'
    alone = pull(f'server = "{url}"\n{rules}')
    print("server alone:", len(asked), "requests to it;", alone.splitlines()[0][-60:])
    assert not asked and "invalid `host` tree" in alone and "registry-1.docker.io" in alone
    both = pull(f'server = "{url}"\n{rules}[host."{url}"]\n{rules}')
    print("with a host table:", len(asked), "requests to it;", both.splitlines()[-1][-60:])
    assert asked and "registry-1.docker.io" not in both and "not found" in both
finally:
    daemon.terminate()
    daemon.wait()
PY
unshare --net python3 "$folder/try.py" "$folder"
