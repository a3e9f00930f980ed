"""Media types of OCI (image-spec 1.1, media-types.md), Docker schema 2, and the artifacts of this field."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

LAYERS = frozenset(
    {
        OCI_LAYER,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
        DOCKER_LAYER,
        DOCKER_LAYER_GZIP,
        DOCKER_FOREIGN_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
"""Those of layers; encrypted ones (``+encrypted``) are not readable and not here."""

SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE_ENVELOPE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
NOTATION_SIGNATURE = "application/vnd.cncf.notary.signature"
"""The config's type of a Notation signature, and its artifact type in lists of referrers."""

CYCLONEDX = "application/vnd.cyclonedx+json"

BUILDKIT_CACHE = "application/vnd.buildkit.cacheconfig.v0"
"""Config of a build cache that is stored as an image (BuildKit's registry exporter, ``image-manifest=true``)."""

SOCI_V1 = "application/vnd.amazon.soci.index.v1+json"
SOCI_V2 = "application/vnd.amazon.soci.index.v2+json"
SOCI_INDEXES = (SOCI_V1, SOCI_V2)
"""artifactType of a SOCI index (soci-snapshotter, docs/soci-index-manifest-v2.md)."""

TOC_ANNOTATION = "containerd.io/snapshot/stargz/toc.digest"
"""On an eStargz layer, the digest of its table of contents (stargz-snapshotter, docs/estargz.md)."""

DOCKER_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
"""Refused. The signed form's digest leaves its signatures out, so it is not that of the bytes (distribution 2.8,
docs/spec/manifest-v2-1.md)."""

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
ACCEPTED = (*MANIFESTS, *INDEXES)
"""What a GET or HEAD of a manifest accepts. HEAD must send the same, else Docker Hub names a platform's digest."""

IMAGE_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
