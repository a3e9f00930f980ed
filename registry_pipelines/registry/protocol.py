"""The ``Registry`` protocol: a place where images live.

Small on purpose; rare abilities are separate protocols (:class:`UploadSessions`). Implementations: ``client`` (OCI
distribution over HTTP) and ``layout`` (OCI layout folders). A registry object is safe to use from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes

BUFFER_BYTES = 1024 * 1024
"""One read or write of blob content. Measured: 1 MiB with hashing on the fly is as fast as larger, flat in memory."""


class Readable(Protocol):
    """Anything with ``readinto``: fills at most ``len(buffer)`` bytes, returns how many, 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from the front; 0 means the end."""
        ...


class BlobReader(Readable, Protocol):
    """An open blob. A context manager: leaving it frees the connection.

    size: bytes of the whole blob, None where the registry does not say; then the body's end is the content's, and who
    reads must know how long it is. start: first byte this reader gives. Content is **not** verified here; a body that
    ends early raises Unavailable.
    """

    start: int

    @property
    def size(self) -> int | None:
        """See above."""
        ...

    def __enter__(self) -> BlobReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Free the connection or file; safe to call twice."""
        ...


class Capabilities(msgspec.Struct, frozen=True):
    """What a repository's registry does, as probes and answers showed. None: not probed yet or no answer."""

    referrers_api: bool | None = None
    mount: bool | None = None
    chunked_upload: bool | None = None
    range_reads: bool | None = None
    delete: bool | None = None
    probed_at: str = ""
    """RFC 3339, UTC."""
    notes: tuple[str, ...] = ()


class Registry(Protocol):
    """One registry host (or one root folder of layouts); methods take the repository.

    ``reference`` is a tag or a digest. All methods raise the RegistryError family of ``errors.py``: NotFound,
    Unauthorized, Forbidden, Unavailable, RateLimited, Refused, Unsupported; and ContentError when bytes are wrong.
    """

    name: str
    """Host and port, or the folder; shown in errors and receipts."""

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """The descriptor of a tag or digest (HEAD where that is enough). Raises NotFound."""
        ...

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """The exact bytes, at most 4 MiB; verified against the digest asked for or announced. Raises NotFound."""
        ...

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """Store a manifest by digest, or under a tag. With a ``subject`` on a registry without the referrers API the
        fallback tag is brought up to date too, or nothing is stored (distribution-spec 1.1, "Pushing Manifests with
        Subject")."""
        ...

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Bytes of a blob, None when the repository does not have it."""
        ...

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """Open bytes ``start`` up to (not including) ``stop``. Raises NotFound."""
        ...

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """Store a blob in one pass, hashing on the way. Raises DigestMismatch, and then nothing is stored."""
        ...

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """Take a blob over from repository ``source`` of the same registry; False when that was not done."""
        ...

    def tags(self, repository: str) -> Iterator[str]:
        """All tags. Raises NotFound for an unknown repository."""
        ...

    def repositories(self) -> Iterator[str]:
        """All repositories. Raises Unsupported where the registry has no catalogue."""
        ...

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """What is listed as referring to ``digest``: by the API, and under the fallback tag. Empty when there are none.
        Anything unclear (time-out, 5xx) raises; it is never taken for "none". tags: all tags of the repository that are
        named after digests, when they were listed already: a fallback tag that is not among them is not asked for."""
        ...

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Delete a manifest with all its tags. Raises NotFound, Unsupported."""
        ...

    def delete_tag(self, repository: str, tag: str) -> None:
        """Remove a tag, leave its manifest. Raises NotFound, Unsupported."""
        ...

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """Delete a blob from a repository. Raises NotFound, Unsupported."""
        ...

    def capabilities(self, repository: str) -> Capabilities:
        """What the registry is known to do so far. Asks nothing: a copy wants to know it of each repository."""
        ...


class Quota(msgspec.Struct, frozen=True):
    """What a registry said of the requests it gives. Docker Hub counts manifests that are read, not HEADs or blobs."""

    limit: int
    """Requests in a window; 0 when it was not said."""
    remaining: int
    window_s: float
    source: str = ""
    """Who is counted: an address, or the id of an account."""
    resets_after_s: float | None = None
    """Seconds until there are new ones, where the registry says so by Retry-After."""

    @property
    def wait_s(self) -> float:
        """Seconds until there are new ones, at the latest."""
        return self.window_s if self.resets_after_s is None else self.resets_after_s


class UploadSession(msgspec.Struct):
    """An upload that is open at the registry. ``location`` is used verbatim (distribution-spec 1.1)."""

    repository: str
    location: str
    offset: int = 0
    """Bytes that we know are stored; ours, never the registry's Range (ECR's stays at the first chunk)."""
    min_chunk_bytes: int = 0


Observer = Callable[[RegistryPipelinesError], None]
"""Is told of every failed attempt, those too that are repeated, in the thread of the caller."""

Pace = Callable[[str, str], AbstractContextManager[object]]
"""A cloud's service and the operation of its API (as its client's method is called) to what one request is made within;
``transfer.limits.apis`` makes them."""


@runtime_checkable
class Pinged(Protocol):
    """Rare ability: says that it answers, and takes our credentials, before a repository is named."""

    def ping(self) -> None:
        """Ask the least there is. Raises RegistryError."""
        ...


@runtime_checkable
class Observable(Protocol):
    """Rare ability: tells of failed attempts that it repeats by itself."""

    def observed(self, observer: Observer) -> Registry:
        """The same registry, with all that it learns, keeps open and counts, which tells this observer."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """Rare ability: sends again by itself what failed."""

    def leaving_stalls(self) -> Registry:
        """The same registry, with all that it learns, keeps open and counts, which leaves a request that stalled to its
        caller."""
        ...


@runtime_checkable
class BlobSizes(Protocol):
    """Rare ability: one question about many blobs."""

    def blob_sizes(self, repository: str, digests: Sequence[Digest]) -> Mapping[Digest, int]:
        """Bytes of those of the blobs that the repository has."""
        ...


@runtime_checkable
class KeepsTagged(Protocol):
    """Rare ability: repositories in which nothing that has a tag can be deleted, nor the tag."""

    def keeps_tagged(self, repository: str) -> bool:
        """Whether it is one, as far as the registry tells us: False where it does not let us ask."""
        ...


@runtime_checkable
class ManifestBatches(Protocol):
    """Rare ability: one question about many manifests."""

    def manifests_there(self, repository: str, digests: Sequence[Digest]) -> set[Digest]:
        """Those of the manifests that the repository has; none where there is no such repository."""
        ...


@runtime_checkable
class TagsAfter(Protocol):
    """Rare ability: part of the list of tags."""

    def tags_after(self, repository: str, last: str, count: int) -> list[str]:
        """At most ``count`` tags that the registry lists after ``last``, in its order. One that does not obey gives its
        first ones. Raises Unsupported where a wrapped registry cannot be asked."""
        ...


@runtime_checkable
class UploadSessions(Protocol):
    """Rare ability: uploads that can go on after a kill."""

    def begin_upload(self, repository: str) -> UploadSession:
        """Open an upload."""
        ...

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        """Send one chunk at ``session.offset`` and move the offset."""
        ...

    def upload_offset(self, session: UploadSession) -> int | None:
        """Ask how many bytes are stored; None when the session is gone."""
        ...

    def commit_upload(self, session: UploadSession, digest: Digest) -> None:
        """Finish; the registry checks the digest. A lost answer is settled by HEAD. Raises DigestMismatch, Refused."""
        ...

    def cancel_upload(self, session: UploadSession) -> None:
        """Give the upload up; unknown sessions are fine."""
        ...


class Parcel(msgspec.Struct, frozen=True):
    """A complete request for a carrier to send: everything but the body, which the carrier has.

    addresses: where to connect to, each (address family, the family's address tuple), best first; no others, for these
    were judged. head: request line and headers with the empty line. url: where the answer's Location is relative to.
    Times in s: stall_s is for content that does not move, answer_s for the answer to all of it.
    """

    scheme: str
    host: str
    port: int
    addresses: tuple[tuple[int, tuple[Any, ...]], ...]
    ca_file: str
    head: bytes
    url: str
    connect_s: float
    stall_s: float
    answer_s: float


class Carrier(Protocol):
    """Sends one request from outside this process, so that a kill of this process does not tear it."""

    sent_bytes: int
    """Content bytes of the body that were sent."""

    def carry(self, parcel: Parcel) -> bytes:
        """The answer's head and (short) body as received. Once only. Raises Unavailable, Stalled."""
        ...


@runtime_checkable
class CarriedUploads(Protocol):
    """Rare ability: content of unknown length that a carrier sends."""

    def append_carried(self, session: UploadSession, carrier: Carrier) -> None:
        """One chunk whose body (in HTTP's chunked coding) the carrier writes; moves the offset by what it sent."""
        ...


class Place(msgspec.Struct, frozen=True):
    """A repository in a registry: where one image is. Copies go from place to place."""

    registry: Registry
    repository: str

    def __str__(self) -> str:
        return f"{self.registry.name}/{self.repository}"
