"""Images and repositories of ECR by its own API: whole lists in pages, batches with their failures one by one.

Sources: botocore's model of ECR (ImageDetail, Repository, ImageFailureCode); the ECR API reference for what lists leave
out: DescribeImages, ListImages and ListImageReferrers have active images only, unless ``ANY`` status is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from registry_pipelines.errors import DigestMismatch
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls, Failure

PAGE = 1000
"""Entries asked for at once; the largest that ECR gives (100 unless told)."""


class EcrImage(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest in a repository of ECR. Times are UTC; None is never, or not told."""

    digest: str
    tags: tuple[str, ...] = ()
    size: int = 0
    """Compressed bytes of config and layers; of an index those of its largest image."""
    pushed: datetime | None = None
    pulled: datetime | None = None
    """Last recorded pull: refreshed once a day, and by scanners, too, unless they are excluded."""
    status: str = "ACTIVE"
    """``ACTIVE``, ``ARCHIVED`` (pulls get 404) or ``ACTIVATING`` (being restored, up to 20 minutes)."""
    media_type: str = ""
    artifact_type: str = ""
    """Media type of the config, or the artifact type."""
    subject: str = ""
    """Digest of what it refers to."""
    archived: datetime | None = None
    activated: datetime | None = None
    """When it was restored last."""


class EcrRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository and how its tags may move. exclusions: wildcards (``*``) for which the other rule holds."""

    name: str
    arn: str = ""
    created: datetime | None = None
    mutability: str = "MUTABLE"
    exclusions: tuple[str, ...] = ()
    scan_on_push: bool = False
    encryption: str = "AES256"
    key: str = ""

    def is_fixed(self, tag: str) -> bool:
        """Whether the tag may not name another image once it is there (user guide, "Image tag mutability")."""
        excluded = any(fnmatchcase(tag, one) for one in self.exclusions)
        return self.mutability.startswith("IMMUTABLE") != excluded


class EcrImages:
    """The images of one registry: one account in one region. calls: how they are asked, with its pace."""

    def __init__(self, account: str, access: AwsAccess, *, calls: AwsCalls | None = None) -> None:
        self.account, self.calls = account, calls or AwsCalls(access)
        self._name = f"{account} in {access.region}"

    def list_repositories(self) -> Iterator[EcrRepository]:
        """All repositories, by name. Raises the RegistryError family, InputError, ToolMissing."""
        found = self.calls.pages(
            "describe_repositories",
            "repositories",
            where=self._name,
            doing="listing repositories",
            registryId=self.account,
            maxResults=PAGE,
        )
        return map(_repository, found)

    def find_repository(self, repository: str) -> EcrRepository:
        """One repository. Raises NotFound."""
        [found] = self.calls.call(
            "describe_repositories",
            where=self._where(repository),
            doing="asking for a repository",
            registryId=self.account,
            repositoryNames=[repository],
        )["repositories"]
        return _repository(found)

    def list_images(self, repository: str) -> Iterator[EcrImage]:
        """All images of a repository, of every status. Raises NotFound, and as :meth:`list_repositories`."""
        found = self.calls.pages(
            "describe_images",
            "imageDetails",
            where=self._where(repository),
            doing="listing images",
            registryId=self.account,
            repositoryName=repository,
            filter={"imageStatus": "ANY"},
            maxResults=PAGE,
        )
        return map(_image, found)

    def find_image(self, repository: str, reference: str) -> EcrImage:
        """One image of any status, by tag or digest. Raises NotFound."""
        [found] = self.calls.call(
            "describe_images",
            where=self._where(repository, reference),
            doing="asking for an image",
            registryId=self.account,
            repositoryName=repository,
            imageIds=[_identifier(reference)],
            filter={"imageStatus": "ANY"},
        )["imageDetails"]
        return _image(found)

    def manifests(self, repository: str, references: Iterable[str]) -> tuple[dict[str, Manifest], list[Failure]]:
        """Manifests by the tags and digests they were asked for, a hundred a call; what is not there is a failure each,
        an archived image one with code ``ImageInaccessible``. Raises DigestMismatch."""
        batch = self.calls.batch(
            "batch_get_image",
            [_identifier(one) for one in references],
            where=self._where(repository),
            done="images",
            doing="reading manifests",
            registryId=self.account,
            repositoryName=repository,
        )
        found: dict[str, Manifest] = {}
        for one in batch.done:
            named = one["imageId"]
            manifest = Manifest(one["imageManifest"].encode(), str(one.get("imageManifestMediaType") or ""))
            if manifest.digest != named.get("imageDigest"):
                what = f"ECR gave another manifest ({manifest.digest})"
                raise DigestMismatch(what, where=self._where(repository, str(named.get("imageDigest"))))
            for key in filter(None, (named.get("imageTag"), named.get("imageDigest"))):
                found[key] = manifest
        return found, batch.failures

    def delete(self, repository: str, references: Iterable[str]) -> list[Failure]:
        """Delete by tag (the last one takes the image with it) or digest; gives what was not deleted, each with why:
        ``ImageReferencedByManifestList`` is a child of an index that stays."""
        return self.calls.batch(
            "batch_delete_image",
            [_identifier(one) for one in references],
            where=self._where(repository),
            done="imageIds",
            doing="deleting images",
            registryId=self.account,
            repositoryName=repository,
        ).failures

    def restore(self, repository: str, reference: str) -> str:
        """Bring an archived image back; gives its status. Within 20 minutes it can be pulled, and counts as pushed
        anew."""
        answer = self.calls.call(
            "update_image_storage_class",
            where=self._where(repository, reference),
            doing="restoring an image",
            registryId=self.account,
            repositoryName=repository,
            imageId=_identifier(reference),
            targetStorageClass="STANDARD",
        )
        return str(answer.get("imageStatus", ""))

    def mounts(self) -> bool:
        """Whether the account lets blobs be mounted from one repository to another (BLOB_MOUNTING)."""
        answer = self.calls.call(
            "get_account_setting", where=self._name, doing="asking for a setting", name="BLOB_MOUNTING"
        )
        return answer.get("value") == "ENABLED"

    def _where(self, repository: str, reference: str = "") -> str:
        return f"{self._name}/{repository}{'@' if ':' in reference else ':' if reference else ''}{reference}"


class Manifest(msgspec.Struct, frozen=True):
    """A manifest as BatchGetImage gives it."""

    raw: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        """Of its bytes."""
        return Digest.of(self.raw)


def _identifier(reference: str) -> Mapping[str, str]:
    return {"imageDigest": reference} if ":" in reference else {"imageTag": reference}


def _image(said: Mapping[str, Any]) -> EcrImage:
    return EcrImage(
        digest=str(said["imageDigest"]),
        tags=tuple(said.get("imageTags") or ()),
        size=int(said.get("imageSizeInBytes") or 0),
        pushed=said.get("imagePushedAt"),
        pulled=said.get("lastRecordedPullTime"),
        status=str(said.get("imageStatus") or "ACTIVE"),
        media_type=str(said.get("imageManifestMediaType") or ""),
        artifact_type=str(said.get("artifactMediaType") or ""),
        subject=str(said.get("subjectManifestDigest") or ""),
        archived=said.get("lastArchivedAt"),
        activated=said.get("lastActivatedAt"),
    )


def _repository(said: Mapping[str, Any]) -> EcrRepository:
    encryption = said.get("encryptionConfiguration") or {}
    return EcrRepository(
        name=str(said["repositoryName"]),
        arn=str(said.get("repositoryArn") or ""),
        created=said.get("createdAt"),
        mutability=str(said.get("imageTagMutability") or "MUTABLE"),
        exclusions=tuple(one["filter"] for one in said.get("imageTagMutabilityExclusionFilters") or ()),
        scan_on_push=bool((said.get("imageScanningConfiguration") or {}).get("scanOnPush")),
        encryption=str(encryption.get("encryptionType") or "AES256"),
        key=str(encryption.get("kmsKey") or ""),
    )


__all__ = ["EcrImage", "EcrImages", "EcrRepository", "Manifest"]
