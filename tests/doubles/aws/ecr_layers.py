"""Layers of ECR by its own API. The rules of parts are AWS's documented ones: consecutive, 5 MiB at least except the
last, at most ``part_bytes``."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field

from tests.doubles.aws.ecr_places import Place, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values

SMALLEST_PART = 5 * 1024 * 1024
MOST_PARTS = 4200


@dataclass
class Upload:
    """An open upload. too_small: a part below 5 MiB was not the last, which is told at the end (botocore's model: of
    CompleteLayerUpload)."""

    repository: str
    content: bytearray = field(default_factory=bytearray)
    last_is_small: bool = False
    too_small: bool = False
    parts: int = 0


class EcrLayers(Area):
    """part_bytes: what InitiateLayerUpload asks for. uploads: those that are open."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.part_bytes = 10 * 1024 * 1024
        self.uploads: dict[str, Upload] = {}

    def _there(self, call: Call) -> tuple[Place, Repository]:
        """A push may make its repository."""
        place = self.world.area(EcrRegistries).place(call)
        return place, place.open(call.values["repositoryName"])

    def do_InitiateLayerUpload(self, call: Call) -> Values:
        _, there = self._there(call)
        name = str(uuid.uuid4())
        self.uploads[name] = Upload(there.name)
        return {"uploadId": name, "partSize": self.part_bytes}

    def _upload(self, call: Call) -> Upload:
        found = self.uploads.get(call.values["uploadId"])
        if found is None or found.repository != call.values["repositoryName"]:
            raise ApiError("UploadNotFoundException", "The upload could not be found")
        return found

    def do_UploadLayerPart(self, call: Call) -> Values:
        values, upload, content = call.values, self._upload(call), call.values["layerPartBlob"]
        there = len(upload.content)
        first, last = values["partFirstByte"], values["partLastByte"]
        if first != there or last - first + 1 != len(content) or len(content) > self.part_bytes:
            raise ApiError("InvalidLayerPartException", "not consecutive", lastValidByteReceived=max(there - 1, 0))
        if upload.parts == MOST_PARTS:
            raise ApiError("LimitExceededException", f"a layer has {MOST_PARTS} parts at most")
        upload.too_small = upload.too_small or upload.last_is_small
        upload.last_is_small = len(content) < SMALLEST_PART
        upload.content += content
        upload.parts += 1
        return {**_names(values), "lastByteReceived": last}

    def do_CompleteLayerUpload(self, call: Call) -> Values:
        place, _ = self._there(call)
        upload, digest = self._upload(call), call.values["layerDigests"][0]
        if not upload.content:
            raise ApiError("EmptyUploadException", "no parts")
        if upload.too_small:
            raise ApiError("LayerPartTooSmallException", "only the last part may be below 5 MiB")
        if f"sha256:{hashlib.sha256(upload.content).hexdigest()}" != digest:
            raise ApiError("InvalidLayerException", "the digest does not match")
        if place.content.size(upload.repository, digest) is not None:
            raise ApiError("LayerAlreadyExistsException", "it exists")
        place.content.store(upload.repository, upload.content, digest)
        del self.uploads[call.values["uploadId"]]
        return {**_names(call.values), "layerDigest": digest}

    def do_BatchCheckLayerAvailability(self, call: Call) -> Values:
        place = self.world.area(EcrRegistries).place(call)
        there = place.open(call.values["repositoryName"])
        now, layers = self.world.clock(), []
        for digest in call.values["layerDigests"]:
            size = place.content.size(there.name, digest)
            users = [image.status(now) for image in there.images.values() if digest in image.blobs]
            state = "UNAVAILABLE" if size is None else "AVAILABLE"
            if size is not None and users and set(users) == {"ARCHIVED"}:
                state = "ARCHIVED"
            layers.append(
                {"layerDigest": digest, "layerAvailability": state, **({} if size is None else {"layerSize": size})}
            )
        return {"layers": layers, "failures": []}

    def do_GetDownloadUrlForLayer(self, call: Call) -> Values:
        registries = self.world.area(EcrRegistries)
        place, there = registries.place(call), registries.repository(call)
        digest = call.values["layerDigest"]
        if place.content.size(there.name, digest) is None:
            raise ApiError("LayersNotFoundException", f"{digest} is not in {there.name}")
        return {"downloadUrl": f"https://{place.host}/v2/{there.name}/blobs/{digest}", "layerDigest": digest}


def _names(values: Values) -> Values:
    return {name: values[name] for name in ("registryId", "repositoryName", "uploadId") if name in values}
