"""A registry whose manifests and small blobs this node keeps: what an image is started by is asked for once.

Only what has a digest is taken from here without a question, held against it each time. What may change (a tag, the
list of referrers) is asked for; where the registry cannot be reached, the last answer about referrers counts, and that
is said. It names what is signed, so it can leave out what came since and nothing else. A tag has no such answer: what
it named may have been replaced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from registry_pipelines.errors import (
    ContentError,
    DigestInvalid,
    DiskFull,
    NotFound,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Index,
    ManifestBytes,
    decode_json,
    encode_json,
    read_manifest,
)
from registry_pipelines.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registry_pipelines.registry.protocol import Registry
from registry_pipelines.stream.lazy.kept import KeptFiles

MAX_BYTES = 512 << 20
"""Of all that is kept; the heads of hot packs are the largest of it."""

DOWN_S = 10.0
"""A registry that could not be reached, though it was asked again and again, is not asked for so long."""

FRESH_S = 5.0
"""For so long one opening of an image does not ask again which referrers it has, or what a tag named after its digest
names: its pack and its index are looked for one after the other, and a pull waits for both."""

_MAX_BLOB_BYTES = 64 << 20


class _Listed(msgspec.Struct, frozen=True):
    """The last answer about referrers, or about a tag that is named after a digest."""

    referrers: tuple[Descriptor, ...] = ()
    digest: str = ""
    """Of what the tag named; empty where there was none."""


Beside = Callable[[Digest], bytes | None]
"""Another place of this node that may have a small blob: its bytes, held against the digest, or None."""


def kept_registry(
    registry: Registry, folder: Path, log: Callable[[str], object], beside: Beside | None = None
) -> Registry:
    """The same registry, with what ``folder`` of this node has of it. log: is told once where it cannot be reached and
    something is used all the same. beside: is looked at before the registry is asked; what it has is kept, too. Raises
    what ``kept.make_own`` does."""
    return cast(Registry, _Kept(registry, folder, log, beside))


class _Kept:
    """What is not written here is the registry's own."""

    def __init__(
        self, registry: Registry, folder: Path, log: Callable[[str], object], beside: Beside | None = None
    ) -> None:
        self._registry, self._log, self._beside = registry, log, beside
        # Nothing waits for the disk: what a power cut tears is no digest's content and no document, and is asked for.
        self._files = KeptFiles(folder, max_bytes=MAX_BYTES, lasting=False)
        self._told = False
        self._down_until = 0.0
        """In monotonic seconds: until then it counts as one that cannot be reached."""
        self._fresh: dict[str, tuple[float, _Listed]] = {}
        """Answers of the registry by key, with when they came."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry; of a digest that is kept no question. A tag that is new here is asked for with the manifest,
        which is wanted next; one that is known names what is here, mostly, so only its digest is asked for."""
        if kept := self._manifest(reference):
            return kept.descriptor
        key = f"tag {self._registry.name} {repository} {reference}"
        last = self._last(key)
        try:
            if last is None:
                return self.get_manifest(repository, reference).descriptor
            found = self._registry.resolve(repository, reference)
        except Unavailable as error:
            if last is not None and last.digest:
                raise Unavailable(
                    error.what,
                    where=error.where,
                    do=f"When it was last asked {reference} was {last.digest}, which this node may have: start "
                    f"{self._registry.name}/{repository}@{last.digest}",
                ) from error
            raise
        self._put(key, encode_json(_Listed(digest=found.digest)))
        return found

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry; of a digest once."""
        if kept := self._manifest(reference):
            return kept
        key = f"tag {self._registry.name} {repository} {reference}"
        named_after = reference.startswith("sha256-")
        last = self._last(key) if named_after else None
        if fresh := self._just_heard(key):
            if not fresh.digest:
                raise NotFound("there is none", where=f"{self._registry.name}/{repository}:{reference}")
            if kept := self._manifest(fresh.digest):
                return kept
        try:
            self._check_up(last)
            found = self._registry.get_manifest(repository, reference)
        except NotFound:
            self._heard(key, _Listed())
            raise
        except Unavailable as error:
            self._is_down(error, last)
            if last is not None and not last.digest:
                raise NotFound("there was none when the registry was last asked", where=error.where) from error
            if last is not None and (kept := self._manifest(last.digest)):
                return kept
            raise
        self._put(f"manifest {found.digest}", found.media_type.encode() + b"\n" + found.raw)
        if named_after:
            self._heard(key, _Listed(digest=found.digest))
        elif reference != found.digest:
            self._put(key, encode_json(_Listed(digest=found.digest)))
        return found

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry; the last answer where there is none now."""
        key = f"referrers {self._registry.name} {repository} {digest} {artifact_type}"
        if fresh := self._just_heard(key):
            return list(fresh.referrers)
        last = self._last(key)
        try:
            self._check_up(last)
            if tags is None and self._registry.capabilities(repository).referrers_api is not False:
                tags = _AskedBeside(self._registry, repository, digest.fallback_tag)
            found = self._registry.referrers(repository, digest, artifact_type=artifact_type, tags=tags)
        except Unavailable as error:
            self._is_down(error, last)
            if last is None:
                raise
            return list(last.referrers)
        self._heard(key, _Listed(referrers=tuple(found)))
        return found

    def recall_blob(self, repository: str, digest: Digest) -> bytes | None:
        """See ``remembered.Remembers``."""
        raw = self._get(f"blob {digest}")
        if raw is not None and Digest.of(raw) == digest:
            return raw
        raw = self._beside(digest) if self._beside is not None else None
        if raw is not None:
            self.keep_blob(repository, digest, raw)
        return raw

    def keep_blob(self, repository: str, digest: Digest, content: bytes) -> None:
        """See ``remembered.Remembers``."""
        if len(content) <= _MAX_BLOB_BYTES:
            self._put(f"blob {digest}", content)

    def _heard(self, key: str, answer: _Listed) -> None:
        self._fresh[key] = time.monotonic(), answer
        self._put(key, encode_json(answer))

    def _just_heard(self, key: str) -> _Listed | None:
        at, answer = self._fresh.get(key, (0.0, None))
        return answer if answer is not None and time.monotonic() < at + FRESH_S else None

    def _check_up(self, last: _Listed | None) -> None:
        """Raises Unavailable where that was just found, and there is a last answer."""
        if last is not None and time.monotonic() < self._down_until:
            raise Unavailable("the registry could not be reached a moment ago", where=self._registry.name)

    def _is_down(self, error: Unavailable, last: _Listed | None) -> None:
        """Remember it, and say it where a last answer is used."""
        if time.monotonic() >= self._down_until:
            self._down_until = time.monotonic() + DOWN_S
        if last is not None and not self._told:
            self._told = True
            self._log(f"the registry cannot be reached, and its last answer is used: {error.what}")

    def _manifest(self, reference: str) -> ManifestBytes | None:
        with suppress(DigestInvalid):
            digest = Digest.parse(reference)
            kind, newline, raw = (self._get(f"manifest {digest}") or b"").partition(b"\n")
            if newline and Digest.of(raw) == digest:
                return ManifestBytes(raw, kind.decode(errors="replace"), digest)
            if self._beside is not None and (found := _manifest_of(self._beside(digest), digest)) is not None:
                self._put(f"manifest {digest}", found.media_type.encode() + b"\n" + found.raw)
                return found
        return None

    def _last(self, key: str) -> _Listed | None:
        raw = self._get(key)
        with suppress(ContentError):
            return decode_json(raw, _Listed) if raw is not None else None
        return None

    def _get(self, key: str) -> bytes | None:
        path = self._files.find(Digest.of(key.encode()).hex)
        with suppress(OSError):
            return path.read_bytes() if path else None
        return None

    def _put(self, key: str, content: bytes) -> None:
        if self._get(key) == content:
            return
        with suppress(DiskFull):
            self._files.put(Digest.of(key.encode()).hex, content)


class _AskedBeside(Container[str]):
    """The tag of clients' own lists of referrers, looked for while the registry is asked for its list: mostly it is not
    there, and nobody asks for it behind that."""

    def __init__(self, registry: Registry, repository: str, tag: str) -> None:
        self._registry, self._repository, self._tag = registry, repository, tag
        self._is_there = True
        self._thread = threading.Thread(target=self._ask, name="fallback", daemon=True)
        self._thread.start()

    def __contains__(self, tag: object) -> bool:
        self._thread.join()
        return self._is_there and tag == self._tag

    def _ask(self) -> None:
        with suppress(RegistryPipelinesError):  # who reads the list asks again then, and says what is wrong
            try:
                self._registry.get_manifest(self._repository, self._tag)
            except NotFound:
                self._is_there = False


def _manifest_of(raw: bytes | None, digest: Digest) -> ManifestBytes | None:
    """A manifest whose type nobody told: its own word, or what a document without one is."""
    if raw is None:
        return None
    with suppress(ContentError):
        content = read_manifest(raw)
        kind = content.media_type or (OCI_INDEX if isinstance(content, Index) else OCI_MANIFEST)
        return ManifestBytes(raw, kind, digest)
    return None


__all__ = ["Beside", "kept_registry"]
