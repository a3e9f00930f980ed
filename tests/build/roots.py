"""Root folders of Linux systems, made on the spot, and images unpacked over them, in which a program can be started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.build.target import RUNNING_PYTHON
from tests.needs import missing

TOOLS = (
    *("gcc", "make", "libc6-dev", "zlib1g-dev", "libffi-dev", "libssl-dev", "libsqlite3-dev", "dpkg-dev", "xz-utils"),
)
"""What a Python with its usual modules is compiled from."""

_COMPILE = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends {" ".join(TOOLS)} >/dev/null
cd /tmp
apt-get source -qq --download-only python{RUNNING_PYTHON}
tar xf python{RUNNING_PYTHON}_*.orig.tar.*
cd Python-{RUNNING_PYTHON}*
./configure -q --prefix=/usr/local --without-ensurepip --disable-test-modules >/dev/null
make -s -j"$(nproc)" >/dev/null
make -s install >/dev/null
rm -rf /tmp/*
"""


@dataclass(frozen=True)
class Release:
    """A Debian release: its Python and its C library."""

    name: str
    python: str
    glibc: str


RELEASES = (Release("bullseye", "3.9", "2.31"), Release("bookworm", "3.11", "2.36"), Release("trixie", "3.13", "2.41"))


def debian_root(folder: Path, release: str, debootstrap: str) -> Path:
    """A small Debian with its own Python, from the mirror that this machine uses. Needs root."""
    if os.getuid() != 0:
        missing("only root can make the root folder of another system")
    _run(debootstrap, "--variant=minbase", "--include=python3,ca-certificates", release, str(folder), mirror())
    return folder


def add_running_python(root: Path) -> None:
    """The minor version of the Python that runs us, compiled against the C library of the root, in ``/usr/local``.

    It stands where official Python images have theirs; nothing of it comes from this machine.
    """
    newer = root / "etc/apt/sources.list.d/source.list"
    newer.write_text(f"deb-src [trusted=yes] {mirror()} {_codename()} main\n")
    _run("chroot", str(root), "sh", "-ec", _COMPILE)
    newer.unlink()


def unpack_image(layout: Path, digest: str, folder: Path) -> Path:
    """All layers of an image in a layout folder, one over the other, by GNU tar."""
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
    folder.mkdir(parents=True)
    for layer in manifest["layers"]:
        blob = blobs / layer["digest"].removeprefix("sha256:")
        _run("tar", "-C", str(folder), "--numeric-owner", "-xzpf", str(blob))
    return folder


def in_system(root: Path, *command: str) -> str:
    """Run in an unpacked image, with processes and devices as in a container and no network; its standard output.

    Fails with what the program said when it fails.
    """
    for name in ("proc", "dev"):
        (root / name).mkdir(exist_ok=True)
    script = 'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$@"'
    own = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-ec", script, "sh", str(root)]
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}
    done = subprocess.run([*own, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _run(program: str, *arguments: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        [shutil.which(program, path=path) or program, *arguments], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, f"{program}: {(done.stdout + done.stderr)[-3000:]}"


def _codename() -> str:
    """The Debian release that has the running Python as its own: its source is in the archive."""
    known = {release.python: release.name for release in RELEASES}
    return known.get(RUNNING_PYTHON) or missing(f"no known Debian release has the source of Python {RUNNING_PYTHON}")


def mirror() -> str:
    """Debian's, as this machine's apt names it."""
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True)
    mirrors = [address for address in listed.stdout.splitlines() if "security" not in address]
    return mirrors[0] if mirrors else missing("apt has no mirror to make a Debian root from")
