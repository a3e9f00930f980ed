"""What the textbook's images are made of, without a registry or a conda channel of the internet: stand-in bases, a
channel of two packages, and the program that installs them (rattler, by its Python package: the library of pixi)."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.build.dockerfile.kit import Kit
from tests.patience import patient
from tests.scan.images import push_image

RUNTIME_PACKAGES = ("python3", "python3-pip", "ca-certificates")
DEVEL_PACKAGES = (*RUNTIME_PACKAGES, "gcc", "g++", "libc6-dev", "make")

_PACK = """
import asyncio, os, sys
import conda_package_handling.api as cph
from rattler.index import index_fs
from pathlib import Path
folder, *packages = sys.argv[1:]
for each in packages:
    prefix, name = each.split("=")
    files = [str(path.relative_to(prefix)) for path in sorted(Path(prefix).rglob("*")) if path.is_file()]
    cph.create(prefix, files, f"{folder}/linux-64/{name}.conda", compression_level=3)
asyncio.run(index_fs(Path(folder)))
os._exit(0)
"""

INSTALL = """
import asyncio, os, sys
from rattler import Channel, Gateway, VirtualPackage, install, solve
async def main(channel, prefix, *specs):
    records = await solve(sources=[Channel(channel)], specs=list(specs), gateway=Gateway(),
        platforms=["linux-64", "noarch"], virtual_packages=VirtualPackage.detect())
    await install(records=records, target_prefix=prefix, cache_dir=prefix + "/pkgs")
asyncio.run(main(*sys.argv[1:]))
os._exit(0)
"""
"""Solves and installs as `conda install` does: packages unpacked in ``pkgs``, their files linked into the prefix. It
ends at once: rattler's threads, where they meet an interpreter that is being taken down, end one run of three by a
signal."""


def stand_in(folder: Path, packages: Sequence[str], peer: Callable[[str], str], cuda: Sequence[Path] = ()) -> Path:
    """A root of Debian 12 in the place of a CUDA base. cuda: wheels of NVIDIA's whose files become /usr/local/cuda,
    headers and static libraries too."""
    command = [peer("debootstrap"), "--variant=minbase", f"--include={','.join(packages)}", "bookworm", folder]
    subprocess.run(command, check=True, capture_output=True, timeout=patient(900))
    for wheel in cuda:
        with zipfile.ZipFile(wheel) as archive:
            for each in archive.infolist():
                parts = each.filename.split("/")
                if parts[0] == "nvidia" and not each.is_dir() and len(parts) > 3:
                    path = folder / "usr/local/cuda" / "/".join(parts[2:])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(each))
    return folder


def push_project(place: Place, tag: str) -> None:
    """What the guide's Dockerfile makes, in small: four layers, the last one with the same files again."""
    noise = random.Random(1).randbytes
    status = "Package: {}\nStatus: install ok installed\nVersion: {}\nArchitecture: amd64\n\n"
    packages = "".join(status.format(*each) for each in (("gcc-12", "12.2.0-14"), ("libc6", "2.36-9")))
    project = {"app/main.py": b"import scipy\n", "app/model/model.safetensors": noise(4 << 20)}
    names = [f"lib/python3.11/site-packages/scipy/{name}" for name in ("__init__.py", "linalg.bin")]
    about = {"name": "scipy", "version": "1.17.1", "build": "0", "build_number": 0, "channel": "local", "files": names}
    system = {
        "etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": packages.encode(),
        "var/lib/dpkg/info/gcc-12.list": b"/usr/bin/gcc-12\n",
        "usr/bin/gcc-12": noise(1 << 20),
        "usr/local/cuda/lib64/libcudart_static.a": noise(1 << 20),
    }
    conda = {
        "opt/conda/conda-meta/scipy-1.17.1-0.json": json.dumps(about).encode(),
        **{f"opt/conda/{name}": noise(1 << 20) for name in names},
        "opt/conda/pkgs/scipy-1.17.1-0.conda": noise(1 << 20),
    }
    push_image(place, [system, project, conda, project], tag=tag)


def download(folder: Path, *requirements: str) -> list[Path]:
    """Wheels for the Python of the stand-in base, without what they need."""
    for_base = (
        "--python-version",
        "3.11",
        "--only-binary",
        ":all:",
        "--no-deps",
        "--platform",
        "manylinux_2_28_x86_64",
    )
    command = [sys.executable, "-m", "pip", "download", "-q", *for_base, "--platform", "manylinux_2_27_x86_64"]
    command += ["--platform", "manylinux2014_x86_64", "-d", str(folder), *requirements]
    subprocess.run(command, check=True, timeout=patient(900))
    return sorted(folder.glob("*.whl"))


class Conda:
    """A channel folder and a folder of tools, for the contexts of builds."""

    def __init__(self, folder: Path, wheels: Sequence[Path]) -> None:
        """wheels: of which the packages have the files, each needing those before it."""
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment/bin/python"
        self._run(python, "-m", "pip", "install", "-q", "py-rattler==0.28.0", "conda-package-handling==2.6.0")
        self.channel, self.tools = folder / "channel", folder / "tools"
        for name in ("linux-64", "noarch"):
            (self.channel / name).mkdir(parents=True)
        packed = [
            f"{self._package(folder / 'packages', wheel, wheels[:number])}" for number, wheel in enumerate(wheels)
        ]
        self._run(python, "-c", _PACK, str(self.channel), *packed)
        self._run(python, "-m", "pip", "install", "-q", "--target", str(self.tools), "py-rattler==0.28.0")
        (self.tools / "install.py").write_text(INSTALL)

    def _run(self, *command: str | Path) -> None:
        subprocess.run(command, check=True, timeout=patient(600))

    def _package(self, folder: Path, wheel: Path, needs: Sequence[Path]) -> str:
        """The unpacked package as the format wants it (conda.io, "Package specification"); its folder and name."""
        name, version = wheel.name.split("-")[:2]
        prefix = folder / name
        site = prefix / "lib/python3.11/site-packages"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        files = [path for path in sorted(prefix.rglob("*")) if path.is_file()]
        paths = [
            {
                "_path": str(path.relative_to(prefix)),
                "path_type": "hardlink",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "size_in_bytes": path.stat().st_size,
            }
            for path in files
        ]
        about = {"name": name, "version": version, "build": "0", "build_number": 0, "subdir": "linux-64"}
        about |= {"depends": [each.name.split("-")[0] for each in needs]}
        (prefix / "info").mkdir()
        (prefix / "info/index.json").write_text(json.dumps(about))
        (prefix / "info/paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}))
        return f"{prefix}={name}-{version}-0"


def push_bases(kit: Kit, peer: Callable[[str], str], folder: Path) -> str:
    """``cuda/devel:1`` and ``cuda/runtime:1`` in the kit's registry; the reference of an image with a channel and the
    tools that install from it."""
    cuda = download(folder / "cuda", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-nvrtc==13.0.88")
    for name, packages, files in (("runtime", RUNTIME_PACKAGES, cuda[:1]), ("devel", DEVEL_PACKAGES, cuda)):
        root = stand_in(folder / name, packages, peer, files)
        push_base(kit.place(f"cuda/{name}"), "1", root, made_by=f"a stand-in for CUDA's {name} image")
        shutil.rmtree(root)
    conda = Conda(folder / "conda", download(folder / "wheels", "numpy==2.4.6", "scipy==1.17.1"))
    image = folder / "image"
    for each in (conda.channel, conda.tools):
        shutil.copytree(each, image / each.name)
    push_base(kit.place("cuda/tools"), "1", image)
    return f"{kit.server}/cuda/tools:1"
