"""What the headers of a manifest's answer say: its type, its digest, its size."""

from __future__ import annotations

from registry_pipelines.errors import DigestInvalid, DigestMismatch, ManifestTooLarge, RegistryError
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, Descriptor
from registry_pipelines.registry.client.response import Response

VAGUE_TYPES = frozenset(
    {
        "",
        "*/*",
        "application/*",
        "application/binary",
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "binary/octet-stream",
        "text/html",
        "text/json",
        "text/plain",
    }
)
"""Types that say nothing of a manifest: what web servers, object stores and proxies put where nobody told them. The
document's own ``mediaType`` or its shape says more."""


def media_type(response: Response) -> str:
    """``Content-Type`` without parameters, in lower case."""
    return response.header("Content-Type").partition(";")[0].strip().lower()


def announced_digest(response: Response, *, where: str) -> Digest | None:
    """``Docker-Content-Digest``; None when it is missing (proxies strip it) or of an algorithm we do not know, for the
    content can be hashed. Raises RegistryError for a sha256 or sha512 that is none."""
    text = response.header("Docker-Content-Digest").strip('" ')
    algorithm, _, digits = text.partition(":")
    if algorithm.lower() not in HEX_LENGTHS:
        return None
    try:
        return Digest.parse(f"{algorithm.lower()}:{digits.lower()}")
    except DigestInvalid as error:
        raise RegistryError(f"the registry names {error.what}", where=where) from error


def described(response: Response, reference: str, *, where: str) -> Descriptor | None:
    """The descriptor that the answer to a HEAD gives, None when it says too little. reference: tag or digest. Raises
    DigestMismatch, ManifestTooLarge."""
    digest, length = announced_digest(response, where=where), response.header("Content-Length")
    kind = media_type(response)
    if digest is None or not length.isdigit() or int(length) == 0 or kind in VAGUE_TYPES:
        return None
    if ":" in reference and digest != reference:
        if digest.algorithm == reference.partition(":")[0]:
            raise DigestMismatch(f"the registry names {digest}, expected {reference}", where=where)
        digest = Digest.parse(reference)
    if int(length) > MAX_MANIFEST_BYTES:
        raise ManifestTooLarge(f"the manifest has {length} bytes, at most {MAX_MANIFEST_BYTES} are read", where=where)
    return Descriptor(media_type=kind, digest=digest, size=int(length))
