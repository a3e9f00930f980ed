"""Who refers to a manifest: the referrers API, or the fallback tag kept by clients.

Source: distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag Schema". Learnt:
ECR sent ``OCI-Subject`` before it had the API, so only a GET tells; 404 means "no API" (docker-registry 2.8, GHCR),
while a time-out or 5xx means nothing at all; cosign 3.1.1 writes wrong artifact types into the fallback index, so what
it says about an entry is never trusted, each manifest is opened by whoever filters.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container

import msgspec

from registry_pipelines.errors import ManifestInvalid, NotFound, Refused, Unavailable, Unsupported
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    manifest_bytes,
    read_manifest,
)
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.listing import pages
from registry_pipelines.registry.client.locks import one_writer
from registry_pipelines.registry.client.tokens import pull

MAX_REFERRERS_PAGE_BYTES = 4 * 1024 * 1024
"""A page of the API is an index; indexes are at most this long."""

MAX_FALLBACK_ROUNDS = 8
"""Read, change, write, read again: rounds before a fallback tag that others keep overwriting is given up."""


_ABOUT_CONTENT = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN"})
"""Codes of a 404 that says: not here, and nothing about whether there is an API (some answer so against the rules)."""


class Referrers:
    """The referrers of one registry. get and put: read and store a manifest by tag or digest, without this logic."""

    def __init__(
        self,
        exchange: Exchange,
        facts: Facts,
        *,
        get: Callable[[str, str], ManifestBytes],
        put: Callable[[str, ManifestBytes, str], None],
    ) -> None:
        self._exchange = exchange
        self._facts = facts
        self._get = get
        self._put = put

    def find(self, repository: str, digest: Digest, tags: Container[str] | None = None) -> list[Descriptor]:
        """All referrers, each once. tags: see Registry. Raises the RegistryError family when the answer is unclear."""
        if self._facts.of(repository).referrers_api is not False:
            found = self._ask(repository, digest)
            if found is not None:
                return found
        if tags is not None and digest.fallback_tag not in tags:
            return []
        return self._read_fallback(repository, digest)

    def has_api(self, repository: str, digest: Digest) -> bool:
        """Whether the registry answers the API, asked with this digest when not known yet."""
        known = self._facts.of(repository).referrers_api
        return known if known is not None else self._ask(repository, digest) is not None

    def _ask(self, repository: str, digest: Digest) -> list[Descriptor] | None:
        """The API's list; None when the registry has no such API, or no such repository or manifest."""
        where = f"{self._exchange.name}/{repository}@{digest}"
        url = f"/v2/{repository}/referrers/{digest}"
        headers = {"Accept": media_types.OCI_INDEX}
        call = Call("GET", url, pull(repository), where, "listing referrers", (200,), headers)
        found: dict[str, Descriptor] = {}
        try:
            for body, _ in pages(self._exchange, call, limit=MAX_REFERRERS_PAGE_BYTES):
                for entry in read_index(body, where=where).manifests:
                    found.setdefault(entry.digest, entry)
        except (NotFound, Unsupported, Refused) as error:
            if isinstance(error, Refused) and error.status not in (400, 404, 405):
                raise
            if error.code not in _ABOUT_CONTENT and not self._facts.of(repository).referrers_api:
                self._facts.learn(repository, referrers_api=False)
            return None
        self._facts.learn(repository, referrers_api=True)
        return list(found.values())

    def _read_fallback(self, repository: str, digest: Digest) -> list[Descriptor]:
        index = self._fallback_index(repository, digest)
        entries: dict[str, Descriptor] = {}
        for entry in index.manifests if index else ():
            entries.setdefault(entry.digest, entry)
        return list(entries.values())

    def _fallback_index(self, repository: str, digest: Digest) -> Index | None:
        try:
            found = self._get(repository, digest.fallback_tag)
        except NotFound:
            return None
        return read_index(found.raw, where=f"{self._exchange.name}/{repository}:{digest.fallback_tag}")

    def after_put(self, repository: str, manifest: ManifestBytes) -> None:
        """Bring the subject's fallback tag up to date where the registry keeps no list itself."""
        content = manifest.content()
        if content.subject is None or self.has_api(repository, content.subject.digest):
            return
        entry = describe(manifest, content)
        self._change(
            repository,
            content.subject.digest,
            lambda old: old if any(one.digest == entry.digest for one in old) else (*old, entry),
        )

    def after_delete(self, repository: str, manifest: ManifestBytes) -> None:
        """Take a deleted manifest out of its subject's fallback tag (same section, "Deleting Manifests")."""
        content = manifest.content()
        if content.subject is None or self.has_api(repository, content.subject.digest):
            return
        self._change(
            repository,
            content.subject.digest,
            lambda old: tuple(one for one in old if one.digest != manifest.digest),
        )

    def _change(
        self,
        repository: str,
        subject: Digest,
        change: Callable[[tuple[Descriptor, ...]], tuple[Descriptor, ...]],
    ) -> None:
        """Read, change, write, read again until our change stays: the tag has no lock, others may write it too."""
        with one_writer(self._exchange.name, repository, subject):
            for round_number in range(1, MAX_FALLBACK_ROUNDS + 1):
                index = self._fallback_index(repository, subject)
                before = index.manifests if index else ()
                after = change(before)
                if after == before:
                    return
                fresh = Index(
                    schema_version=2,
                    media_type=media_types.OCI_INDEX,
                    manifests=after,
                    annotations=index.annotations if index else None,
                )
                self._put(repository, manifest_bytes(fresh), subject.fallback_tag)
                if round_number > 1:
                    pause = random.uniform(0.0, 0.1) * round_number  # noqa: S311 - spreads writers, guards nothing
                    self._exchange.retries.sleep(pause)
                index = self._fallback_index(repository, subject)
                if index is not None and change(index.manifests) == index.manifests:
                    return
        raise Unavailable(
            f"the fallback tag was overwritten {MAX_FALLBACK_ROUNDS} times by another writer",
            where=f"{self._exchange.name}/{repository}:{subject.fallback_tag}",
            do="Let one process at a time attach to this image, then run again",
        )


def read_index(raw: bytes, *, where: str) -> Index:
    """Parse a list of referrers. Raises ManifestInvalid for anything but an index."""
    content = read_manifest(raw, where=where)
    if not isinstance(content, Index):
        raise ManifestInvalid("the list of referrers is not an index", where=where)
    return content


def describe(manifest: ManifestBytes, content: Manifest | Index) -> Descriptor:
    """The entry of a referrer in its subject's list: with artifact type and annotations, as the specification asks."""
    kind = content.kind if isinstance(content, Manifest) else content.artifact_type
    return msgspec.structs.replace(manifest.descriptor, artifact_type=kind, annotations=content.annotations)
