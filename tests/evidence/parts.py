"""What the tests of signing and promotion work with: keys, small images, the real cosign."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.evidence.keys import FileSigner, KeySet
from registry_pipelines.evidence.predicates import ROLES, Role
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.patience import patient


@dataclass
class Key:
    """A key pair on disk and in memory."""

    path: Path
    public: Path
    signer: FileSigner
    verifier: KeySet

    @property
    def signers(self) -> dict[Role, FileSigner]:
        """The one key in every role."""
        return dict.fromkeys(ROLES, self.signer)


@dataclass
class Counted:
    """A place in an embedded registry whose files show every change."""

    place: Place
    server: EmbeddedServer

    def files(self) -> dict[Path, tuple[int, int, bytes]]:
        """Every file of the registry: inode, time of change and, for what is not named by its content, its bytes."""
        found = {}
        for path in self.server.root.rglob("*"):
            if path.is_file():
                stat = path.stat()
                found[path] = (stat.st_ino, stat.st_mtime_ns, b"" if "blobs" in path.parts else path.read_bytes())
        return found


def push_image(
    place: Place, name: str = "app", *, architecture: str = "amd64", tag: str = "", **more: Any
) -> Descriptor:
    """Push an image that is different for every name and architecture. more: fields of its config."""
    layer = push_blob(place, f"layer of {name}".encode(), media_type=media_types.OCI_LAYER)
    config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}}
    pushed = push_blob(place, json.dumps({**config, "name": name, **more}).encode(), media_type=media_types.OCI_CONFIG)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=pushed, layers=(layer,))
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor


def push_index(place: Place, name: str = "app", *, tag: str = "") -> tuple[Descriptor, list[Descriptor]]:
    """Push an index with two platforms; the index and its children."""
    children = []
    for architecture in ("amd64", "arm64"):
        child = push_image(place, name, architecture=architecture)
        platform = Platform(os="linux", architecture=architecture)
        children.append(
            Descriptor(media_type=child.media_type, digest=child.digest, size=child.size, platform=platform)
        )
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(children)))
    place.registry.put_manifest(place.repository, index, tag=tag)
    return index.descriptor, children


class Listing:
    """A registry that lists more referrers than it should: what an unverified fallback index can hold."""

    def __init__(self, place: Place, extra: list[Descriptor]) -> None:
        self._registry, self._extra, self.name = place.registry, extra, place.registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def referrers(self, repository: str, digest: Digest, **options: Any) -> list[Descriptor]:
        return [*self._extra, *self._registry.referrers(repository, digest, **options)]


NO_LOG = {"cosign": ("--signing-config", "sc.json"), "cosign2": ("--tlog-upload=false",)}
"""How each cosign signs without a transparency log."""


class Cosign:
    """The real program, with its own HOME and without a transparency log."""

    def __init__(self, program: str, home: Path) -> None:
        self.program, self.home = program, home
        home.mkdir()
        (home / "sc.json").write_text('{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}')

    def __call__(self, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.home), "COSIGN_PASSWORD": password}
        return subprocess.run(
            [self.program, *arguments],
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=patient(60),
        )

    def sign(self, key: Path, image: str, *flags: str) -> subprocess.CompletedProcess[str]:
        return self("sign", "--key", str(key), "--yes", *flags, image)

    def attest(self, key: Path, kind: str, predicate: str, image: str, *flags: str) -> subprocess.CompletedProcess[str]:
        (self.home / "predicate.json").write_text(predicate)
        return self(
            "attest", "--key", str(key), "--yes", "--type", kind, "--predicate", "predicate.json", *flags, image
        )

    def verify(self, key: Path, image: str) -> subprocess.CompletedProcess[str]:
        return self("verify", "--key", str(key), "--insecure-ignore-tlog", image)

    def verify_attestation(self, key: Path, kind: str, image: str) -> subprocess.CompletedProcess[str]:
        return self("verify-attestation", "--key", str(key), "--insecure-ignore-tlog", "--type", kind, image)
