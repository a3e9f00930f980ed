#!/usr/bin/env bash
# Guess:   `image_pull_progress_timeout` (5 minutes unless told) ends what hangs in a pull, so that a kubelet gets the image from the next
#          host of hosts.toml, or at least an error soon.
# Happens: containerd 2.1.9 pulls by its transfer service unless told otherwise, and there the setting does nothing, without a word: a pull
#          from a host that takes connections and answers nothing goes on for ever. With `use_local_image_pull = true` it ends
#          the *whole* pull with "context canceled"; the next host is not asked either way, however soon the limit is.
# Version: github.com/containerd/containerd/v2 v2.1.9 (needs go and root; builds its daemon, some minutes the first time), grpcio
#          1.83.0. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf 'module finding\n\ngo 1.24\n\nrequire github.com/containerd/containerd/v2 v2.1.9\n' >go.mod
CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -tags=no_btrfs,no_devmapper,no_zfs' \
  go build -o containerd github.com/containerd/containerd/v2/cmd/containerd 2>build.log || { cat build.log; exit 1; }
./containerd --version | cut -d' ' -f1-3
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'grpcio==1.83.0'
cat >try.py <<'PY'
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc

folder, digest = Path(sys.argv[1]), "sha256:" + "0" * 64
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
LIMIT_S, PATIENCE_S = 3, 40


def field(content):
    """Field 1 of a protobuf message."""
    raw = content.encode() if isinstance(content, str) else content
    return bytes([0x0A, len(raw)]) + raw


def pull(local):
    """How a pull ends, after how many seconds, and whether the second host was asked. Both hosts listen and take
    nothing: a connection ends in the kernel."""
    root = folder / f"local-{local}"
    hosts = root / "certs.d" / "registry.invalid"
    hosts.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        urls = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
        (hosts / "hosts.toml").write_text(f'server = "{urls[1]}"\n' + "".join(f'[host."{url}"]\n' for url in urls))
        (root / "config.toml").write_text(
            f'version = 3\nroot = "{root}/root"\nstate = "{root}/state"\n'
            f'[grpc]\naddress = "{root}/c.sock"\n[ttrpc]\naddress = "{root}/t.sock"\n'
            f'[plugins."io.containerd.cri.v1.images"]\nimage_pull_progress_timeout = "{LIMIT_S}s"\n'
            f"use_local_image_pull = {str(local).lower()}\n"
            f'[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "{root}/certs.d"\n'
        )
        command = [folder / "containerd", "--config", root / "config.toml"]
        daemon = subprocess.Popen(command, stderr=(root / "log").open("w"))
        began = time.monotonic()
        try:
            with grpc.insecure_channel(f"unix://{root}/c.sock") as channel:
                call = channel.unary_unary("/runtime.v1.ImageService/PullImage")
                pulling = call.future(field(field(f"registry.invalid/app@{digest}")), wait_for_ready=True)
                try:
                    pulling.result(timeout=PATIENCE_S)
                    said = "pulled"
                except grpc.FutureTimeoutError:
                    pulling.cancel()
                    said = "goes on"
        except grpc.RpcError as error:
            said = error.details()
        finally:
            took = time.monotonic() - began
            daemon.terminate()
            daemon.wait()
        second.setblocking(False)
        try:
            second.accept()[0].close()
            asked = True
        except BlockingIOError:
            asked = False
    how = "use_local_image_pull" if local else "as it comes"
    words = f"...{said[-16:]}" if len(said) > 20 else said
    print(f"{how:20} limit {LIMIT_S} s: after {took:.0f} s {words!r}; second host asked: {asked}", flush=True)
    return said, took, asked


said, took, asked = pull(local=False)
assert said == "goes on" and took >= PATIENCE_S and not asked, said
said, took, asked = pull(local=True)
assert said.endswith("context canceled") and took < PATIENCE_S and not asked, said
PY
unshare --net --mount venv/bin/python try.py "$folder"
