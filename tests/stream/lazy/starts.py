"""Images whose programs are this machine's own, with the libraries that they need."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from tests.stream.layers import pack
from tests.stream.releases import Layer, push

PROGRAMS = ("sh", "cat", "sha256sum", "sleep", "ls", "id")


def file(name: str, content: bytes, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), mode, 1_700_000_000
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def programs() -> list[tuple[tarfile.TarInfo, bytes]]:
    """The programs, and what their loader wants under the name that it wants."""
    paths = [Path(shutil.which(name) or f"/bin/{name}") for name in PROGRAMS]
    told = subprocess.run(["ldd", *map(str, paths)], check=True, capture_output=True, text=True).stdout
    wanted = sorted(set(re.findall(r"(/\S+\.so\S*)", told)))
    made = [file(f"bin/{path.name}", path.read_bytes(), 0o755) for path in paths]
    return made + [file(name.lstrip("/"), Path(name).read_bytes(), 0o755) for name in wanted]


def image(place: Place, *, tag: str = "v1", more_mib: int = 8, user: str = "", gpu: str | None = None) -> Descriptor:
    """Programs, and above them files that most starts do not read: ``data/0`` and so on, 1 MiB each. gpu: what the
    image says of GPUs (NVIDIA_VISIBLE_DEVICES)."""
    base = pack(
        [
            *programs(),
            file("etc/motd", b"old\n"),
            file("etc/gone", b""),
            file("usr/lib64/own", b""),
            file("usr/bin/own", b"", 0o755),
            file("etc/passwd", b"me:x:7:8::/:\n"),
        ]
    )
    noise = random.Random(tag)
    data = [file(f"data/{number}", noise.randbytes(1 << 20)) for number in range(more_mib)]
    above = pack([file("etc/motd", b"hello\n"), file("etc/.wh.gone", b""), *data, link("motd", "etc/motd")])
    layers = [Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in (base, above)]
    config = {
        "Env": ["WORD=lazily", *([f"NVIDIA_VISIBLE_DEVICES={gpu}"] if gpu is not None else [])],
        "Cmd": ["cat", "/motd"],
        "WorkingDir": "/etc",
        "User": user,
    }
    return push(place, *layers, tag=tag, config=config)
