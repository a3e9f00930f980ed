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
    "soci-index-missing",
    "index-damaged",
    "index-bytes",
    "index-unnamed",
    "index-unsigned",
    "index-unverified",
    "soci-v1-only",
    "no-index",
    "small-layers",
    "layer-not-indexed",
    "other-layer-indexed",
    "ztoc-missing",
    "ztoc-damaged",
    "ztoc-other-layer",
    "index-wrong",
    "layer-gone",
    "no-ranges",
    "one-block",
    "large-span",
    "span-beyond-end",
    "spans-unread",
    "prefetch-damaged",
    "estargz-no-annotation",
    "estargz-no-footer",
    "estargz-partly",
    "estargz-wrong",
    "estargz-unrecorded",
    "pack-unsigned",
    "pack-damaged",
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
    "soci-index-missing": Kind(
        *("error", "soci", "it names a SOCI index that is not here"),
        "A node looks for the index, does not find it, and fetches every layer whole",
        "Copy the whole index: a pull and push through Docker, or one platform by skopeo or crane, leaves it behind",
        "run 2026-11-28: skopeo 1.22.0, crane 0.20.7, regctl of July 2026, Docker 28.5.2",
    ),
    "index-damaged": Kind(
        *("error", "soci", "a SOCI index cannot be read"),
        "A node that takes it streams nothing",
        "Delete it, and index the image again",
        _SOCI,
    ),
    "index-bytes": Kind(
        *("error", "soci", "the SOCI index has other bytes than a node writes for it"),
        "The snapshotter stores the index as it writes it, under the digest that it asked for: then nothing streams",
        "Index the image again: no field more, no other order, no blanks",
        f"{_SOCI} (v0.4.0 to v0.15.0)",
    ),
    "index-unnamed": Kind(
        *("warning", "soci", "a SOCI index of version 2 that no image names"),
        "A node finds it only through an annotation of the image's manifest, and there is none",
        "Convert the image again; who changed its manifest left the annotation out",
        f"{_SOCI}, docs/soci-index-manifest-v2.md",
    ),
    "index-unsigned": Kind(
        *("warning", "soci", "nobody whose key is believed as indexer signed the index"),
        "A node believes the digests in an index in place of the layer's, so it is served to none, and a policy's "
        "`streaming-index` does not count it",
        "Index it here, where the indexer's key is",
        "this program",
    ),
    "index-unverified": Kind(
        *("unknown", "soci", "whether the index can be trusted is not known: no indexer's key was given"),
        "A node believes the digests in an index in place of the layer's",
        "Name the indexer's public key: `--key`, or `signing.indexer` of the configuration",
        "this program",
    ),
    "soci-v1-only": Kind(
        *("hint", "soci", "its SOCI index is of version 1"),
        "The snapshotter does not look for it since 0.10 unless `soci_v1` is set, and Fargate not since February 2026",
        "Where nodes read version 2 alone, derive the image with `stream: {format: soci-v2}`",
        "soci-snapshotter issue 1558; AWS's notice of 2025-08-27",
    ),
    "no-index": Kind(
        *("warning", "all", "it has neither an index nor layers in a form that streams"),
        "Nodes fetch it whole before it starts, but for GKE, which makes its own index",
        "Index it: `registry-pipelines stream index`",
        "this program",
    ),
    "small-layers": Kind(
        *("hint", "soci", "all its layers are too small to be indexed"),
        "Nodes fetch such layers whole, which is as fast",
        "Nothing is to be done",
        f"{_SOCI}, issue 717",
    ),
    "layer-not-indexed": Kind(
        *("warning", "soci", "the index leaves the layer out"),
        "It is fetched whole before the image starts",
        "Index the image again, with a `min_layer_size` below it; a layer that SOCI cannot carry stays left out, and "
        "`stream index` says so: build it otherwise",
        _SOCI,
    ),
    "other-layer-indexed": Kind(
        *("warning", "soci", "the index covers a layer that the image has not"),
        "It was made for another image, or for this one before it was changed",
        "Index the image again",
        _SOCI,
    ),
    "ztoc-missing": Kind(
        *("error", "soci", "a part of the index is not here"),
        "A node fetches all parts before it starts the image, and gives up when one is missing",
        "Copy the index with its blobs, or index the image again",
        _SOCI,
    ),
    "ztoc-damaged": Kind(
        *("error", "soci", "a part of the index cannot be read"),
        "A node fetches all parts before it starts the image, and gives up when one cannot be read",
        "Index the image again",
        _SOCI,
    ),
    "ztoc-other-layer": Kind(
        *("error", "soci", "a part of the index is of another layer"),
        "Every read of a file fails on the node",
        "Index the image again",
        _SOCI,
    ),
    "index-wrong": Kind(
        *("error", "soci", "the index does not fit the layer"),
        "Reads of files fail on the node, or give what the image does not hold",
        "Index the image again; where others made it, look at who signed it",
        f"{_SOCI}: span digests, and headers at the first read since v0.5.0",
    ),
    "layer-gone": Kind(
        *("error", "all", "the layer is not here"),
        "Nothing starts",
        "Copy it again from where it is whole",
        "distribution-spec 1.1",
    ),
    "no-ranges": Kind(
        *("error", "all", "the registry sends whole blobs where a part is asked for"),
        "Whoever streams needs parts of layers; here each read would fetch the layer from its begin",
        "Serve the image from a registry that knows Range, and look at the cache or proxy in front of this one",
        "RFC 9110, section 14",
    ),
    "one-block": Kind(
        *("warning", "soci", "the layer is compressed as one deflate block"),
        "A block can only be read from its begin, so the layer is fetched nearly whole for any file of it",
        "Compress it with another program or level: zlib-ng at level 1 and isal at level 0 make such layers",
        "run 2026-08: isal 1.9.1, zlib-ng 1.1.0, streamed",
    ),
    "large-span": Kind(
        *("warning", "soci", "a span is far above what was asked for"),
        "The compressor's blocks are large; for one file in it all of it is fetched",
        "Compress the layer with another program or level",
        "run 2026-08: eight compressors, none above 1.5 MB a block",
    ),
    "span-beyond-end": Kind(
        *("hint", "soci", "the index's last span holds nothing"),
        "The official builder writes such spans where a stream ends with an empty block; readers pass over them",
        "Nothing is to be done",
        f"run 2026-11: {_SOCI}",
    ),
    "spans-unread": Kind(
        *("unknown", "soci", "no span of the layer is small enough to be read as a sample"),
        "Whether the index fits the layer was not looked at",
        "Ask for every span: `stream check --every-span`",
        "this program",
    ),
    "prefetch-damaged": Kind(
        *("error", "soci", "the list of what a node fetches first cannot be read"),
        "A node that is told to prefetch gives up",
        "Index the image again",
        f"{_SOCI}, prefetch artifacts since v0.13.0",
    ),
    "estargz-no-annotation": Kind(
        *("warning", "estargz", "the layer ends as eStargz, and its annotation is lost"),
        "Nodes find the table of contents by the annotation alone, and fetch the layer whole",
        "Convert it again, or copy it from where it was whole",
        "run 2026-11-28: Docker 28.5.2 to the registry it came from; skopeo through dir: or docker-archive",
    ),
    "estargz-no-footer": Kind(
        *("error", "estargz", "the layer has eStargz's annotation and does not end as eStargz"),
        "The snapshotter cannot read it, and fetches it whole",
        "Convert it again",
        "stargz-snapshotter, docs/estargz.md",
    ),
    "estargz-partly": Kind(
        *("warning", "estargz", "some of its layers are eStargz and others are not"),
        "Those others are fetched whole before the image starts",
        "Convert it again; Docker's push leaves the annotation out where the blob is there already",
        "run 2026-11-28: Docker 20.10.24 and 28.5.2",
    ),
    "estargz-wrong": Kind(
        *("error", "estargz", "the eStargz layer is not what its table of contents says"),
        "Reads of files fail on the node, or give what was never scanned: nodes believe the table",
        "Convert the image again; where others made it, look at who signed it",
        "stargz-snapshotter, docs/estargz.md; containers are shown what the table lists",
    ),
    "estargz-unrecorded": Kind(
        *("hint", "estargz", "no trusted indexer's record says who converted it"),
        "A node believes the tables in the layers in place of what was scanned, and a policy's `streaming-index` does "
        "not count them",
        "Convert it here from what was pushed, where the indexer's key is",
        "this program",
    ),
    "pack-unsigned": Kind(
        *("warning", "all", "a hot pack is not signed by a key that is believed as indexer"),
        "A node believes the digests in a pack in place of the layer's, so it starts without",
        "Cut it here, where the indexer's key is, or delete it",
        "this program",
    ),
    "pack-damaged": Kind(
        *("error", "all", "a hot pack is damaged, or is not one of this image"),
        "A node says so and starts without it",
        "Cut it again, or copy it again from where it is whole",
        "this program",
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
