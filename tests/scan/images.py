"""Images made in a test: tars with given files, pushed into a layout folder."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

Files = Mapping[str, "bytes | str"]
"""Path to content; a ``str`` starting with ``->`` is a symbolic link, with ``=>`` a hard link."""

REPOSITORY = Path(__file__).parent.parent.parent
ADVISORIES = REPOSITORY / "registry_pipelines" / "data" / "pypa-advisories-2024-10-10.tar.gz"


def make_tar(files: Files, *, executable: Sequence[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if name in executable else 0o644
            if isinstance(content, str) and content.startswith(("->", "=>")):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content[2:]
                tar.addfile(info)
                continue
            raw = content.encode() if isinstance(content, str) else content
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def push_image(
    place: Place, layers: Sequence[Files | bytes], *, tag: str = "", architecture: str = "amd64"
) -> Descriptor:
    """An image of these layers (files, or a finished tar); its manifest's descriptor. architecture: without one its
    config names no platform."""
    tars = [layer if isinstance(layer, bytes) else make_tar(layer) for layer in layers]
    pushed = [push_blob(place, gzip.compress(tar, 1, mtime=0), media_type=OCI_LAYER_GZIP) for tar in tars]
    config = {
        "architecture": architecture,
        "os": "linux" if architecture else "",
        "created": "2026-11-23T10:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]},
    }
    raw = msgspec.json.encode(config, enc_hook=str)
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=push_blob(place, raw, media_type=OCI_CONFIG),
            layers=tuple(pushed),
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor


def push_index(place: Place, children: Sequence[Descriptor], *, tag: str = "") -> Descriptor:
    named = tuple(
        Descriptor(
            media_type=child.media_type,
            digest=child.digest,
            size=child.size,
            platform=child.platform or Platform(os="linux", architecture="amd64"),
        )
        for child in children
    )
    index = manifest_bytes(Index(schema_version=2, media_type=OCI_INDEX, manifests=named))
    place.registry.put_manifest(place.repository, index, tag=tag)
    return index.descriptor


def push_platforms(place: Place, *architectures: str, tag: str) -> tuple[Descriptor, list[Descriptor]]:
    """An image for each architecture, and the index over them."""
    images = [push_image(place, [{"etc/arch": each}], architecture=each) for each in architectures]
    named = [
        msgspec.structs.replace(image, platform=Platform(os="linux", architecture=each))
        for image, each in zip(images, architectures, strict=True)
    ]
    return push_index(place, named, tag=tag), images


def dist_info(name: str, version: str, *, root: str = "usr/lib/python3/site-packages") -> dict[str, bytes | str]:
    folder = f"{root}/{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nreadme\nVersion: 9\n",
        f"{folder}/RECORD": f"{name}/__init__.py,,\n{name}/_native.so,,\n{name}-{version}.dist-info/METADATA,,\n",
    }


ELF = b"\x7fELF" + bytes(60)

DEBIAN: dict[str, bytes | str] = {
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n"
        "Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>\nSource: glibc\nVersion: 2.36-9+deb12u4\n\n"
        "Package: python3-jinja2\nStatus: install ok installed\nArchitecture: all\nSource: jinja2 (3.1.2-1)\n"
        "Maintainer: Piotr <piotr@debian.org>\nVersion: 3.1.2-1+b5\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    ),
    "lib": "->usr/lib",
    "usr/lib/x86_64-linux-gnu/libc.so.6": ELF,
    "var/lib/dpkg/info/libc6:amd64.list": "/.\n/lib\n/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu/libc.so.6\n",
}


def keep_elsewhere(place: Place, tag: str) -> Descriptor:
    """The image under a tag, written anew with layers that their publisher keeps elsewhere, though they are here."""
    content = place.registry.get_manifest(place.repository, tag).content()
    assert isinstance(content, Manifest)
    kind, urls = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ("https://publisher.example/layer",)
    layers = tuple(msgspec.structs.replace(layer, media_type=kind, urls=urls) for layer in content.layers)
    manifest = manifest_bytes(msgspec.structs.replace(content, layers=layers))
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor
