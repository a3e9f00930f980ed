"""``GarRegistry``: Google Artifact Registry in one location, or behind one of Container Registry's hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from registry_pipelines.errors import ConfigInvalid, Forbidden, NotFound, Refused, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.registry.client.credentials import CredentialFinder
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.gar import images
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import LEGACY, GarRepository, locate, read_host, read_name
from registry_pipelines.registry.protocol import Capabilities, Observer, Readable, UploadSession

MAX_REQUEST_BYTES = 9_900_000_000
"""The most that one request may hold, so also a layer: 9.9 GB, read as decimal (cloud.google.com/artifact-registry/
quotas, "Upload size")."""


class GarRegistry(DistributionRegistry):
    """Artifact Registry: content by the distribution protocol, deletions and lists of images by its API, which tells
    why it does not delete. Implements Registry; safe for many threads.

    A blob goes in one request: there are no chunks, and an upload cannot go on after a kill; the transfer engine
    collects it on disk first (``transfer.blob.spool``), so that at most the upload itself is repeated.

    host: as :func:`read_host` reads. access: how Google's APIs are asked; None where nobody is logged in at Google,
    then only the distribution protocol is spoken. finder: the registry's own log-in, access's unless told. redirects,
    dial and others: see HttpRegistry. Needs the extra ``google``: without it the first request raises ToolMissing.
    """

    def __init__(
        self,
        host: str,
        *,
        access: GoogleAccess | None,
        finder: CredentialFinder | None = None,
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
            raise ConfigInvalid([f"registry {host[:100]!r}: not a host of Artifact Registry"])
        super().__init__(
            host,
            finder=finder or access,
            dial=dial,
            plain_http=plain_http,
            ca_file=ca_file,
            timeouts=timeouts,
            retries=retries,
            environ=environ,
            redirects=redirects,
        )
        self._known, self._access = known, access
        self._fixed: dict[GarRepository, bool] = {}
        self.calls = GoogleCalls(access or GoogleAccess(), retries=self._exchange.retries)

    def _adjusted(self, retries: Retries, observer: Observer | None) -> Self:
        registry = super()._adjusted(retries, observer)
        registry.calls = self.calls.adjusted(retries=retries, observer=observer)
        return registry

    @property
    def requests_sent(self) -> int:
        """Requests of the distribution protocol and calls of Artifact Registry's API."""
        return super().requests_sent + self.calls.sent.value

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry. Raises Refused before anything is sent for what is larger than a request may be."""
        if descriptor.size > MAX_REQUEST_BYTES:
            raise Refused(
                f"a blob of {descriptor.size} bytes; Artifact Registry takes {MAX_REQUEST_BYTES} in one request, and "
                "it has no other way",
                where=self._where(repository, descriptor.digest),
                do="Split the layer (`registry-pipelines rechunk`), or keep this image elsewhere",
            )
        super().upload_blob(repository, descriptor, content)

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        """See UploadSessions: there are no chunks here."""
        raise Unsupported(
            "Artifact Registry takes a blob in one request only", where=f"{self.name}/{session.repository}", status=501
        )

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return replace(super().capabilities(repository), chunked_upload=False)

    def repositories(self) -> Iterator[str]:
        """See Registry: every image of the project. Raises Unsupported where no project is known."""
        project = self._access.project if self._access else ""
        if not project:
            raise Unsupported(
                "images of Artifact Registry are listed by project, and none is named",
                where=self.name,
                do="Write `kind: gar` with `project` and `location`, or name its repositories",
            )
        for each in images.list_repositories(self.calls, project, self._known.location):
            found = read_name(each.name)
            legacy = found.repository if found.repository in LEGACY else ""
            if legacy == self._known.legacy and type(each).Format(each.format_).name == "DOCKER":
                yield from (found.host(name)[1] for name in images.list_packages(self.calls, found))

    def keeps_tagged(self, repository: str) -> bool:
        """See KeepsTagged: a repository with immutable tags, as its settings say."""
        if self._access is None:
            return False
        found, _ = locate(self._known, check_repository(repository))
        if found not in self._fixed:
            try:
                settings = images.get_repository(self.calls, found)
            except (Forbidden, NotFound):
                return False
            self._fixed[found] = bool(settings.docker_config.immutable_tags)
        return self._fixed[found]

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry. Raises Refused where an index still names it, TagImmutable where its tags cannot go."""
        if self._access is None:
            return super().delete_manifest(repository, digest)
        found, image = locate(self._known, check_repository(repository))
        images.delete_version(self.calls, found, image, digest)
        return None

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry. Raises TagImmutable."""
        if self._access is None:
            return super().delete_tag(repository, tag)
        found, image = locate(self._known, check_repository(repository))
        images.delete_tag(self.calls, found, image, check_tag(tag))
        return None

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry. Artifact Registry frees what no version needs by itself."""
        raise Unsupported(
            "Artifact Registry frees blobs by itself", where=self._where(repository, digest), do="Delete the manifests"
        )


__all__ = ["MAX_REQUEST_BYTES", "GarRegistry"]
