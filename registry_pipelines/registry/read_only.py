"""What a place that is only read answers to whoever would write there."""

from __future__ import annotations

from registry_pipelines.errors import Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import Readable


class ReadOnly:
    """The writing half of Registry, which raises Unsupported. A class beside it says why: :meth:`refusal`."""

    def refusal(self, repository: str) -> Unsupported:
        """Why nothing is written, and what to do instead."""
        raise NotImplementedError

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry. Raises Unsupported, as all that writes."""
        raise self.refusal(repository)

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry."""
        raise self.refusal(repository)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        raise self.refusal(repository)
