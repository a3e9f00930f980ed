"""What can be said of a release's start by streaming: each kind with why it matters, what to do, who said so and when.

Readers are named where a rule is one reader's own: ``soci`` (soci-snapshotter, Fargate), ``estargz``
(stargz-snapshotter), ``gke`` (Image streaming), ``fargate``; ``all`` where nothing that streams could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

Severity = Literal["error", "warning", "unknown", "hint"]
"""``error``: what was made for streaming does not work, or cannot be trusted. ``warning``: it starts, and layers are
fetched whole. ``unknown``: nothing here can tell, and ``do`` says who can. ``hint``: good to know."""

Reader = Literal["all", "soci", "estargz", "gke", "fargate"]

CheckId = Literal[
    "schema-1",
    "unreadable",
    "no-image",
    "encrypted-layer",
    "foreign-layer",
    "odd-layer-type",
    "repeated-layer",
    "empty-layer",
    "layer-unread",
    "diff-ids",
    "zstd-layer",
    "gke-registry",
    "gke-location",
    "gke-repository-kind",
    "docker-hub",
    "fargate-registry",
]

_GKE = "GKE documentation, Image streaming (read 2026-11-28)"
_BATCH = "Google Cloud Batch documentation, Image streaming, limitations (read 2026-11-28)"
_SOCI = "soci-snapshotter 0.15.0"


@dataclass(frozen=True)
class Kind:
    """One kind of row."""

    severity: Severity
    reader: Reader
    what: str
    why: str
    do: str
    source: str


KINDS: dict[CheckId, Kind] = {
    "schema-1": Kind(
        *("error", "all", "it is a Docker manifest of schema 1"),
        "No format of streaming knows it, GKE refuses it, and Docker does not start it any more",
        "Push the image again with a current tool",
        _GKE,
    ),
    "unreadable": Kind(
        *("error", "all", "it cannot be read"),
        "What is not whole here does not start, streamed or not",
        "Push it again, or copy it from where it is whole",
        "image-spec 1.1",
    ),
    "no-image": Kind(
        *("error", "all", "it holds no image that could be started"),
        "An artifact, or an index of artifacts, has nothing to stream",
        "Name an image",
        "image-spec 1.1",
    ),
    "encrypted-layer": Kind(
        *("error", "all", "the layer is encrypted"),
        "Nobody without the key can index or convert it, and no snapshotter decrypts while it streams",
        "Leave the layer in the clear where it shall be streamed",
        "containers/ocicrypt; soci-snapshotter and stargz-snapshotter know no such type (2026-11)",
    ),
    "foreign-layer": Kind(
        *("warning", "all", "the layer is kept by its publisher elsewhere"),
        "Nobody can ask this registry for a part of it",
        "Copy it with its foreign layers, or build it with the layer pushed",
        "image-spec 1.1, layer.md, non-distributable layers",
    ),
    "odd-layer-type": Kind(
        *("error", "all", "the layer's media type is not a layer's"),
        "It is left out of every index, and containerd does not start the image",
        "Push it again with a layer's media types",
        "run 2026-11-28: containerd 1.6.20",
    ),
    "repeated-layer": Kind(
        *("warning", "gke", "the layer is there more than once"),
        "GKE then fetches the whole image, and says nothing",
        "Build it without the step that changes nothing, or on a base without it",
        _GKE,
    ),
    "empty-layer": Kind(
        *("warning", "gke", "the layer holds nothing"),
        "GKE then fetches the whole image, and says nothing",
        "Build it without the step that changes nothing, or on a base without it",
        f"{_GKE}; {_BATCH}",
    ),
    "layer-unread": Kind(
        *("unknown", "gke", "whether the layer holds anything cannot be told"),
        "An empty layer keeps GKE from streaming the image",
        "Push the layer again, or ask again where it can be read",
        _GKE,
    ),
    "diff-ids": Kind(
        *("unknown", "gke", "its config does not name its layers"),
        "Whether one layer is there twice in two compressions cannot be told; it would keep GKE from streaming",
        "Build it again",
        _GKE,
    ),
    "zstd-layer": Kind(
        *("warning", "soci", "the layer is compressed with zstd"),
        "SOCI has no form for it: it is left out of the index, and fetched whole before the image starts",
        "Compress it with gzip, or convert the image to eStargz",
        f"{_SOCI}, issue 519",
    ),
    "gke-registry": Kind(
        *("hint", "gke", "GKE does not stream from this registry"),
        "It streams from Artifact Registry, and public images of Docker Hub; from elsewhere it fetches the whole image",
        "Where nodes of GKE shall stream it, copy it to Artifact Registry",
        _GKE,
    ),
    "gke-location": Kind(
        *("unknown", "gke", "where the nodes are is not known here"),
        "An image is streamed from the nodes' own region, or the multi-region that holds it",
        "Compare it with the cluster: `gcloud container clusters list --format 'value(name,location)'`",
        f"{_BATCH}; earlier editions of the GKE documentation",
    ),
    "gke-repository-kind": Kind(
        *("unknown", "gke", "of which kind the repository is only Google's API tells"),
        "Standard and remote repositories are streamed from, virtual ones are not named",
        "Look at `mode` of `gcloud artifacts repositories describe`",
        _GKE,
    ),
    "docker-hub": Kind(
        *("unknown", "gke", "whether the repository is public is not known here"),
        "GKE streams public images of Docker Hub; private ones are fetched whole",
        "Where nodes of GKE shall stream it, copy it to Artifact Registry",
        _GKE,
    ),
    "fargate-registry": Kind(
        *("hint", "fargate", "it is in ECR: Fargate reads SOCI indexes of version 2, on platform 1.4.0"),
        "An index of version 1 is not read there since February 2026; below 250 MB an index does not pay",
        "Derive the image with `stream: {format: soci-v2}`",
        "Amazon ECS developer guide, Fargate image pull behaviour (read 2026-11-28); AWS's notice of 2025-08-27",
    ),
}
"""What each means; the source with its date."""


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be said about one platform, or one layer of it."""

    name: CheckId
    severity: Severity
    reader: Reader
    platform: str
    """``linux/amd64``; empty when it is about the whole release."""
    manifest: str
    """Digest of the platform's manifest, or of the release."""
    layer: str
    """Digest of the layer; empty when it is about the image."""
    what: str
    why: str
    do: str
    source: str


def check_row(
    name: CheckId, *, platform: str = "", manifest: str, layer: str = "", detail: str = "", do: str = ""
) -> CheckRow:
    """A row of this kind. detail: numbers or names that belong behind ``what``. do: in place of the kind's own."""
    kind = KINDS[name]
    return CheckRow(
        name=name,
        severity=kind.severity,
        reader=kind.reader,
        platform=platform,
        manifest=manifest,
        layer=layer,
        what=f"{kind.what}: {detail}" if detail else kind.what,
        why=kind.why,
        do=do or kind.do,
        source=kind.source,
    )
