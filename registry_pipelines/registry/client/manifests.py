"""Manifests of one registry as the distribution protocol reads, stores and deletes them, without the lists of referrers
that are kept beside them."""

from __future__ import annotations

from copy import copy

from registry_pipelines.errors import DigestMismatch, ManifestTooLarge, Unavailable
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, ManifestBytes, infer_media_type, outdated
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.registry.client import tokens
from registry_pipelines.registry.client.announced import VAGUE_TYPES, announced_digest, media_type
from registry_pipelines.registry.client.deleting import delete_at
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.response import Response

_ACCEPT = {"Accept": ", ".join(media_types.ACCEPTED)}


class Manifests:
    """commit_s: how long the answer to a manifest may take. It knows nothing of the registry's object, which is freed,
    with its connections, as soon as nobody has it: a circle would keep both until Python looks for circles."""

    def __init__(self, exchange: Exchange, facts: Facts, commit_s: float) -> None:
        self._exchange, self._facts, self._commit_s = exchange, facts, commit_s

    def over(self, exchange: Exchange) -> Manifests:
        """The same over an adjusted exchange."""
        manifests = copy(self)
        manifests._exchange = exchange
        return manifests

    def get(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry.get_manifest."""
        call = self.reading("GET", repository, reference, (200,))
        with self._exchange.send(call) as response:
            raw = response.read(MAX_MANIFEST_BYTES)
        if raw is None:
            raise ManifestTooLarge(f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes", where=call.where)
        kind = media_type(response)
        if kind in media_types.DOCKER_SCHEMA_1:
            raise outdated(call.where)
        known = Digest.parse(reference) if ":" in reference else announced_digest(response, where=call.where)
        digest = known or Digest.of(raw)
        digest.check(raw, where=call.where)
        if kind in VAGUE_TYPES or known is None:
            # Without a digest to compare with, only its grammar tells a whole manifest from a cut one.
            inferred = infer_media_type(raw, where=call.where)
            kind = inferred if kind in VAGUE_TYPES else kind
        return ManifestBytes(raw, kind, digest)

    def put(self, repository: str, manifest: ManifestBytes, tag: str) -> None:
        """Store it, under a tag unless that is empty. Raises DigestMismatch, RegistryError."""
        where = self.where(repository, check_tag(tag) if tag else manifest.digest)
        call = Call(
            "PUT",
            f"/v2/{check_repository(repository)}/manifests/{tag or manifest.digest}",
            tokens.push(repository),
            where,
            "storing a manifest",
            (201, 200, 202, 204),
            {"Content-Type": manifest.media_type},
            manifest.raw,
            answer_s=self._commit_s,
        )
        response = self._run_until_links_are_whole(call)
        named = response.header("Docker-Content-Digest")
        if named.partition(":")[0] == manifest.digest.algorithm and named != manifest.digest:
            raise DigestMismatch(f"the registry stored {named[:140]}, expected {manifest.digest}", where=where)

    def _run_until_links_are_whole(self, call: Call) -> Response:
        """Send a manifest, again where its digest is refused: distribution 2.8 (docker-registry, Harbor) writes its
        links in place, and says DIGEST_INVALID of a manifest whose config or layer another client just sends or mounts
        once more. Many who sign at the same time do that: all of them send the same empty config."""
        attempt = 1
        while True:
            try:
                return self._exchange.run(call)
            except DigestMismatch as error:
                if not self._exchange.retries.wait(Unavailable(error.what, where=error.where), attempt):
                    raise
                attempt += 1

    def delete(self, repository: str, digest: Digest) -> None:
        """Delete one that is named by its digest. Raises Unsupported and the RegistryError family."""
        where = self.where(repository, digest)
        path = f"manifests/{digest}"
        delete_at(self._exchange, self._facts, repository, path, where=where, doing="deleting a manifest")

    def reading(self, method: str, repository: str, reference: str, expect: tuple[int, ...]) -> Call:
        """The call that asks for one. reference: tag or digest. Raises ReferenceInvalid."""
        selector = Digest.parse(reference) if ":" in reference else check_tag(reference)
        url = f"/v2/{check_repository(repository)}/manifests/{selector}"
        where = self.where(repository, reference)
        return Call(method, url, tokens.pull(repository), where, "reading a manifest", expect, _ACCEPT)

    def where(self, repository: str, reference: str) -> str:
        """How errors name what a tag or digest stands for."""
        return f"{self._exchange.name}/{repository}{'@' if ':' in reference else ':'}{reference}"
