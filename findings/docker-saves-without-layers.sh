#!/usr/bin/env bash
# Guess:   `docker save` writes an archive from which the image can be loaded, or fails; `docker load` says so of one that cannot be.
# Happens: with the containerd store Docker 28.5.2 leaves out what the content store lacks, and ends with 0 without a word. A layer is
#          lacking where a snapshotter never fetched it, or where layers are discarded once they are unpacked; containers of such
#          an image can be made. Here the blob of one of two layers is deleted: the archive has neither of them, nor the config,
#          and its manifest.json names them. Another machine loads it, with 0 and "Loaded image", lists it, and makes no container.
# Version: docker.io 28.5.2 and containerd 2.1.9 of Debian sid, by apt, on Debian 12 (needs root). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"/apt/etc/{sources.list.d,preferences.d,apt.conf.d} "$folder"/apt/state/lists/partial \
  "$folder"/apt/cache/archives/partial "$folder"/{debs,root}
: >"$folder/apt/status"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | grep -v security | head -1) # it has all suites
keyring=$(dpkg -L debian-archive-keyring | grep -m1 'debian-archive-keyring.gpg$')
echo "deb [signed-by=$keyring] $mirror sid main" >"$folder/apt/etc/sources.list"
options=(-qq -o "Dir::Etc=$folder/apt/etc" -o "Dir::State=$folder/apt/state" -o "Dir::State::status=$folder/apt/status"
  -o "Dir::Cache=$folder/apt/cache" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  -o Acquire::Languages=none -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$folder/debs" && apt-get "${options[@]}" download docker.io docker-cli containerd)
for deb in "$folder"/debs/*.deb; do dpkg-deb -x "$deb" "$folder/root"; done
cat >"$folder/try.py" <<'PY'
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

folder = Path(sys.argv[1])
bin = {each: next(path for path in (folder / "root/usr").glob(f"*bin/{each}")) for each in ("docker", "dockerd", "containerd", "ctr")}
os.environ["PATH"] = f"{folder}/root/usr/bin:{os.environ['PATH']}"
os.environ["DOCKER_CONFIG"] = str(folder / "client")


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


def packed(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def archive():
    layers = [packed({"first": b"one"}), packed({"second": b"two"})]
    names = [hashlib.sha256(each).hexdigest() for each in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each}" for each in names]}}
    manifest = [{"Config": "config.json", "RepoTags": ["app:v1"], "Layers": [f"{each}.tar" for each in names]}]
    layers = {f"{name}.tar": each for name, each in zip(names, layers)}
    return names, packed({"config.json": json.dumps(config).encode(), **layers, "manifest.json": json.dumps(manifest).encode()})


class Machine:
    """containerd, and Docker above it."""

    def __init__(self, name):
        self.root = folder / name
        self.root.mkdir()
        self.socket, self.docker_socket = self.root / "c.sock", f"unix://{self.root}/d.sock"
        (self.root / "config.toml").write_text(
            f'version = 3\nroot = "{self.root}/r"\nstate = "{self.root}/s"\n[grpc]\naddress = "{self.socket}"\n'
            f'[ttrpc]\naddress = "{self.root}/t.sock"\n'
        )
        log = (self.root / "log").open("w")
        self.daemons = [subprocess.Popen([bin["containerd"], "--config", self.root / "config.toml"], stderr=log)]
        self.wait(lambda: run(*self.ctr, "version").returncode == 0)
        command = [bin["dockerd"], "--data-root", self.root / "docker", "--exec-root", self.root / "e", "-H", self.docker_socket]
        command += ["-p", self.root / "pid", "--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"]
        command += ["--containerd", self.socket, "--feature", "containerd-snapshotter=true"]
        self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
        self.wait(lambda: self.docker("version").returncode == 0)

    @property
    def ctr(self):
        return [bin["ctr"], "--address", self.socket, "--namespace", "moby"]

    def wait(self, good):
        for _ in range(600):
            assert all(each.poll() is None for each in self.daemons), (self.root / "log").read_text()[-2000:]
            if good():
                return
            time.sleep(0.1)
        raise SystemExit("no daemon answers")

    def docker(self, *command):
        return run(bin["docker"], "-H", self.docker_socket, *command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in reversed(self.daemons):
            each.terminate()
            each.wait()


def held(path):
    """What of the files that an archive's manifest.json names is in it."""
    with tarfile.open(path) as opened:
        names = set(opened.getnames())
        (image,) = json.load(opened.extractfile("manifest.json"))
    layers, config = image["Layers"], [image["Config"]]
    return ", ".join(f"{what} {len(names & set(each))} of {len(each)}" for what, each in (("layers", layers), ("config", config)))


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
layers, raw = archive()
(folder / "in.tar").write_bytes(raw)
saved = folder / "saved.tar"
with Machine("one") as one:
    print(one.docker("version", "--format", "Docker {{.Server.Version}}").stdout.strip(), run(bin["containerd"], "--version").stdout.split()[2])
    done = one.docker("load", "-i", folder / "in.tar")
    assert done.returncode == 0, done.stderr
    done = one.docker("save", "-o", saved, "app:v1")
    print("all is there:  docker save ends with", done.returncode, repr(done.stderr), "-", held(saved))
    assert (done.returncode, held(saved)) == (0, "layers 2 of 2, config 1 of 1")
    assert run(*one.ctr, "content", "rm", f"sha256:{layers[1]}").returncode == 0
    saved.unlink()
    done = one.docker("save", "-o", saved, "app:v1")
    print("a layer lacks: docker save ends with", done.returncode, repr(done.stderr), "-", held(saved))
    assert (done.returncode, done.stderr, held(saved)) == (0, "", "layers 0 of 2, config 0 of 1")
    assert one.docker("create", "app:v1", "/first").returncode == 0
with Machine("two") as two:
    done = two.docker("load", "-i", saved)
    print("elsewhere: docker load ends with", done.returncode, repr(done.stderr), "-", done.stdout.strip())
    assert (done.returncode, done.stderr) == (0, "")
    listed = two.docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}").stdout.strip()
    made = two.docker("create", "--pull", "never", "app:v1", "/first")
    print("docker images:", listed, "- docker create ends with", made.returncode, made.stderr.strip()[-100:])
    assert listed.startswith("app:v1 ") and made.returncode != 0
PY
unshare --net --mount python3 "$folder/try.py" "$folder"
