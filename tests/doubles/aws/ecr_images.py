"""Images of ECR by its own API: what was pushed through either door, under true digests. Rules: ``ecr_places``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tests.doubles.aws.ecr_places import RESTORE_S, Image, Place, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries, moment
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values


class EcrImages(Area):
    """PutImage and everything that asks for images."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    def _there(self, call: Call) -> tuple[Place, Repository]:
        registries = self.world.area(EcrRegistries)
        return registries.place(call), registries.repository(call)

    def do_PutImage(self, call: Call) -> Values:
        values = call.values
        place, there = self._there(call)
        image = read_image(values["imageManifest"].encode(), values.get("imageManifestMediaType", ""))
        if values.get("imageDigest", image.digest) != image.digest:
            raise ApiError("ImageDigestDoesNotMatchException", f"ECR calculates {image.digest}")
        reference = values.get("imageTag", image.digest)
        if reference in (there.tags_of(image.digest) or there.images):
            raise ApiError("ImageAlreadyExistsException", f"{image.digest} is there under {reference}")
        place.check(there.name, reference, image)
        if not place.content.put(there.name, reference, image):
            raise ApiError("LayersNotFoundException", "Layers of the image do not exist")
        self.noted(place, there.name, reference, image)
        return {"image": _whole(place, there, image, values.get("imageTag"))}

    def noted(self, place: Place, name: str, reference: str, image: Image) -> None:
        """An image was pushed, by this API or the distribution protocol: kept, and told to EventBridge."""
        kept = place.note(name, reference, image, self.world.clock())
        tag = {} if ":" in reference else {"image-tag": reference}
        self._tell(place, name, kept.digest, "PUSH", tag)

    def deleted(self, place: Place, name: str, digest: str, tag: str = "") -> None:
        """A tag or an image is gone; told to EventBridge."""
        self._tell(place, name, digest, "DELETE", {"image-tag": tag} if tag else {})

    def _tell(self, place: Place, name: str, digest: str, action: str, tag: Values) -> None:
        detail = {"result": "SUCCESS", "repository-name": name, "image-digest": digest, "action-type": action, **tag}
        self.world.tell("aws.ecr", "ECR Image Action", detail, account=place.account, region=place.region, resources=[])

    def do_ListImages(self, call: Call) -> Values:
        _, there = self._there(call)
        tags = there.tags_by_digest()
        found = [
            {"imageDigest": digest, **({"imageTag": tag} if tag else {})}
            for digest in sorted(there.images)
            for tag in tags.get(digest) or [None]  # type: ignore[list-item]
            if self._wanted(call.values, there.images[digest], bool(tag))
        ]
        return pages(self._pages, "ListImages", "imageIds", found, call.values)

    def do_DescribeImages(self, call: Call) -> Values:
        values = call.values
        place, there = self._there(call)
        asked = values.get("imageIds")
        if asked and ("maxResults" in values or "nextToken" in values):
            raise ApiError("InvalidParameterException", "imageIds and pages exclude each other")
        if "nextToken" in values:
            return pages(self._pages, "DescribeImages", "imageDetails", [], values)
        found, tags = [], there.tags_by_digest()
        for one, image in _each(there, asked or [{"imageDigest": digest} for digest in sorted(there.images)]):
            if isinstance(image, str):
                raise ApiError("ImageNotFoundException", f"{one}: {image}")
            mine = tags.get(image.digest, [])
            if self._wanted(values, image, bool(mine)):
                found.append(_detail(place, there, image, mine, self.world.clock()))
            elif asked:
                raise ApiError("ImageNotFoundException", f"{one}: {image.status(self.world.clock())}")
        if asked:
            return {"imageDetails": found}
        return pages(self._pages, "DescribeImages", "imageDetails", found, values)

    def do_BatchGetImage(self, call: Call) -> Values:
        place, there = self._there(call)
        found, failures = [], []
        for asked, image in _each(there, call.values["imageIds"]):
            if isinstance(image, str):
                failures.append(_failure(asked, image))
            elif image.status(self.world.clock()) != "ACTIVE":
                failures.append(_failure(asked, "ImageInaccessible"))
            elif image.media_type not in call.values.get("acceptedMediaTypes", [image.media_type]):
                raise ApiError("InvalidParameterException", "this double converts no manifests")
            else:
                self.pulled(call.caller.arn, image)
                found.append(_whole(place, there, image, asked.get("imageTag")))
        return {"images": found, "failures": failures}

    def pulled(self, who: str, image: Image) -> None:
        """Somebody read the manifest; principals that are excluded leave no trace."""
        if who not in self.world.area(EcrRegistries).excluded:
            image.pulled_at = self.world.clock()

    def do_BatchDeleteImage(self, call: Call) -> Values:
        """By tag: the tag goes, and with its last tag the image. By digest: the image with all its tags."""
        place, there = self._there(call)
        gone, failures = [], []
        for asked, image in _each(there, call.values["imageIds"]):
            if isinstance(image, str):
                failures.append(_failure(asked, image))
                continue
            tags = [asked["imageTag"]] if "imageTag" in asked else there.tags_of(image.digest)
            whole = tags == there.tags_of(image.digest)
            if whole and there.needed(image.digest):
                failures.append(_failure(asked, "ImageReferencedByManifestList"))
                continue
            for reference in [*tags, *([image.digest] if whole else [])]:
                place.content.delete(there.name, reference)
                place.note_deleted(there.name, reference)
            for tag in tags or [""]:
                self.deleted(place, there.name, image.digest, tag)
            gone += [{"imageDigest": image.digest, "imageTag": tag} for tag in tags] or [{"imageDigest": image.digest}]
        return {"imageIds": gone, "failures": failures}

    def do_ListImageReferrers(self, call: Call) -> Values:
        """Active ones unless told; OCI 1.1's descriptors with a status."""
        _, there = self._there(call)
        wanted = call.values.get("filter", {})
        types, status = wanted.get("artifactTypes"), wanted.get("artifactStatus", "ACTIVE")
        found = []
        for digest in sorted(there.images):
            image = there.images[digest]
            state = image.status(self.world.clock())
            if image.subject != call.values["subjectId"]["imageDigest"] or status not in ("ANY", state):
                continue
            if types and image.artifact_type not in types:
                continue
            said = {
                "digest": digest,
                "mediaType": image.media_type,
                "size": len(image.raw),
                "artifactStatus": state,
                "annotations": image.document.get("annotations") or {},
            }
            found.append({**said, **({"artifactType": image.artifact_type} if image.artifact_type else {})})
        return pages(self._pages, "ListImageReferrers", "referrers", found, call.values, size=50)

    def do_UpdateImageStorageClass(self, call: Call) -> Values:
        """To the archive at once; back within 20 minutes, as if it had just been pushed."""
        place, there = self._there(call)
        [(_, image)] = _each(there, [call.values["imageId"]])
        if isinstance(image, str):
            raise ApiError("ImageNotFoundException", image)
        now, archive = self.world.clock(), call.values["targetStorageClass"] == "ARCHIVE"
        if image.archived == archive:
            raise ApiError("ImageStorageClassUpdateNotSupportedException", "the image is in that class already")
        image.archived = archive
        if archive:
            image.archived_at = now
        else:
            image.activated_at = now + RESTORE_S
        return {
            "registryId": place.account,
            "repositoryName": there.name,
            "imageId": {"imageDigest": image.digest},
            "imageStatus": image.status(now),
        }

    def _wanted(self, values: Values, image: Image, tagged: bool) -> bool:
        """Lists have active images only, unless another status or ANY is asked for."""
        wanted = values.get("filter", {})
        status = wanted.get("tagStatus", "ANY")
        state = wanted.get("imageStatus", "ACTIVE")
        if state not in ("ANY", image.status(self.world.clock())):
            return False
        return status == "ANY" or (status == "TAGGED") == tagged


def read_image(raw: bytes, media_type: str) -> Image:
    """Raises ApiError for what is no manifest."""
    try:
        image = Image(raw, media_type)
        image.media_type = media_type or image.document["mediaType"]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError("InvalidParameterException", "Invalid parameter at 'ImageManifest'") from error
    return image


def _each(there: Repository, asked: Iterable[Values]) -> Iterator[tuple[Values, Image | str]]:
    for one in asked:
        yield one, _find(there, one)


def _find(there: Repository, asked: Values) -> Image | str:
    """The image of an identifier, or the failure's code."""
    tag, digest = asked.get("imageTag"), asked.get("imageDigest")
    if tag is None and digest is None:
        return "MissingDigestAndTag"
    if digest is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return "InvalidImageDigest"
    if tag is not None and digest is not None and there.tags.get(tag, digest) != digest:
        return "ImageTagDoesNotMatchDigest"
    return there.images.get(there.tags.get(tag, "") if tag is not None else str(digest), "ImageNotFound")


def _whole(place: Place, there: Repository, image: Image, tag: str | None) -> Values:
    return {
        "registryId": place.account,
        "repositoryName": there.name,
        "imageId": {"imageDigest": image.digest, **({"imageTag": tag} if tag else {})},
        "imageManifest": image.raw.decode(),
        "imageManifestMediaType": image.media_type,
    }


def _detail(place: Place, there: Repository, image: Image, tags: list[str], now: float) -> Values:
    times = {
        "lastRecordedPullTime": image.pulled_at,
        "lastArchivedAt": image.archived_at,
        "lastActivatedAt": image.activated_at,
    }
    return {
        "registryId": place.account,
        "repositoryName": there.name,
        "imageDigest": image.digest,
        "imagePushedAt": moment(image.pushed_at),
        "imageManifestMediaType": image.media_type,
        "imageSizeInBytes": there.size(image),
        "imageStatus": image.status(now),
        **{name: moment(value) for name, value in times.items() if value},
        **({"imageTags": tags} if tags else {}),
        **({"artifactMediaType": image.artifact_type} if image.artifact_type else {}),
        **({"subjectManifestDigest": image.subject} if image.subject else {}),
        **image.scan,
    }


def _failure(asked: Values, code: str) -> Values:
    return {"imageId": dict(asked), "failureCode": code, "failureReason": code}
