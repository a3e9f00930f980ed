"""``EcrRegistry``: a private registry of Amazon ECR."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from registry_pipelines.errors import ConfigInvalid, LocalError, NotFound, Refused, RegistryError, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.distribution import HttpRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.api import EcrApi
from registry_pipelines.registry.ecr.hosts import read_host
from registry_pipelines.registry.ecr.images import EcrImages
from registry_pipelines.registry.ecr.uploads import EcrUploads
from registry_pipelines.registry.protocol import Capabilities, Observer, Readable, UploadSession


class EcrRegistry(HttpRegistry):
    """ECR: manifests, tags, reads and small blobs by the distribution protocol; large blobs, questions about many
    blobs or manifests, lists of repositories, deletion of tags, and the log-in by ECR's API. Implements Registry,
    UploadSessions, BlobSizes and ManifestBatches; safe for many threads.

    host: as :func:`read_host` reads. profile: of AWS's configuration; empty is boto3's default chain. access: how the
    API is asked, in place of it. dial, redirects: see HttpRegistry. ca_file: for the registry's host; the API's is
    AWS_CA_BUNDLE. Needs the extra ``aws``: without boto3 the
    first request raises ToolMissing.
    """

    def __init__(
        self,
        host: str,
        *,
        profile: str = "",
        access: AwsAccess | None = None,
        dial: str = "",
        plain_http: bool | None = None,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        environ: Mapping[str, str] | None = None,
        redirects: Sequence[str] = (),
    ) -> None:
        known = read_host(host)
        if known is None:
            raise ConfigInvalid([f"registry {host[:100]!r}: not a host of ECR"])
        finder = _Finder()
        super().__init__(
            host,
            plain_http=plain_http,
            ca_file=ca_file,
            timeouts=timeouts,
            retries=retries,
            environ=environ,
            finder=finder,
            redirects=redirects,
            dial=dial,
        )
        exchange = self._exchange
        finder.api = EcrApi(
            known,
            name=host,
            access=access
            or AwsAccess(region=known.region, profile=profile, fips=known.fips, dualstack=known.dualstack),
            timeouts=self._timeouts,
            retries=exchange.retries,
            observer=exchange.observer,
        )
        self._api = finder.api
        self._native = EcrUploads(finder.api, self._uploads)
        self._mounting = _Mounting()

    def _adjusted(self, retries: Retries, observer: Observer | None) -> Self:
        registry = super()._adjusted(retries, observer)
        registry._api = self._api.adjusted(retries, observer)
        registry._native = EcrUploads(registry._api, registry._uploads)
        return registry

    @property
    def requests_sent(self) -> int:
        """Requests of the distribution protocol and calls of ECR's own API."""
        return super().requests_sent + self._api.sent.value

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry. What is archived is not found, and said to be archived: a call more where nothing is found."""
        try:
            return super().get_manifest(repository, reference)
        except NotFound as error:
            status = self._status(repository, reference)
            if status in ("", "ACTIVE"):
                raise
            raise NotFound(
                "the image is archived" if status == "ARCHIVED" else "the image is being restored",
                where=self._where(repository, reference),
                do=(
                    f"Restore it: aws ecr update-image-storage-class --repository-name {repository} --image-id "
                    f"{'imageDigest' if ':' in reference else 'imageTag'}={reference} --target-storage-class STANDARD"
                    if status == "ARCHIVED"
                    else "Try again within 20 minutes"
                ),
                status=error.status,
                code=error.code,
            ) from error

    def _status(self, repository: str, reference: str) -> str:
        """What ECR's API says of an image that is not found; empty where it does not say."""
        try:
            return self.images.find_image(repository, reference).status
        except (RegistryError, LocalError):
            return ""

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry. A broken request costs one part."""
        self._native.upload(check_repository(repository), descriptor, content)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry. The first refusal has the account asked for its setting (BLOB_MOUNTING, right
        ``ecr:GetAccountSetting``): where that is off no further mount is tried, nor planned."""
        if self._mounting.off:
            return False
        if super().mount_blob(repository, digest, source=source):
            return True
        if self._mounting.unasked.acquire(blocking=False):
            with contextlib.suppress(RegistryError, LocalError):  # who may not ask goes on trying
                self._mounting.off = not self.images.mounts()
        return False

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        known = super().capabilities(repository)
        return replace(known, mount=False) if self._mounting.off else known

    def blob_sizes(self, repository: str, digests: Sequence[Digest]) -> Mapping[Digest, int]:
        """See BlobSizes."""
        return self._native.sizes(check_repository(repository), list(digests))

    def manifests_there(self, repository: str, digests: Sequence[Digest]) -> set[Digest]:
        """See ManifestBatches. Archived ones are not: they cannot be pulled."""
        try:
            found, _ = self.images.manifests(check_repository(repository), digests)
        except NotFound:
            return set()
        return {digest for digest in digests if digest in found}

    def repositories(self) -> Iterator[str]:
        """See Registry: by ECR's API, for there is no catalogue in its distribution protocol."""
        return (each.name for each in self.images.list_repositories())

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry. Raises Unsupported for an image's last tag, with which ECR deletes the image."""
        image = self.images.find_image(check_repository(repository), check_tag(tag))
        where = self._where(repository, tag)
        if image.tags == (tag,):
            raise Unsupported(
                "it is the image's last tag, and ECR deletes an image with it",
                where=where,
                do="Delete the image by its digest, or give it another tag first",
            )
        for failure in self.images.delete(repository, [tag]):
            raise Refused(f"deleting a tag failed: {failure.reason or failure.code}", where=where, code=failure.code)

    @property
    def images(self) -> EcrImages:
        """What ECR's API says of this registry's images."""
        return EcrImages(self._api.account, self._api.calls.access, calls=self._api.calls)

    def begin_upload(self, repository: str) -> UploadSession:
        """See UploadSessions."""
        return self._native.begin(check_repository(repository))

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        """See UploadSessions, and :meth:`EcrUploads.append` for how offsets are settled."""
        self._native.append(session, content)

    def upload_offset(self, session: UploadSession) -> int | None:
        """See UploadSessions. ECR cannot be asked; the next part at our offset tells, so this is our own."""
        return session.offset

    def commit_upload(self, session: UploadSession, digest: Digest) -> None:
        """See UploadSessions."""
        self._native.commit(session, digest)

    def cancel_upload(self, session: UploadSession) -> None:
        """See UploadSessions. ECR's API has no such call: what is not completed it drops by itself."""


class _Mounting:
    """What is known of the account's setting; one for a client and what is adjusted of it. unasked: who gets it asks,
    and keeps it."""

    def __init__(self) -> None:
        self.off = False
        self.unasked = threading.Lock()


class _Finder:
    """Stands for the API until it is made: each needs a part of the other."""

    api: EcrApi

    def account(self, repository: str) -> str:
        """One for all."""
        return ""

    def find(self, account: str = "") -> Credentials:
        return self.api.find()


__all__ = ["EcrRegistry"]
