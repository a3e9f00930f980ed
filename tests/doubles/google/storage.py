"""Cloud Storage, as far as objects are written and read whole: its JSON API, at the address of the REST door
(``STORAGE_EMULATOR_HOST``). Source: cloud.google.com/storage/docs/json_api, Objects: insert (multipart), get."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from email import message_from_bytes
from urllib.parse import unquote, urlsplit

import google_crc32c

from registry_pipelines.registry.embedded import Request, Response
from tests.doubles.google.doors import error_answer
from tests.doubles.google.world import Refusal, World

_INSERT = re.compile(r"/upload/storage/v1/b/([^/]+)/o")


@dataclass
class Storage:
    """buckets: name to objects, each with media type and content."""

    buckets: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)


class StorageDoor:
    """Answers the paths of Cloud Storage; None for all others."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request) -> Response | None:
        found = _INSERT.fullmatch(urlsplit(request.target).path)
        if not found or request.method != "POST":
            return None
        body = request.body.read(64 * 1024 * 1024) or b""
        try:
            return self._insert(unquote(found[1]), request, body)
        except Refusal as refusal:
            return error_answer(refusal)

    def _insert(self, bucket: str, request: Request, body: bytes) -> Response:
        kept = self._world.state(Storage).buckets.get(bucket)
        if kept is None:
            raise Refusal("NOT_FOUND", "The specified bucket does not exist.")
        if request.parameter("uploadType") != "multipart":
            raise Refusal("INVALID_ARGUMENT", "uploadType: the double takes multipart")
        kind = request.headers.get("content-type", "")
        parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
        if not isinstance(parts, list) or len(parts) != 2:
            raise Refusal("INVALID_ARGUMENT", "two parts are wanted: metadata and media")
        about = json.loads(parts[0].get_payload())  # type: ignore[union-attr,arg-type]
        content = parts[1].get_payload(decode=True)  # type: ignore[union-attr]
        assert isinstance(content, bytes)
        self._world.may("storage.objects.create", f"projects/_/buckets/{bucket}/objects/{about['name']}")
        kept[about["name"]] = (parts[1].get_content_type(), content)  # type: ignore[union-attr]
        checksum = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        answer = {
            "kind": "storage#object",
            "name": about["name"],
            "bucket": bucket,
            "size": str(len(content)),
            "crc32c": checksum,
            "generation": "1",
        }
        return Response(200, [("Content-Type", "application/json")], json.dumps(answer).encode())


__all__ = ["Storage", "StorageDoor"]
