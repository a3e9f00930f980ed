"""A registry within its limits: every request passes its window, every byte its cap."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, cast, get_args, runtime_checkable

from registry_pipelines.errors import RegistryPipelinesError, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.client.uploads import Rewindable
from registry_pipelines.registry.protocol import (
    BlobReader,
    BlobSizes,
    Capabilities,
    CarriedUploads,
    Carrier,
    KeepsTagged,
    ManifestBatches,
    Observable,
    Quota,
    Readable,
    Registry,
    Repeating,
    TagsAfter,
    UploadSession,
    UploadSessions,
)
from registry_pipelines.transfer.limits.machine import Bandwidth, MachineLimits
from registry_pipelines.transfer.limits.requests import CountsRequests
from registry_pipelines.transfer.limits.rules import Action

if TYPE_CHECKING:
    from registry_pipelines.transfer.limits.months import MonthOfBytes

SPEND_BYTES = 256 * 1024
"""Bytes read before the cap is asked, at most; TLS gives 16 KiB at a time, too little for a file lock each."""

AHEAD_S = 0.01
"""Under a cap, what one connection may receive ahead of us, as seconds of the cap; Linux takes twice that. We keep a
cap by reading slowly, but what the system takes meanwhile has passed the link: 6 MB for each of dozens of connections
if it is left alone. Six connections with this much fill the cap over a distance of 120 ms."""

LEAST_AHEAD_BYTES = 64 * 1024
MOST_AHEAD_BYTES = 4 * 1024 * 1024
"""Less is a trickle, more is what systems take by themselves."""


class _Sessions(Registry, UploadSessions, Protocol):
    """A registry with sessions."""


_R = TypeVar("_R", bound=Registry)


@runtime_checkable
class Metered(Protocol):
    """Rare ability: tells of quotas that the registry announces."""

    def observe_quota(self, observer: Callable[[Quota], None]) -> None:
        """Call ``observer``, in the thread of the caller, with every answer that tells of one."""
        ...


@runtime_checkable
class Buffered(Protocol):
    """Rare ability: bounds what the system receives before anybody reads it."""

    def receive_ahead(self, byte_count: int) -> None:
        """So many bytes on each new connection."""
        ...


def quota_notes(registries: Iterable[Registry]) -> list[str]:
    """A sentence for each of these registries that announces a quota of pulls of which something was taken."""
    notes = [each.quota_note() for each in registries if isinstance(each, _Limited)]
    return list(dict.fromkeys(filter(None, notes)))


def limited(registry: Registry, limits: MachineLimits) -> Registry:
    """Wrap a registry; upload sessions stay available where it has them."""
    if isinstance(registry, UploadSessions) and isinstance(registry, CarriedUploads):
        return _LimitedCarried(registry, limits)
    if (
        isinstance(registry, UploadSessions)
        and isinstance(registry, BlobSizes)
        and isinstance(registry, ManifestBatches)
    ):
        return _LimitedSizes(registry, limits)
    if isinstance(registry, UploadSessions):
        return _LimitedSessions(registry, limits)
    return _Limited(registry, limits)


class _Limited(Generic[_R]):
    def __init__(self, registry: _R, limits: MachineLimits) -> None:
        self.name = registry.name
        self._registry, self._limits = registry, limits
        self._bandwidth = limits.bandwidth(registry.name)
        self._kinds = {action: self._told(action) for action in get_args(Action)}
        """The registry for each kind of request: one whose failed attempts are told to that kind's window."""
        ahead = int(self._bandwidth.fastest * AHEAD_S) if self._bandwidth else 0
        self._ahead = min(max(ahead, LEAST_AHEAD_BYTES), MOST_AHEAD_BYTES)
        if self._bandwidth and isinstance(registry, Buffered):
            registry.receive_ahead(self._ahead)
        if isinstance(registry, Metered):
            registry.observe_quota(limits.quota(registry.name).observe)

    def _told(self, action: Action) -> _R:
        if not isinstance(self._registry, Observable):
            return self._registry

        limits, name = self._limits, self.name  # with self it would be a circle, which keeps connections open

        def note(error: RegistryPipelinesError) -> None:
            limits.window(name, action).note(error)

        return cast(_R, self._registry.observed(note))

    def quota_note(self) -> str:
        """What was taken here of the registry's quota of pulls, or of its bytes of a month, and what is left; empty
        where it has none."""
        month = self._limits.month(self.name)
        return month.note() if month else self._limits.quota_note(self.name)

    def leaving_stalls(self) -> Self:
        """See Repeating."""
        registry = copy(self)
        registry._kinds = {
            action: cast(_R, each.leaving_stalls()) if isinstance(each, Repeating) else each
            for action, each in self._kinds.items()
        }
        return registry

    @property
    def requests_sent(self) -> int:
        return self._registry.requests_sent if isinstance(self._registry, CountsRequests) else 0

    @contextmanager
    def _request(self, action: Action, *, streamed: bool = False) -> Iterator[_R]:
        with self._limits.window(self.name, action).request(streamed=streamed):
            yield self._kinds[action]

    def _spend(self, byte_count: int) -> None:
        if self._bandwidth:
            self._bandwidth.spend(byte_count)

    def resolve(self, repository: str, reference: str) -> Descriptor:
        with self._request("read-manifest") as registry:
            return registry.resolve(repository, reference)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        where = f"{self.name}/{repository}{'@' if ':' in reference else ':'}{reference}"
        with (
            self._limits.quota(self.name).pull(where, lambda: self.resolve(repository, reference)),
            self._request("read-manifest") as registry,
        ):
            return registry.get_manifest(repository, reference)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        with self._request("write-manifest") as registry:
            registry.put_manifest(repository, manifest, tag=tag)

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        with self._request("read-manifest") as registry:
            return registry.blob_size(repository, digest)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        with self._request("read-blob") as registry:
            reader = registry.open_blob(repository, digest, start=start, stop=stop)
        if month := self._limits.month(self.name):
            reader = _CountedReader(reader, month)
        return _CappedReader(reader, self._bandwidth, min(SPEND_BYTES, self._ahead)) if self._bandwidth else reader

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        capped = _CappedContent(content, self._bandwidth) if self._bandwidth else content
        with self._request("append", streamed=not isinstance(content, Rewindable)) as registry:
            registry.upload_blob(repository, descriptor, capped)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        with self._request("begin") as registry:
            return registry.mount_blob(repository, digest, source=source)

    def tags(self, repository: str) -> Iterator[str]:
        with self._request("read-manifest") as registry:
            yield from registry.tags(repository)

    def tags_after(self, repository: str, last: str, count: int) -> list[str]:
        if not isinstance(self._registry, TagsAfter):
            raise Unsupported("its list of tags cannot be asked for in parts", where=f"{self.name}/{repository}")
        with self._request("read-manifest") as registry:
            return registry.tags_after(repository, last, count)

    def keeps_tagged(self, repository: str) -> bool:
        if not isinstance(self._registry, KeepsTagged):
            return False
        with self._request("read-manifest") as registry:
            assert isinstance(registry, KeepsTagged)  # noqa: S101 - it is the same one
            return registry.keeps_tagged(repository)

    def repositories(self) -> Iterator[str]:
        with self._request("read-manifest") as registry:
            yield from registry.repositories()

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        with self._request("read-manifest") as registry:
            return registry.referrers(repository, digest, artifact_type=artifact_type, tags=tags)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        with self._request("write-manifest") as registry:
            registry.delete_manifest(repository, digest)

    def delete_tag(self, repository: str, tag: str) -> None:
        with self._request("write-manifest") as registry:
            registry.delete_tag(repository, tag)

    def delete_blob(self, repository: str, digest: Digest) -> None:
        with self._request("write-manifest") as registry:
            registry.delete_blob(repository, digest)

    def capabilities(self, repository: str) -> Capabilities:
        return self._registry.capabilities(repository)


class _LimitedSessions(_Limited[_Sessions]):
    def begin_upload(self, repository: str) -> UploadSession:
        with self._request("begin") as registry:
            return registry.begin_upload(repository)

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        self._spend(len(content))
        with self._request("append") as registry:
            registry.append_upload(session, content)

    def upload_offset(self, session: UploadSession) -> int | None:
        with self._request("begin") as registry:
            return registry.upload_offset(session)

    def commit_upload(self, session: UploadSession, digest: Digest) -> None:
        with self._request("begin") as registry:
            registry.commit_upload(session, digest)

    def cancel_upload(self, session: UploadSession) -> None:
        with self._request("begin") as registry:
            registry.cancel_upload(session)


class _LimitedSizes(_LimitedSessions):
    def blob_sizes(self, repository: str, digests: Sequence[Digest]) -> Mapping[Digest, int]:
        with self._request("read-manifest") as registry:
            assert isinstance(registry, BlobSizes)  # noqa: S101 - limited() chose this class by it
            return registry.blob_sizes(repository, digests)

    def manifests_there(self, repository: str, digests: Sequence[Digest]) -> set[Digest]:
        with self._request("read-manifest") as registry:
            assert isinstance(registry, ManifestBatches)  # noqa: S101 - limited() chose this class by it
            return registry.manifests_there(repository, digests)


class _LimitedCarried(_LimitedSessions):
    def append_carried(self, session: UploadSession, carrier: Carrier) -> None:
        with self._request("append", streamed=True) as registry:
            assert isinstance(registry, CarriedUploads)  # noqa: S101 - limited() chose this class by it
            registry.append_carried(session, carrier)

    @property
    def capped(self) -> bool:
        return self._bandwidth is not None

    def pace(self, byte_count: int) -> None:
        self._spend(byte_count)


class _Closing:
    """A reader that is left as it is closed."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> BlobReader:
        return cast(BlobReader, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _CountedReader(_Closing):
    """A blob reader whose bytes count in the registry's month, when it is closed."""

    def __init__(self, reader: BlobReader, month: MonthOfBytes) -> None:
        self.size, self.start = reader.size, reader.start
        self._reader, self._month, self._read = reader, month, 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer)
        self._read += count
        return count

    def close(self) -> None:
        self._reader.close()
        if self._read:
            self._month.add(self._read)
        self._read = 0


class _CappedReader(_Closing):
    """A blob reader that pays for its bytes, so many at a time."""

    def __init__(self, reader: BlobReader, bandwidth: Bandwidth, at_a_time: int) -> None:
        self.size, self.start = reader.size, reader.start
        self._reader, self._bandwidth, self._at_a_time = reader, bandwidth, at_a_time
        self._owed = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer)
        self._owed += count
        if self._owed >= self._at_a_time or not count:
            self._bandwidth.spend(self._owed)
            self._owed = 0
        return count

    def close(self) -> None:
        self._bandwidth.spend(self._owed)
        self._owed = 0
        self._reader.close()


class _CappedContent:
    """Content that pays for its bytes as they are sent."""

    def __init__(self, content: Readable, bandwidth: Bandwidth) -> None:
        self._content, self._bandwidth = content, bandwidth
        rewind = getattr(content, "rewind", None)
        if rewind is not None:
            self.rewind = rewind

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._content.readinto(buffer)
        self._bandwidth.spend(count)
        return count
