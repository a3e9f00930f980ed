"""What scans found, in the state folder: of a layer by its diffID and digest, of an image by its manifest's digest."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.kept_json import read_kept, write_kept
from registry_pipelines.oci.layer.store import record_key
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.report import PlatformPackages

FORMAT = 12
"""Part of the paths; raised when reading a layer gives other facts than before."""

_T = TypeVar("_T", LayerContent, PlatformPackages)


class Kept:
    """Files below ``scan/`` of the state folder, which may be deleted at any time; others that share it find them."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "scan" / f"v{FORMAT}"

    def layer(self, diff_id: Digest, digest: Digest) -> LayerContent | None:
        """What is in a layer; None when no scan or build saw it."""
        return self._read("layers", record_key(diff_id, digest), LayerContent)

    def keep_layer(self, diff_id: Digest, digest: Digest, content: LayerContent) -> None:
        """diff_id, digest: of the bytes that were read, not what a manifest says. Raises DiskFull, LocalError."""
        self._write("layers", record_key(diff_id, digest), content)

    def image(self, manifest: Digest) -> PlatformPackages | None:
        """The packages of an image; None when they were not looked for."""
        return self._read("images", manifest, PlatformPackages)

    def keep_image(self, manifest: Digest, packages: PlatformPackages) -> None:
        """Raises DiskFull, LocalError."""
        self._write("images", manifest, packages)

    def _path(self, kind: str, digest: Digest) -> Path:
        return self._folder / kind / digest.algorithm / f"{digest.hex}.json"

    def _read(self, kind: str, digest: Digest, shape: type[_T]) -> _T | None:
        return read_kept(self._path(kind, digest), shape, kind=_entry(kind), name=str(digest))

    def _write(self, kind: str, digest: Digest, content: LayerContent | PlatformPackages) -> None:
        write_kept(self._path(kind, digest), content, kind=_entry(kind), name=str(digest))


def _entry(kind: str) -> str:
    return f"scan/v{FORMAT}/{kind}"
