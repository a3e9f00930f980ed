"""Base images for tests: of a few files, or of a whole root folder."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place


def push_base(
    place: Place,
    tag: str,
    root: Path | Mapping[str, bytes],
    *,
    environment: Mapping[str, str] | None = None,
    made_by: str = "",
) -> None:
    """An image of one layer for this machine, as ``docker import`` would have made of the root. made_by: what its
    history says; without it there is none."""
    tar = _tar_of_files(root) if isinstance(root, Mapping) else _tar_of_root(root)
    layer = push_blob(place, gzip.compress(tar, 1, mtime=0), media_type=media_types.OCI_LAYER_GZIP)
    here = Platform.here()
    config = {
        "architecture": here.architecture,
        "os": here.os,
        "config": {"Env": [f"{name}={value}" for name, value in (environment or {}).items()]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar))]},
        **({"history": [{"created": "2026-01-01T00:00:00Z", "created_by": made_by}]} if made_by else {}),
    }
    manifest = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
        layers=(layer,),
    )
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=tag)


def _tar_of_files(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _tar_of_root(root: Path) -> bytes:
    """With GNU tar, numeric owners and hard links; devices and what the kernel shows stay out."""
    with tempfile.TemporaryFile() as out:
        left_out = [f"--exclude=./{name}/*" for name in ("proc", "sys", "dev", "run")]
        command = [shutil.which("tar") or "tar", "-C", str(root), "--numeric-owner", *left_out, "-cf", "-", "."]
        subprocess.run(command, stdout=out, check=True)
        out.seek(0)
        return out.read()
