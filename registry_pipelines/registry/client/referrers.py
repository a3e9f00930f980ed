"""Who refers to a manifest: the referrers API, and the fallback tag kept by clients.

Source: distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag Schema", "Enabling
the Referrers API". Learnt: ECR sent ``OCI-Subject`` before it had the API, so only a GET tells; cosign 3.1.1 writes
wrong artifact types into the fallback index, so what it says about an entry is never trusted, each manifest is opened
by whoever filters. A registry that gains the API must list what was attached before, and does not always do so: the tag
is read beside the API wherever it may be there, so that no signature is hidden by an upgrade.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from copy import copy
from dataclasses import replace

from registry_pipelines.chance import CHANCE
from registry_pipelines.errors import (
    Forbidden,
    ManifestInvalid,
    NotFound,
    RateLimited,
    RegistryError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, ManifestBytes, manifest_bytes
from registry_pipelines.oci.referrers import (
    NO_LIST,
    ReferrerList,
    describe,
    looks_like_list,
    read_answer,
    read_fallback,
)
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.listing import pages
from registry_pipelines.registry.client.locks import one_writer
from registry_pipelines.registry.client.manifests import Manifests
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.tokens import pull
from registry_pipelines.registry.client.translate import read_error_body, translate_status

MAX_REFERRERS_PAGE_BYTES = 4 * 1024 * 1024
"""A page of the API is an index; indexes are at most this long."""

MAX_LISTED = 100_000
"""Referrers of one manifest; those of real images are some hundreds. An endless list must not fill the memory."""

MAX_FALLBACK_ROUNDS = 8
"""Read, change, write, read again: rounds before a fallback tag that others keep overwriting is given up."""

NO_API_S = 60.0
"""How long "this repository has no API" is believed. One odd answer, or a registry that is upgraded while we look, must
not hide for hours what the API would list."""

_NOT_THERE = (400, 404, 405, 406, 410, 501)
"""Answers of a registry without the API: docker-registry 2.8 404; Artifactory 406 (go-containerregistry#2026, 2024-10);
400 and 405 are taken so by go-containerregistry too. GHCR redirects with 303 to a web page that is not there
(zot#4060). A web page with 200 is none either (oras-go#635, 2023-11)."""

_ABOUT_CONTENT = frozenset(
    {
        "BLOB_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "NOT_FOUND",
    }
)
"""Codes that are about this manifest or repository, and say nothing about whether there is an API: some registries
answer so of what they do not know, against the rules. ``NOT_FOUND`` is Harbor's own."""

MAX_COMPARED_BYTES = 256
"""Answers of registries without the API are told apart up to this; web pages differ from one to the next."""

_NOTHING = Digest.of(b"")
"""The subject that is asked about where none is meant; no manifest is empty."""


class Referrers:
    """The referrers of one registry. manifests: what reads, stores and removes them, without this logic."""

    def __init__(self, exchange: Exchange, facts: Facts, manifests: Manifests) -> None:
        self._exchange = exchange
        self._facts = facts
        self._manifests = manifests
        self._doubted: dict[str, float] = {}
        self._no_api: set[tuple[int, str, bytes]] = set()

    def over(self, exchange: Exchange, manifests: Manifests) -> Referrers:
        """The same, what was learnt included, over an adjusted exchange."""
        referrers = copy(self)
        referrers._exchange, referrers._manifests = exchange, manifests
        return referrers

    def find(self, repository: str, digest: Digest, tags: Container[str] | None = None) -> list[Descriptor]:
        """All referrers, each once. tags: see Registry. Raises the RegistryError family when the answer is unclear."""
        answered = None if self._known(repository) is False else self._ask(repository, digest)
        referrers = {entry.digest: entry for entry in answered or ()}
        if tags is None or digest.fallback_tag in tags:
            for entry in self._fallback(repository, digest).entries:
                referrers.setdefault(entry.digest, entry)
        return list(referrers.values())

    def has_api(self, repository: str, digest: Digest) -> bool:
        """Whether the registry answers the API, asked with this digest when not known yet."""
        known = self._known(repository)
        return known if known is not None else self._ask(repository, digest) is not None

    def _known(self, repository: str) -> bool | None:
        known = self._facts.of(repository).referrers_api
        return None if known is False and time.monotonic() >= self._doubted.get(repository, 0.0) else known

    def _ask(self, repository: str, digest: Digest) -> Sequence[Descriptor] | None:
        """The API's list; None when the registry has no such API, or no such repository or manifest."""
        where = f"{self._exchange.name}/{repository}@{digest}"
        url = f"/v2/{repository}/referrers/{digest}"
        headers = {"Accept": media_types.OCI_INDEX}
        expect = (200, *_NOT_THERE)
        call = Call("GET", url, pull(repository), where, "listing referrers", expect, headers, elsewhere=True)
        entries: list[Descriptor] | None = None
        for body, response in pages(self._exchange, call, limit=MAX_REFERRERS_PAGE_BYTES):
            if not self._is_list(repository, digest, call, response, body):
                if entries is not None:
                    raise RegistryError(f"the list of referrers breaks off (HTTP {response.status})", where=where)
                return None
            entries = [*(entries or ()), *read_answer(body, where=where).entries]
            if len(entries) > MAX_LISTED:
                raise RegistryError(f"more than {MAX_LISTED} referrers are listed", where=where)
        self._facts.learn(repository, referrers_api=True)
        return entries

    def _is_list(self, repository: str, subject: Digest, call: Call, response: Response, body: bytes) -> bool:
        """Whether an answer is the API's. Learns that there is none. Raises what never means "there is none"."""
        if response.status == 200 and _names_index(response, body):
            return True
        failure = translate_status(response.status, body, where=call.where, doing=call.doing)
        code = read_error_body(body)[0]
        elsewhere = self._exchange.is_elsewhere(response)
        denied = isinstance(failure, Unauthorized | Forbidden | RateLimited)
        if denied and (code or not elsewhere):  # of another host a web page says nothing, a registry all the same
            raise failure
        if response.status >= 500 and response.status not in _NOT_THERE:
            raise failure
        there = self._facts.of(repository).referrers_api is True
        if there and (elsewhere or response.status not in (400, 404)):
            raise failure  # it answered before, so this is a failure of today
        if code in _ABOUT_CONTENT:
            return False
        if not there and self._answers_everybody_so(repository, subject, call, response, body):
            self._facts.learn(repository, referrers_api=False)
            self._doubted[repository] = time.monotonic() + NO_API_S
        elif self._holds(repository, subject):
            what = f"{failure.what}, though the registry lists what refers to other manifests here"
            do = "Run it again; if it stays so, tell whoever runs the registry"
            raise RegistryError(what, where=call.where, do=do, status=response.status, code=code)
        return False

    def _answers_everybody_so(
        self, repository: str, subject: Digest, call: Call, response: Response, body: bytes
    ) -> bool:
        """Whether an answer is about the API, and not about one manifest: then the same is said of what nobody has.
        Asked once for each way to answer; learns that there is an API."""
        kind = response.header("Content-Type"), body if len(body) <= MAX_COMPARED_BYTES else b""
        if (response.status, *kind) in self._no_api:
            return True
        if subject != _NOTHING:
            with self._exchange.send(replace(call, url=f"/v2/{repository}/referrers/{_NOTHING}")) as other:
                other_body = other.read(MAX_REFERRERS_PAGE_BYTES) or b""
                if other.status == 200 and _names_index(other, other_body):
                    self._facts.learn(repository, referrers_api=True)
                    return False
        self._no_api.add((response.status, *kind))
        return True

    def _fallback(self, repository: str, digest: Digest) -> ReferrerList:
        try:
            manifest = self._manifests.get(repository, digest.fallback_tag)
        except NotFound:
            return NO_LIST
        return read_fallback(manifest, digest.fallback_tag)

    def put(self, repository: str, manifest: ManifestBytes, tag: str) -> None:
        """Store a manifest. With a subject, where the registry keeps no list itself, bring the subject's fallback tag
        up to date too: both or none. What cannot be listed is removed again, unless it was there before."""
        content = manifest.content()
        if content.subject is None or self.has_api(repository, content.subject.digest):
            self._manifests.put(repository, manifest, tag)
            return
        subject, entry = content.subject.digest, describe(manifest, content)
        with one_writer(self._exchange.name, repository, subject):
            old = self._fallback(repository, subject)
            listed = any(one.digest == entry.digest for one in old.entries)
            there = listed or self._holds(repository, manifest.digest)
            self._manifests.put(repository, manifest, tag)
            if listed:
                return
            try:
                if self._known(repository) is None and self.has_api(repository, subject):
                    return  # some answer the API only of what they know
                self._change(repository, subject, lambda one: _with(one, entry))
            except RegistryPipelinesError as error:
                if self._names(repository, subject, entry):
                    return  # only the answer was lost
                if not there:
                    self._take_back(repository, manifest.digest, subject, error)
                raise

    def _names(self, repository: str, subject: Digest, entry: Descriptor) -> bool:
        try:
            return entry.digest in {one.digest for one in self._fallback(repository, subject).entries}
        except RegistryPipelinesError:
            return False

    def _holds(self, repository: str, digest: Digest) -> bool:
        try:
            self._manifests.get(repository, digest)
        except NotFound:
            return False
        return True

    def _take_back(self, repository: str, digest: Digest, subject: Digest, error: RegistryPipelinesError) -> None:
        """Remove what nobody lists; adds to the error what came of it."""
        try:
            self._manifests.delete(repository, digest)
        except RegistryPipelinesError as second:
            error.what += (
                f"; {digest} is stored and not in the list of what refers to {subject}, "
                f"so nobody finds it, and it could not be removed ({second.what})"
            )
            error.do = f"Run it again, which lists it, or delete {self._exchange.name}/{repository}@{digest}"
        else:
            error.what += "; what was to be attached was removed again"

    def delete(self, repository: str, manifest: ManifestBytes) -> None:
        """Remove a manifest, and take it out of its subject's fallback tag (same section, "Deleting Manifests")."""
        subject = _subject_of(manifest)
        if subject is None or self.has_api(repository, subject):
            self._manifests.delete(repository, manifest.digest)
            return
        with one_writer(self._exchange.name, repository, subject):
            self._fallback(repository, subject)  # nothing is deleted where the list cannot be read
            self._manifests.delete(repository, manifest.digest)
            try:
                self._change(repository, subject, lambda one: one.without({manifest.digest}))
            except RegistryPipelinesError as error:
                error.what += f"; {manifest.digest} is deleted and still listed under {subject.fallback_tag}"
                raise

    def _change(
        self,
        repository: str,
        subject: Digest,
        change: Callable[[ReferrerList], tuple[Descriptor, ...]],
    ) -> None:
        """Read, change, write, until our change stays: the tag has no lock, others may write it too. Nothing comes
        between reading and writing, so that of two writers the first one sees, when it reads again, what the second
        did."""
        for round_number in range(1, MAX_FALLBACK_ROUNDS + 1):
            old = self._fallback(repository, subject)
            if change(old) == old.entries:
                return
            fresh = Index(
                schema_version=2,
                media_type=media_types.OCI_INDEX,
                manifests=tuple(one for one in change(old) if one.digest not in self._below(repository, subject, old)),
                annotations=dict(old.annotations) if old.annotations else None,
            )
            self._manifests.put(repository, manifest_bytes(fresh), subject.fallback_tag)
            if old.refused:
                self._facts.learn(repository, note=f"tag {subject.fallback_tag} holds a list now; {old.refused}")
            if round_number > 1:
                pause = CHANCE.uniform(0.0, 0.1) * round_number
                self._exchange.retries.sleep(pause)
        if change(old := self._fallback(repository, subject)) == old.entries:
            return
        raise Unavailable(
            f"the fallback tag was overwritten {MAX_FALLBACK_ROUNDS} times by another writer",
            where=f"{self._exchange.name}/{repository}:{subject.fallback_tag}",
            do="Let one process at a time attach to this image, then run again",
        )

    def _below(self, repository: str, subject: Digest, old: ReferrerList) -> frozenset[Digest]:
        """The subject's own children, where the list may name them: who began it from the image's index instead of from
        nothing left them there. Nobody's list names them again through us."""
        if all(entry.artifact_type and entry.platform is None for entry in old.entries):
            return frozenset()
        try:
            content = self._manifests.get(repository, subject).content()
        except (NotFound, ManifestInvalid):
            return frozenset()
        return frozenset(child.digest for child in content.manifests) if isinstance(content, Index) else frozenset()


def _with(old: ReferrerList, entry: Descriptor) -> tuple[Descriptor, ...]:
    return old.entries if any(one.digest == entry.digest for one in old.entries) else (*old.entries, entry)


def _names_index(response: Response, body: bytes) -> bool:
    """By its type, or by what it is: some registries call it any JSON, or a manifest."""
    kind = response.header("Content-Type").partition(";")[0].strip().lower()
    return kind in media_types.INDEXES or looks_like_list(body)


def _subject_of(manifest: ManifestBytes) -> Digest | None:
    """The subject; none of what cannot be read, which must be deletable all the same."""
    try:
        subject = manifest.content().subject
    except ManifestInvalid:
        return None
    return subject.digest if subject else None
