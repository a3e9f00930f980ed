#!/usr/bin/env bash
# Guess:   with two registries in hosts.toml each is shown its own account: containerd's configuration has one for each host
#          (`registry.configs."HOST".auth`), and the account that a kubelet brings with a pull (`imagePullSecrets`, a credential
#          provider) is for the registry that the image is named by.
# Happens: the kubelet's account takes the place of all of them: it is for every host of the file that asks for one, and what the
#          node has for the second is not used. So a pod with a pull secret cannot fail over where the second registry wants
#          another account, one without can. With `server_address` in the account it is for that host alone, and the node's own
#          account for the second is not used either. 2.1.9 does the same.
# Version: containerd 1.6.20 of Debian 12, by apt (needs root and unshare), grpcio 1.83.0. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d /tmp/shown.XXXX)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download containerd/bookworm && dpkg-deb -x containerd_*.deb root)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'grpcio==1.83.0'
cat >"$folder/try.py" <<'PY'
import base64
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

folder = Path(sys.argv[1])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
shown = set()


class Second(BaseHTTPRequestHandler):
    """Wants an account, and takes none."""

    def do_GET(self):
        kind, _, rest = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            shown.add(base64.b64decode(rest).decode())
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="second"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Second)
threading.Thread(target=server.serve_forever, daemon=True).start()
second = f"127.0.0.1:{server.server_port}"
(folder / "certs.d/first.example.com").mkdir(parents=True)
(folder / "certs.d/first.example.com/hosts.toml").write_text(
    f'server = "http://{second}"\n[host."http://127.0.0.1:9"]\n[host."http://{second}"]\n'
)
cri = 'plugins."io.containerd.grpc.v1.cri".registry'
(folder / "config.toml").write_text(
    f'version = 2\nroot = "{folder}/r"\nstate = "{folder}/s"\n'
    f'[grpc]\naddress = "{folder}/g.sock"\n[ttrpc]\naddress = "{folder}/t.sock"\n[{cri}]\nconfig_path = "{folder}/certs.d"\n'
    f'[{cri}.configs."{second}".auth]\nusername = "second"\npassword = "of the second"\n'
)


def field(number, value):
    """One protobuf field, text or a message of less than 128 bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


def pull(auth=b""):
    shown.clear()
    request = field(1, field(1, "first.example.com/app:v1")) + (field(2, auth) if auth else b"")
    try:
        channel.unary_unary("/runtime.v1.ImageService/PullImage")(request, wait_for_ready=True, timeout=60)
    except grpc.RpcError:
        return sorted(shown)
    raise SystemExit("nobody takes an account, and an image was pulled")


with (folder / "log").open("w") as log:
    daemon = subprocess.Popen([folder / "root/usr/bin/containerd", "--config", folder / "config.toml"], stderr=log)
channel = grpc.insecure_channel(f"unix://{folder}/g.sock")
account = field(1, "first") + field(2, "of the first")
try:
    alone, brought, addressed = pull(), pull(account), pull(account + field(4, "https://first.example.com"))
    print("the node's own configuration alone:", alone)
    print("a pull that brings the first's account:", brought)
    print("the same, with its address:", addressed)
    assert (alone, brought, addressed) == (["second:of the second"], ["first:of the first"], [])
finally:
    channel.close()
    daemon.terminate()
    daemon.wait()
PY
unshare --net "$folder/venv/bin/python" "$folder/try.py" "$folder"
