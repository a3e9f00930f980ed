"""Images that the benchmarks of starting start: made of files that are on this machine, layer by layer.

``multi`` is what our own builder makes of wheels. ``unoptimised`` is what real images carry that nobody made smaller:
all packages in one layer with pip's cache beside them, and compilers, headers and the caches of the system's packages.
``installed`` is made of an environment as it stands on the disk, for machines that reach no index.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import IO

import msgspec
from isal import igzip

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

APPLICATION = Path(__file__).with_name("start_application")
SYSTEM = ("usr/lib/gcc", "usr/include", "usr/share/doc", "usr/share/locale", "var/lib/apt", "var/cache/apt")
"""Of this machine, for ``unoptimised``: compilers, headers, and what package managers leave."""
SMALL_BYTES = 20_000_000
"""Distributions below that share one layer."""
MTIME = 1_700_000_000

Files = Iterable[tuple[str, Path]]
"""Name in the image without a slash in front, and the file, folder or link here."""


@dataclass(frozen=True)
class MadeLayer:
    """A layer that lies in a file."""

    path: Path
    descriptor: Descriptor
    diff_id: Digest


class Hashing:
    """What passes on the way to a file."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target, self._sha256, self.size = target, hashlib.sha256(), 0

    def write(self, piece: bytes) -> int:
        self._sha256.update(piece)
        self.size += len(piece)
        return self._target.write(piece)

    def flush(self) -> None:
        self._target.flush()

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._sha256.hexdigest()}")


def write_layer(path: Path, files: Files) -> MadeLayer:
    """A gzip layer of files in the order given; a name that comes again is left out."""
    seen: set[str] = set()
    with path.open("wb") as file:
        packed = Hashing(file)
        with igzip.IGzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as gzip:
            plain = Hashing(gzip)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:
                for name, source in files:
                    if name not in seen:
                        seen.add(name)
                        _add(tar, name, source)
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=packed.digest, size=packed.size)
    return MadeLayer(path, descriptor, plain.digest)


def _add(tar: tarfile.TarFile, name: str, source: Path) -> None:
    info = tar.gettarinfo(source, name)
    if info is None or info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        return
    if info.islnk():  # its first name may be in another layer
        info = tarfile.TarInfo(name)
        info.size, info.mode = source.stat().st_size, source.stat().st_mode & 0o7777
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = MTIME
    if info.isreg():
        with source.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def push_image(place: Place, layers: Sequence[MadeLayer], settings: Mapping[str, object], tag: str = "v1") -> None:
    """Push an image of layers, base first; their files go. settings: as Docker's config has them."""
    for layer in layers:
        if place.registry.blob_size(place.repository, layer.descriptor.digest) is None:
            with layer.path.open("rb", buffering=0) as stream:
                place.registry.upload_blob(place.repository, layer.descriptor, stream)  # type: ignore[arg-type]
        layer.path.unlink()
    document = {
        "os": "linux",
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
    }
    config = push_blob(place, msgspec.json.encode(document), media_type=OCI_CONFIG)
    made = tuple(layer.descriptor for layer in layers)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=made)
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=tag)


def multi(place: Place, wheels: Path, requirements: Sequence[str], state: Path) -> None:
    """One wheel, one layer, on a Linux root with the Python that runs this."""
    spec = BuildSpec(
        name="multi",
        requirements=tuple(requirements),
        wheels=wheels,
        application=APPLICATION,
        command=("/usr/local/bin/python3", "/app/matmul.py"),
        user="0",
        version="v1",
    )
    LayersBuilder(state).build(spec, place)


def unoptimised(place: Place, unpacked: Path, wheels: Path, folder: Path, *, system: Sequence[str] = SYSTEM) -> None:
    """The same program as nobody made it smaller: ``unpacked`` (``multi``, or any image) with all packages in one
    layer, pip's cache beside them (the wheels), compilers, headers and what package managers leave."""

    def below() -> Iterator[tuple[str, Path]]:
        for top in system:
            yield from _below(Path("/", top), top)
        yield from (pair for pair in _below(unpacked, "") if "/site-packages/" not in pair[0])

    def packages() -> Iterator[tuple[str, Path]]:
        yield from (pair for pair in _below(unpacked, "") if "/site-packages/" in pair[0])
        yield from _below(wheels, "root/.cache/pip/wheels")

    layers = [write_layer(folder / "system", below()), write_layer(folder / "packages", packages())]
    push_image(place, layers, {"Cmd": ["/usr/local/bin/python3", "/app/matmul.py"]})


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Everything in a folder, itself first."""
    for top, folders, files in os.walk(folder):
        below = Path(top).relative_to(folder)
        inside = "" if str(below) == "." else str(below)
        head = "/".join(filter(None, (name, inside)))
        if head:
            yield head, Path(top)
        links = [each for each in folders if Path(top, each).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        for each in sorted((*files, *links)):
            yield f"{head}/{each}" if head else each, Path(top, each)


SITE = "opt/site-packages"
_ASK = """
import json, os, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps([os.path.realpath(sys.executable), paths["stdlib"], paths["platstdlib"]]))
"""
_LIBRARY = re.compile(r"(/\S+\.so\S*)")
DRIVER = ("libcuda.so*", "libnvidia-ml.so*", "libnvidia-ptxjitcompiler.so*", "libnvidia-nvvm*", "libnvidia-gpucomp.so*")
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu")


def installed(place: Place, python: Path, site: Path, wanted: str, folder: Path, *, gpu: bool) -> str:
    """An image of an interpreter and of what one distribution needs, as they stand here; a layer for each large
    distribution. gpu: with the machine's driver, which a container toolkit would bring. The interpreter's path."""
    program, stdlib, dynamic = map(Path, json.loads(subprocess.check_output([python, "-I", "-S", "-c", _ASK])))
    found = _closure(site, wanted)
    groups: dict[str, list[Path]] = {}
    for name, each in found.items():
        files = [Path(str(each.locate_file(file))) for file in each.files or ()]
        files = [file for file in files if file.is_file() and file.is_relative_to(site)]
        large = sum(file.stat().st_size for file in files) > SMALL_BYTES
        groups.setdefault(name if large else "small", []).extend(files)
    libraries = [program, *dynamic.glob("lib-dynload/*.so"), *site.glob("torch/_C*.so"), *site.glob("torch/lib/*.so")]
    needed = [each for each in _libraries(libraries) if not each.is_relative_to(site)]
    driver = [each for top in DRIVER_FOLDERS for glob in DRIVER for each in Path(top).glob(glob)] if gpu else []

    def system() -> Iterator[tuple[str, Path]]:
        yield str(program).lstrip("/"), program
        for each in needed:
            yield str(each).lstrip("/"), each.resolve()
        for name, each in _below(stdlib, str(stdlib).lstrip("/")):
            if not {"site-packages", "dist-packages", "test", "tests"} & set(Path(name).parts):
                yield name, each
        yield "app/matmul.py", APPLICATION / "matmul.py"

    jobs: list[tuple[str, Files]] = [("system", system())]
    jobs += [("driver", [(str(each).lstrip("/"), each) for each in driver])] if driver else []
    jobs += [(name, [(f"{SITE}/{each.relative_to(site)}", each) for each in files]) for name, files in groups.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        layers = list(pool.map(lambda job: write_layer(folder / job[0], job[1]), jobs))
    places = dict.fromkeys(str(each.parent) for each in (*needed, *driver))
    environment = [f"PYTHONPATH=/{SITE}", f"LD_LIBRARY_PATH={':'.join(places)}", f"PYTHONHOME={stdlib.parents[1]}"]
    push_image(place, layers, {"Env": environment, "Cmd": [str(program), "/app/matmul.py"]})
    return str(program)


def _closure(site: Path, wanted: str) -> dict[str, Distribution]:
    """A distribution and what it requires, by name, of those that are installed."""
    there = {_normal(each.metadata["Name"]): each for each in distributions(path=[str(site)])}
    if _normal(wanted) not in there:
        raise SystemExit(f"{wanted} is not installed in {site}")
    found: dict[str, Distribution] = {}
    todo = [_normal(wanted), "numpy"]
    while todo:
        name = todo.pop()
        if name in there and name not in found:
            found[name] = there[name]
            required = (text for text in there[name].requires or () if "extra ==" not in text)
            todo += [_normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in required]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """What the dynamic loader brings for programs and libraries, and the loader itself."""
    found: dict[str, None] = {}
    for program in programs:
        told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        for line in told.splitlines():
            if (match := _LIBRARY.search(line.rpartition("=>")[2])) is not None:
                found[match[1]] = None
    return [Path(each) for each in found]
