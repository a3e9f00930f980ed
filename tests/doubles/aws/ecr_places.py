"""What one registry of ECR holds: an account's repositories in a region, with images under true digests.

Rules and names are those of botocore's model of ECR and its documentation: a digest is the sha256 of the manifest's
bytes; a tag that moves leaves the old image untagged; an index needs all its images, and they cannot be deleted while
it is there; an immutable tag stays, but for the exclusions; an archived image is not pulled.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.doubles.aws.model import ApiError, Values
from tests.patience import patient

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
RESTORE_S = 1200.0
"""An archived image is back after so long at most (user guide: "within 20 minutes")."""


@dataclass
class Image:
    """One manifest. Times in seconds since 1970, 0 for never. size: told instead of computed, where a test says so."""

    raw: bytes
    media_type: str
    pushed_at: float = 0.0
    pulled_at: float = 0.0
    archived_at: float = 0.0
    activated_at: float = 0.0
    archived: bool = False
    scan: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digest = f"sha256:{hashlib.sha256(self.raw).hexdigest()}"
        self.document: Values = json.loads(self.raw)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def children(self) -> list[str]:
        """What an index needs."""
        return [entry["digest"] for entry in self.document.get("manifests") or []] if self.is_index else []

    @property
    def blobs(self) -> list[str]:
        """What an image needs: its config and layers."""
        document = self.document
        return [one["digest"] for one in [document.get("config"), *(document.get("layers") or [])] if one]

    @property
    def subject(self) -> str:
        return str((self.document.get("subject") or {}).get("digest", ""))

    @property
    def artifact_type(self) -> str:
        """OCI 1.1: of the manifest, else its config's media type where that is no image's."""
        config = (self.document.get("config") or {}).get("mediaType", "")
        return str(self.document.get("artifactType") or config)

    def status(self, now: float) -> str:
        if self.archived:
            return "ARCHIVED"
        return "ACTIVATING" if self.activated_at and now < self.activated_at else "ACTIVE"


@dataclass
class Repository:
    """images by digest, tags to digests. mode: as imageTagMutability; filters: wildcards of the exclusions.
    labels: resource tags."""

    name: str
    created_at: float = 0.0
    mode: str = "MUTABLE"
    filters: tuple[str, ...] = ()
    scan_on_push: bool = False
    encryption: Values = field(default_factory=lambda: {"encryptionType": "AES256"})
    labels: dict[str, str] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def tags_of(self, digest: str) -> list[str]:
        return sorted(tag for tag, named in self.tags.items() if named == digest)

    def tags_by_digest(self) -> dict[str, list[str]]:
        """All of them at once: one pass for large repositories."""
        found: dict[str, list[str]] = {}
        for tag in sorted(self.tags):
            found.setdefault(self.tags[tag], []).append(tag)
        return found

    def needed(self, digest: str) -> bool:
        """Whether an index that is there has it."""
        return any(digest in image.children for image in self.images.values())

    def is_fixed(self, tag: str) -> bool:
        """Whether the tag may not move."""
        excluded = any(fnmatch.fnmatchcase(tag, one) for one in self.filters)
        return self.mode == "IMMUTABLE" or (
            (self.mode == "IMMUTABLE_WITH_EXCLUSION") != excluded and "_WITH" in self.mode
        )

    def size(self, image: Image) -> int:
        """Compressed bytes; of a list its largest image's (API reference, ImageDetail.imageSizeInBytes)."""
        if image.is_index:
            there = [self.images[one] for one in image.children if one in self.images]
            return max((self.size(one) for one in there), default=0)
        document = image.document
        return sum(int(one["size"]) for one in [document.get("config"), *(document.get("layers") or [])] if one)


class Content(Protocol):
    """The registry behind: where bytes are."""

    def size(self, repository: str, digest: str) -> int | None: ...

    def store(self, repository: str, content: bytes | bytearray, digest: str) -> None: ...

    def put(self, repository: str, reference: str, image: Image) -> bool: ...

    def delete(self, repository: str, reference: str) -> None: ...


class Memory:
    """No registry behind: the digests and sizes of blobs are kept, their bytes are not."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], int] = {}

    def size(self, repository: str, digest: str) -> int | None:
        return self.blobs.get((repository, digest))

    def store(self, repository: str, content: bytes | bytearray, digest: str) -> None:
        self.blobs[repository, digest] = len(content)

    def put(self, repository: str, reference: str, image: Image) -> bool:
        return all((repository, one) in self.blobs for one in image.blobs)

    def delete(self, repository: str, reference: str) -> None:
        """Nothing is kept of manifests."""


class Upstream:
    """A real registry. headers: its log-in."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.headers = dict(headers or {})

    def ask(self, method: str, path: str, body: bytes | bytearray = b"", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*self.address, timeout=patient(30))
        connection.request(method, path, bytes(body), {**self.headers, **headers})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def size(self, repository: str, digest: str) -> int | None:
        answer = self.ask("HEAD", f"/v2/{repository}/blobs/{digest}")
        return int(answer.headers["Content-Length"]) if answer.status == 200 else None

    def read(self, repository: str, digest: str) -> bytes:
        """A blob."""
        connection = http.client.HTTPConnection(*self.address, timeout=patient(30))
        connection.request("GET", f"/v2/{repository}/blobs/{digest}", headers=self.headers)
        content = connection.getresponse().read()
        connection.close()
        return content

    def store(self, repository: str, content: bytes | bytearray, digest: str) -> None:
        location = self.ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        path = re.sub(r"^http://[^/]+", "", location)
        assert self.ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", content).status == 201

    def put(self, repository: str, reference: str, image: Image) -> bool:
        path = f"/v2/{repository}/manifests/{reference}"
        return self.ask("PUT", path, image.raw, **{"Content-Type": image.media_type}).status == 201

    def delete(self, repository: str, reference: str) -> None:
        self.ask("DELETE", f"/v2/{repository}/manifests/{reference}")


class Place:
    """One account's registry in one region. creates: whether a push makes a missing repository, given its name; where a
    creation template says so, it does."""

    def __init__(self, account: str, region: str, content: Content) -> None:
        self.account, self.region, self.content = account, region, content
        self.repositories: dict[str, Repository] = {}
        self.settings = {
            "BASIC_SCAN_TYPE_VERSION": "AWS_NATIVE",
            "REGISTRY_POLICY_SCOPE": "V2",
            "BLOB_MOUNTING": "DISABLED",
        }
        self.creates: Any = lambda name: Repository(name)

    @property
    def domain(self) -> str:
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"

    @property
    def host(self) -> str:
        """Its name for the distribution protocol."""
        return f"{self.account}.dkr.ecr.{self.region}.{self.domain}"

    def arn(self, name: str) -> str:
        partition = {"cn": "aws-cn", "us-gov": "aws-us-gov", "eusc": "aws-eusc"}
        found = next((one for start, one in partition.items() if self.region.startswith(f"{start}-")), "aws")
        return f"arn:{found}:ecr:{self.region}:{self.account}:repository/{name}"

    def repository(self, name: str) -> Repository:
        """Raises ApiError."""
        found = self.repositories.get(name)
        if found is None:
            text = f"The repository with name '{name}' does not exist in the registry with id '{self.account}'"
            raise ApiError("RepositoryNotFoundException", text)
        return found

    def open(self, name: str) -> Repository:
        """The same for a push, which may make it. Raises ApiError."""
        if name not in self.repositories:
            made = self.creates(name)
            if made is None:
                self.repository(name)
            self.repositories[name] = made
        return self.repositories[name]

    def check(self, name: str, reference: str, image: Image) -> None:
        """Whether an image may be stored under a tag or digest. Raises ApiError."""
        there = self.repositories.get(name) or Repository(name)
        if reference.startswith("sha256:"):
            if reference != image.digest:
                raise ApiError("ImageDigestDoesNotMatchException", f"ECR calculates {image.digest}, not {reference}")
        elif there.is_fixed(reference) and there.tags.get(reference, image.digest) != image.digest:
            text = f"The image tag '{reference}' already exists in the '{name}' repository and cannot be overwritten"
            raise ApiError("ImageTagAlreadyExistsException", f"{text} because the tag is immutable.")
        where = f"required for pushing image into repository with name '{name}' in the registry with id"
        if missing := [child for child in image.children if child not in there.images]:
            text = f"Images with digests '[{', '.join(missing)}]' {where} '{self.account}' do not exist"
            raise ApiError("ReferencedImagesNotFoundException", text)
        if missing := [blob for blob in image.blobs if self.content.size(name, blob) is None]:
            text = f"Layers with digests '[{', '.join(missing)}]' {where} '{self.account}' do not exist"
            raise ApiError("LayersNotFoundException", text)

    def note(self, name: str, reference: str, image: Image, now: float) -> Image:
        """It was stored. The image that had the tag stays, without it."""
        there = self.open(name)
        kept = there.images.setdefault(image.digest, image)
        kept.pushed_at = kept.pushed_at or now
        if ":" not in reference:
            there.tags[reference] = image.digest
        return kept

    def check_delete(self, name: str, digest: str) -> None:
        """Raises ApiError for an image that an index needs."""
        there = self.repositories.get(name)
        if there and there.needed(digest):
            raise ApiError("ImageReferencedByManifestList", f"{digest} is referenced by a manifest list")

    def note_deleted(self, name: str, reference: str) -> None:
        """A tag or an image with all its tags is gone."""
        there = self.repositories.get(name)
        if there:
            there.images.pop(reference, None)
            there.tags = {tag: named for tag, named in there.tags.items() if reference not in (tag, named)}

    def may_mount(self, source: str, digest: str) -> bool:
        """Only where the account says so, and only what a manifest of the source repository names."""
        there = self.repositories.get(source)
        if self.settings["BLOB_MOUNTING"] != "ENABLED" or there is None:
            return False
        return any(digest in image.blobs for image in there.images.values())


__all__ = ["INDEXES", "RESTORE_S", "Content", "Image", "Memory", "Place", "Repository", "Upstream"]
