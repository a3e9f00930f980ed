"""Images of ECR by its own API: what was pushed through either door, under true digests.

Rules and names are those of botocore's model of ECR and its documentation: a digest is the sha256 of the manifest's
bytes; a tag that moves leaves the old image untagged; an index needs all its images, and they cannot be deleted while
it is there; an immutable tag stays; lists come in pages of ``maxResults`` (100 when not said) with an opaque token.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.doubles.ecr_model import ApiError, Values

PAGE = 100
ACCOUNT = "123456789012"
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


@dataclass
class Image:
    """One manifest. pushed_at: seconds since 1970."""

    raw: bytes
    media_type: str
    pushed_at: float = field(default_factory=time.time)

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.raw).hexdigest()}"

    @property
    def children(self) -> list[str]:
        """What an index needs."""
        return [entry["digest"] for entry in json.loads(self.raw).get("manifests") or []] if self.is_index else []

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


@dataclass
class Repository:
    """images by digest, tags to digests."""

    name: str
    immutable: bool = False
    created_at: float = field(default_factory=time.time)
    images: dict[str, Image] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def tags_of(self, digest: str) -> list[str]:
        return sorted(tag for tag, named in self.tags.items() if named == digest)

    def needed(self, digest: str) -> bool:
        """Whether an index that is there has it."""
        return any(digest in image.children for image in self.images.values())


class Images:
    """The operations; ``do_<Operation>`` takes and returns what the model says.

    put: writes a manifest through to the registry behind, returns its status. delete: removes a reference there.
    """

    def __init__(self, put: Callable[[str, str, Image], int], delete: Callable[[str, str], object]) -> None:
        self._put, self._delete = put, delete
        self.repositories: dict[str, Repository] = {}
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    # Pushes through the distribution protocol

    def check(self, name: str, reference: str, image: Image) -> None:
        """Whether it may be stored under a tag or digest. Raises ApiError."""
        there = self.repositories.get(name, Repository(name))
        if reference.startswith("sha256:"):
            if reference != image.digest:
                raise ApiError("ImageDigestDoesNotMatchException", f"ECR calculates {image.digest}, not {reference}")
        elif there.immutable and there.tags.get(reference, image.digest) != image.digest:
            text = f"The image tag '{reference}' already exists in the '{name}' repository and cannot be overwritten"
            raise ApiError("ImageTagAlreadyExistsException", f"{text} because the tag is immutable.")
        missing = [child for child in image.children if child not in there.images]
        if missing:
            text = f"Images with digests '[{', '.join(missing)}]' required for pushing image into repository with name"
            raise ApiError(
                "ReferencedImagesNotFoundException", f"{text} '{name}' in the registry with id '{ACCOUNT}' do not exist"
            )

    def note(self, name: str, reference: str, image: Image) -> None:
        """It was stored. The image that had the tag stays, without it."""
        there = self.repositories.setdefault(name, Repository(name))
        there.images.setdefault(image.digest, image)
        if ":" not in reference:
            there.tags[reference] = image.digest

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

    # Repositories

    def do_CreateRepository(self, values: Values) -> Values:
        name = values["repositoryName"]
        if name in self.repositories:
            raise ApiError("RepositoryAlreadyExistsException", f"{name} exists")
        made = Repository(name, immutable=values.get("imageTagMutability") == "IMMUTABLE")
        self.repositories[name] = made
        return {"repository": _about(made)}

    def do_PutImageTagMutability(self, values: Values) -> Values:
        there, said = self._repository(values), values["imageTagMutability"]
        there.immutable = said == "IMMUTABLE"
        return {"registryId": ACCOUNT, "repositoryName": there.name, "imageTagMutability": said}

    def do_DescribeRepositories(self, values: Values) -> Values:
        names = values.get("repositoryNames") or sorted(self.repositories)
        found = [_about(self._repository({"repositoryName": name})) for name in names]
        return self._page("DescribeRepositories", "repositories", found, values)

    def _repository(self, values: Values) -> Repository:
        found = self.repositories.get(values["repositoryName"])
        if found is None:
            text = f"The repository with name '{values['repositoryName']}' does not exist in the registry"
            raise ApiError("RepositoryNotFoundException", f"{text} with id '{ACCOUNT}'")
        return found

    # Images

    def do_PutImage(self, values: Values) -> Values:
        there, raw = self._repository(values), values["imageManifest"].encode()
        image = Image(raw, values.get("imageManifestMediaType") or json.loads(raw)["mediaType"])
        if values.get("imageDigest", image.digest) != image.digest:
            raise ApiError("ImageDigestDoesNotMatchException", f"ECR calculates {image.digest}")
        reference = values.get("imageTag", image.digest)
        if reference in (there.tags_of(image.digest) or there.images):
            raise ApiError("ImageAlreadyExistsException", f"{image.digest} is there under {reference}")
        self.check(there.name, reference, image)
        if self._put(there.name, reference, image) != 201:
            raise ApiError("LayersNotFoundException", "Layers of the image do not exist")
        self.note(there.name, reference, image)
        return {"image": _whole(there, image, values.get("imageTag"))}

    def do_ListImages(self, values: Values) -> Values:
        there = self._repository(values)
        found = [
            {"imageDigest": digest, **({"imageTag": tag} if tag else {})}
            for digest in sorted(there.images)
            for tag in there.tags_of(digest) or [None]
            if _wanted(values, bool(tag))
        ]
        return self._page("ListImages", "imageIds", found, values)

    def do_DescribeImages(self, values: Values) -> Values:
        there = self._repository(values)
        asked = values.get("imageIds")
        if asked and ("maxResults" in values or "nextToken" in values):
            raise ApiError("InvalidParameterException", "imageIds and pages exclude each other")
        found = []
        for one, image in self._each(there, asked or [{"imageDigest": digest} for digest in sorted(there.images)]):
            if isinstance(image, str):
                raise ApiError("ImageNotFoundException", f"{one}: {image}")
            detail = _detail(there, image)
            if _wanted(values, "imageTags" in detail):
                found.append(detail)
        return self._page("DescribeImages", "imageDetails", found, values)

    def do_BatchGetImage(self, values: Values) -> Values:
        there = self._repository(values)
        found, failures = [], []
        for asked, image in self._each(there, values["imageIds"]):
            if isinstance(image, str):
                failures.append(_failure(asked, image))
            elif image.media_type not in values.get("acceptedMediaTypes", [image.media_type]):
                raise ApiError("InvalidParameterException", "this double converts no manifests")
            else:
                found.append(_whole(there, image, asked.get("imageTag")))
        return {"images": found, "failures": failures}

    def do_BatchDeleteImage(self, values: Values) -> Values:
        """By tag: the tag goes, and with its last tag the image. By digest: the image with all its tags."""
        there = self._repository(values)
        gone, failures = [], []
        for asked, image in self._each(there, values["imageIds"]):
            if isinstance(image, str):
                failures.append(_failure(asked, image))
                continue
            tags = [asked["imageTag"]] if "imageTag" in asked else there.tags_of(image.digest)
            whole = tags == there.tags_of(image.digest)
            if whole and there.needed(image.digest):
                failures.append(_failure(asked, "ImageReferencedByManifestList"))
                continue
            for reference in [*tags, *([image.digest] if whole else [])]:
                self._delete(there.name, reference)
                self.note_deleted(there.name, reference)
            gone += [{"imageDigest": image.digest, "imageTag": tag} for tag in tags] or [{"imageDigest": image.digest}]
        return {"imageIds": gone, "failures": failures}

    def _each(self, there: Repository, asked: Iterable[Values]) -> Iterator[tuple[Values, Image | str]]:
        for one in asked:
            yield one, self._find(there, one)

    def _find(self, there: Repository, asked: Values) -> Image | str:
        """The image of an identifier, or the failure's code."""
        tag, digest = asked.get("imageTag"), asked.get("imageDigest")
        if tag is None and digest is None:
            return "MissingDigestAndTag"
        if digest is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            return "InvalidImageDigest"
        if tag is not None and digest is not None and there.tags.get(tag, digest) != digest:
            return "ImageTagDoesNotMatchDigest"
        return there.images.get(there.tags.get(tag, "") if tag is not None else str(digest), "ImageNotFound")

    def _page(self, operation: str, name: str, found: list[Values], values: Values) -> Values:
        """The next page of a list that was made when its first page was asked for."""
        if "nextToken" in values:
            made_for, found = self._pages.pop(values["nextToken"], ("", []))
            if made_for != operation:
                raise ApiError("InvalidParameterException", "Invalid parameter at 'nextToken'")
        size = values.get("maxResults", PAGE)
        page, left = found[:size], found[size:]
        if not left:
            return {name: page}
        token = secrets.token_urlsafe(48)
        self._pages[token] = operation, left
        return {name: page, "nextToken": token}


def _wanted(values: Values, tagged: bool) -> bool:
    status = values.get("filter", {}).get("tagStatus", "ANY")
    return status == "ANY" or (status == "TAGGED") == tagged


def _about(there: Repository) -> Values:
    return {
        "registryId": ACCOUNT,
        "repositoryName": there.name,
        "repositoryArn": f"arn:aws:ecr:eu-west-1:{ACCOUNT}:repository/{there.name}",
        "repositoryUri": f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/{there.name}",
        "createdAt": there.created_at,
        "imageTagMutability": "IMMUTABLE" if there.immutable else "MUTABLE",
    }


def _whole(there: Repository, image: Image, tag: str | None) -> Values:
    return {
        "registryId": ACCOUNT,
        "repositoryName": there.name,
        "imageId": {"imageDigest": image.digest, **({"imageTag": tag} if tag else {})},
        "imageManifest": image.raw.decode(),
        "imageManifestMediaType": image.media_type,
    }


def _detail(there: Repository, image: Image) -> Values:
    document, tags = json.loads(image.raw), there.tags_of(image.digest)
    blobs = [document["config"], *document["layers"]] if "config" in document else []
    return {
        "registryId": ACCOUNT,
        "repositoryName": there.name,
        "imageDigest": image.digest,
        "imagePushedAt": image.pushed_at,
        "imageManifestMediaType": image.media_type,
        **({"imageTags": tags} if tags else {}),
        **({"imageSizeInBytes": sum(blob["size"] for blob in blobs)} if blobs else {}),
    }


def _failure(asked: Values, code: str) -> Values:
    return {"imageId": dict(asked), "failureCode": code, "failureReason": code}
