"""The kinds of warnings about images: what each means, what to do, and who saw it when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from registry_pipelines.oci.digest import Digest

MAX_DOCKER_LAYERS = 125
"""moby, layer/layer_store.go, ``maxLayerDepth``; overlay mounts end at about 128."""
MAX_AZURE_LAYER_BYTES = 8_000_000_000
"""Azure refuses layers above (users' reports, 2026-11)."""

RUN = "run 2026-11-28"


class Kind(msgspec.Struct, frozen=True):
    """One kind of warning."""

    text: str
    do: str
    source: str


WarningId = Literal[
    "several-images",
    "platform-disagrees",
    "platform-spelling",
    "image-of-no-platform",
    "image-with-artifact-type",
    "config-type",
    "odd-entry-type",
    "mixed-types",
    "sha512-layer",
    "sha512-manifest",
    "diff-ids",
    "config-unreadable",
    "config-without-platform",
    "expires-by-label",
    "odd-layer-type",
    "no-layers",
    "repeated-layer",
    "many-layers",
    "large-layer",
    "foreign-layer",
    "soci-index-missing",
    "soci-v1-only",
    "zstd-under-soci",
    "estargz-partly",
    "estargz-no-annotation",
    "estargz-no-footer",
    "cosign-copied",
]
"""A policy's ``deny_warnings`` names these, so they stay what they are."""

KINDS: dict[WarningId, Kind] = {
    "several-images": Kind(
        "clients start different images for one platform",
        "Give each platform one entry; what starts where: `inspect`",
        f"{RUN}: Docker 20.10.24 and 28.5.2, containerd 1.6.20, skopeo 1.22.0, crane 0.20.7, oras 1.3.3",
    ),
    "platform-disagrees": Kind(
        "the index names another platform than the image's config, and clients believe the index",
        "Build the index anew from the right images",
        f"{RUN}: Docker 20.10.24, containerd 1.6.20, skopeo, crane and oras start it",
    ),
    "platform-spelling": Kind(
        "its platform is not in Go's names: Docker and containerd read it, skopeo, crane and oras do not, and capitals "
        "end Docker 20.10's daemon",
        "Write linux/amd64, not Linux/x86_64",
        f"{RUN}: Docker 20.10.24, containerd 1.6.20, skopeo 1.22.0, crane 0.20.7, oras 1.3.3",
    ),
    "image-of-no-platform": Kind(
        "an image that is listed for unknown/unknown, or annotated as an attestation",
        "List it for its platform, or take it out of the index",
        f"{RUN}: with the annotation alone Docker 20.10.24 and containerd 1.6.20 start it",
    ),
    "image-with-artifact-type": Kind(
        "an image that has an artifactType: runtimes start it, while tools show an artifact",
        "Push it again without one",
        f"{RUN}: Docker 20.10.24, containerd 1.6.20, skopeo 1.9.3",
    ),
    "config-type": Kind(
        "the type of its config is not an image's: Podman, CRI-O and so Kubernetes on CRI-O refuse it, Docker and "
        "containerd take some",
        "Push it again with an image config; an artifact is pulled by oras",
        f"{RUN}: skopeo 1.9.3 into containers-storage, Docker 20.10.24, containerd 1.6.20",
    ),
    "odd-entry-type": Kind(
        "the index gives it another media type than it has: containerd or oras fail, Docker and skopeo start it",
        "Build the index anew",
        f"{RUN}: containerd 1.6.20, oras 1.3.3, Docker 20.10.24, skopeo 1.22.0",
    ),
    "mixed-types": Kind(
        "a Docker manifest with an OCI config or OCI layers: skopeo, Podman and CRI-O refuse it",
        "Build or convert it whole to one of both",
        f"{RUN}: skopeo 1.9.3 and 1.22.0; Docker 20.10.24 and containerd 1.6.20 start it",
    ),
    "sha512-layer": Kind(
        "its config or a layer is named by sha512: containerd ends with `unexpected commit digest`, skopeo and crane "
        "refuse it; Docker's classic store starts it",
        "Build it with sha256 digests",
        f"{RUN}: containerd 1.6.20 and 2.1.9, skopeo 1.22.0, crane 0.20.7, Docker 20.10.24",
    ),
    "sha512-manifest": Kind(
        "its manifest is named by sha512, which docker-registry does not take",
        "Name it by sha256",
        f"{RUN}: docker-registry 2.8.3",
    ),
    "diff-ids": Kind(
        "its config has not one diff_id for each layer: Docker and containerd refuse it, Podman and CRI-O do not look",
        "Build it again",
        f"{RUN}: Docker 20.10.24, containerd 1.6.20, skopeo 1.9.3 into containers-storage",
    ),
    "config-unreadable": Kind(
        "its config cannot be read, so nothing starts it", "Push it again", "image-spec 1.1, config.md"
    ),
    "config-without-platform": Kind(
        "its config names no system or architecture, so every machine takes it",
        "Build it with a platform",
        f"{RUN}: Docker 20.10.24, containerd 1.6.20, skopeo 1.9.3",
    ),
    "expires-by-label": Kind(
        "it has a label by which a registry deletes its tag after a time, at every copy too (Quay)",
        "Push it again without the label, or copy it to a registry that does not obey it",
        "Red Hat Quay's documentation, Tag expiration (2026-11); not run here",
    ),
    "odd-layer-type": Kind(
        "a layer's media type is not a layer's: containerd ends with `mismatched image rootfs and manifest layers`",
        "Push it again with a layer's media types",
        f"{RUN}: containerd 1.6.20; Docker 20.10.24 and skopeo 1.9.3 take it",
    ),
    "no-layers": Kind(
        "it has no layers: it can be pulled, and there is nothing in it to start; SOCI makes no index for it",
        "Check what was built",
        f"{RUN}: Docker 20.10 and 28, containerd 1.6 and 2.1, soci of August 2026",
    ),
    "repeated-layer": Kind(
        "a layer is there more than once: skopeo fetches it each time",
        "Build it without the empty steps",
        f"{RUN}: skopeo 1.22.0",
    ),
    "many-layers": Kind(
        f"it has more than {MAX_DOCKER_LAYERS} layers: Docker ends with `max depth exceeded`",
        "Build it with fewer layers",
        "moby, layer/layer_store.go, maxLayerDepth (2026-11)",
    ),
    "large-layer": Kind(
        f"a layer has more than {MAX_AZURE_LAYER_BYTES // 10**9} GB: Azure Container Registry refuses it",
        "Divide the layer",
        "users' reports (2026-11)",
    ),
    "foreign-layer": Kind(
        "a layer is kept by its publisher elsewhere: where that cannot be reached nothing starts",
        "Copy it with its foreign layers, or build it with the layer pushed",
        "image-spec 1.1, layer.md, non-distributable layers",
    ),
    "soci-index-missing": Kind(
        "it names a SOCI index that is not here: it starts as if it had none",
        "Copy the whole index; a pull and push through Docker, or one platform by skopeo or crane, leaves it behind",
        f"{RUN}: skopeo 1.22.0, crane 0.20.7, regctl of July 2026, Docker 28.5.2",
    ),
    "soci-v1-only": Kind(
        "its SOCI index is of version 1, which the snapshotter reads only where `soci_v1` is on (off since 0.10)",
        "Turn it on at the nodes, or make an image with one of version 2: `stream convert --format soci-v2`",
        "soci-snapshotter issue 1558",
    ),
    "zstd-under-soci": Kind(
        "it has a SOCI index, which covers gzip layers only; its zstd layers are fetched whole",
        "Compress all layers with gzip before they are indexed",
        f"{RUN}: soci of August 2026 ends with 0",
    ),
    "estargz-partly": Kind(
        "some gzip layers have eStargz's annotation and others have not: those are fetched whole",
        "Convert it again; Docker's push leaves the annotation out where the blob is there already",
        f"{RUN}: Docker 20.10.24 and 28.5.2",
    ),
    "estargz-no-annotation": Kind(
        "a layer ends as eStargz, and its annotation is lost: it is fetched whole",
        "Convert it again, or copy it from where it was whole",
        f"{RUN}: Docker 28.5.2 to the registry it came from; skopeo through dir: or docker-archive",
    ),
    "estargz-no-footer": Kind(
        "a layer has eStargz's annotation and does not end as eStargz: the snapshotter cannot read it",
        "Convert it again",
        "stargz-snapshotter, docs/estargz.md",
    ),
    "cosign-copied": Kind(
        "the tag of its list of referrers names the image itself, as `cosign copy` leaves it: signatures did not come "
        "along",
        "Copy it again from where it is signed, with this program or `oras cp -r`",
        f"{RUN}: cosign 3.1.1",
    ),
}
"""What each means; the source with its date."""


class ImageWarning(msgspec.Struct, frozen=True):
    """One warning about one manifest."""

    id: WarningId
    about: Digest
    detail: str = ""

    @property
    def kind(self) -> Kind:
        """What it means."""
        return KINDS[self.id]

    def row(self) -> dict[str, str]:
        """As plain values."""
        kind = self.kind
        text = f"{kind.text}{': ' if self.detail else ''}{self.detail}"
        return {"warning": self.id, "about": self.about, "text": text, "do": kind.do, "source": kind.source}


def summed(warnings: Sequence[ImageWarning]) -> dict[WarningId, str]:
    """One sentence for each kind of warning, with the images it is about; by id."""
    about: dict[WarningId, list[ImageWarning]] = {}
    for each in warnings:
        about.setdefault(each.id, []).append(each)
    return {name: _sentence(each) for name, each in about.items()}


def _sentence(warnings: Sequence[ImageWarning]) -> str:
    more = f" and {len(warnings) - 1} more" if len(warnings) > 1 else ""
    detail = f": {warnings[0].detail}" if warnings[0].detail else ""
    return f"{warnings[0].kind.text}{detail} ({warnings[0].about.short}{more})"
