"""Reading the layers we made, with nothing of ours."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from registry_pipelines.build.c_library import stated_c_library
from registry_pipelines.build.entries import file_entry
from registry_pipelines.build.install import Scheme
from registry_pipelines.build.splice import LayerDigests, LayerWriter
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.build.wheel_layer import WheelLayer
from registry_pipelines.oci.platforms import Platform

SITE = "usr/local/lib/python3.11/site-packages"
SCHEME = Scheme.of("3.11")


def written(write: Callable[[LayerWriter], None]) -> tuple[bytes, LayerDigests]:
    """The bytes of a layer, after checking what the writer says of them."""
    out = io.BytesIO()
    with LayerWriter(out.write) as writer:
        write(writer)
        digests = writer.finish()
    raw = out.getvalue()
    tar = gzip.decompress(raw)
    assert digests == LayerDigests(
        f"sha256:{hashlib.sha256(raw).hexdigest()}",  # type: ignore[arg-type]
        f"sha256:{hashlib.sha256(tar).hexdigest()}",  # type: ignore[arg-type]
        len(raw),
        len(tar),
    )
    return raw, digests


DPKG = b"".join(
    b"Package: libc6\nStatus: install ok installed\nArchitecture: %s\nVersion: 2.36-9+deb12u14\n\n" % name
    for name in (b"amd64", b"arm64")
)
"""What a Debian 12 says of its C library."""
DEBIAN = WheelTarget(Platform.here(), RUNNING_PYTHON, stated_c_library("glibc-2.36"), f"{RUNNING_PYTHON}.9")
"""What wheels are chosen for on that base, where PYTHON_VERSION names the patch version too."""


def debian(writer: LayerWriter) -> None:
    """The layer of a base that tells its C library."""
    writer.header(file_entry("var/lib/dpkg/status", len(DPKG)))
    writer.content(DPKG)


def wheel_layer(
    *wheels: Path,
    scheme: Scheme = SCHEME,
    byte_code: bool = False,
    left_out: Mapping[Path, Collection[str]] | None = None,
) -> bytes:
    def write(writer: LayerWriter) -> None:
        layer = WheelLayer(writer, scheme, byte_code=byte_code, advance=lambda count: None)
        for wheel in wheels:
            layer.add(open_wheel(wheel), left_out=(left_out or {}).get(wheel, ()))

    return written(write)[0]


def entries(raw: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Every entry by path; fails on a path that comes twice."""
    by_path: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isfile() else None
            assert info.name not in by_path
            by_path[info.name] = (info, file.read() if file else b"")
    return by_path


def unpack(raw: bytes, root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # Python 3.11.2 has none
        tar.extractall(root)
