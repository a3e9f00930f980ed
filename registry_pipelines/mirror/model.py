"""What the configuration says of a foreign image, and of bundles: it holds these classes; plans are made by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.settings import ARTIFACT, FILE, REPOSITORY, Names, Size
from registry_pipelines.transfer.closure.choice import Choice

MIN_PART_BYTES = Size(64 * 1024)
"""A bundle of a terabyte has 16 million parts of this; less is a slip of the pen."""


ClusterForm = Literal["hosts-toml", "registries-yaml", "idms", "itms", "docker", "registries-conf"]
CLUSTER_FORMS: dict[ClusterForm, str] = {
    "hosts-toml": "containerd 1.5 and later: a folder for each registry, for /etc/containerd/certs.d",
    "registries-yaml": "k3s and RKE2: registries.yaml",
    "idms": "OpenShift: ImageDigestMirrorSet, for images that are named by digest",
    "itms": "OpenShift: ImageTagMirrorSet, for images that are named by tag",
    "docker": "Docker: daemon.json; images of Docker Hub alone",
    "registries-conf": "podman, skopeo, CRI-O: a file for /etc/containers/registries.conf.d",
}
"""What the files for clusters can be written as, and for whom; ``clusters`` writes them."""


class Upstream(Choice, frozen=True, kw_only=True):
    """A foreign image that is mirrored. `tags`, `newest` and `semver` narrow each other."""

    image: str
    """Image without tag, for example docker.io/library/python, or <registry>/<repository>."""
    repository: Annotated[str, REPOSITORY] | None = None
    """Repository it gets; the upstream's own path unless told."""
    policy: Annotated[str, Names("policies")] | None = None
    """Policy that it must satisfy; the mirror's unless told."""


class Bundles(msgspec.Struct, frozen=True, kw_only=True):
    """How a mirror crosses a gap without a wire (docs/bundles.md). Near is the side that makes bundles, far the one
    that loads them; each has a configuration of its own."""

    receipts: tuple[Annotated[Path, FILE], ...] = ()
    """Near side: files of public keys whose receipts are believed, which is the far side's promoter. Unless told, what
    this configuration believes as promoter."""
    part_size: Size = Size(25 * 10**9)
    """Near side: size of the files that a bundle is cut into, so that each fits a medium."""
    folder: Path | None = None
    """Near side: folder that Dagster's asset `bundle/NAME` writes to, and in which it looks for receipts; there is no
    such asset unless told."""
    tool_wheels: Path | None = None
    """Near side: folder of wheels that `bundle create --with-tool` brings, by which the far side installs this program;
    `pip wheel registry-pipelines --wheel-dir` fills it."""
    tool_image: Annotated[str, ARTIFACT] | None = None
    """Near side: image of this program that `bundle create --with-tool` brings, with its tag or digest."""
    signers: tuple[Annotated[Path, FILE], ...] = ()
    """Far side: files of public keys whose bundles are believed, which is the near side's promoter. Unless told, what
    this configuration believes as promoter."""
    inbox: Path | None = None
    """Far side: folder in which Dagster looks for bundles to load; it looks for none unless told."""


def host_path(host: str) -> str:
    """A registry's host as the first part of a repository, for mirrors that keep it: ``docker.io`` as it is,
    ``registry.example.com:5000`` with ``-`` for the colon that no repository may have (distribution-spec 1.1, "Pulling
    manifests"). Mirrors fill such paths, and files for clusters name them."""
    return host.lower().strip("[]").replace("]:", "-").replace(":", "-")
