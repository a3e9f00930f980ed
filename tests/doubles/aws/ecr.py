"""ECR whole: its API by the areas of the front door, and the distribution protocol with ECR's quirks before a registry.

``with EcrDouble(upstream_address) as ecr:`` Two doors on loopback: ``ecr.api_address`` is AWS_ENDPOINT_URL, and
``ecr.proxy_address`` an HTTP proxy that leads every host name to ``/v2/`` (plain, or TLS by CONNECT); it answers as a
plain registry, too, which is what ``reachable_as`` names. Both see the same images. Registries of other accounts and
regions: ``add``.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from types import TracebackType

from tests.doubles.aws.ecr_images import EcrImages, read_image
from tests.doubles.aws.ecr_layers import EcrLayers, Upload
from tests.doubles.aws.ecr_places import Place, Upstream
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, ApiError, AwsDouble, Fault, Html, Instead
from tests.doubles.aws.model import SECRET_KEY
from tests.doubles.wire import Head, Listener, Stream
from tests.patience import patient

REGION = "eu-west-1"
_MANIFEST = re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/?]+)")
_UPLOAD = re.compile(r"/v2/(?P<repository>.+)/blobs/uploads/(\?.*)?")
_MOUNT = re.compile(r".*[?&]mount=(?P<digest>sha256:[0-9a-f]+)&from=(?P<source>[^&]+).*")
_HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr[a-z-]*\.(?P<region>[a-z0-9-]+)\..+")
_SAID = {
    "ReferencedImagesNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 400),
    "LayersNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 400),
    "ImageTagAlreadyExistsException": ("TAG_INVALID", 400),
    "ImageDigestDoesNotMatchException": ("MANIFEST_INVALID", 400),
    "ImageReferencedByManifestList": ("DENIED", 400),
    "RepositoryNotFoundException": ("NAME_UNKNOWN", 404),
    "ImageInaccessible": ("MANIFEST_UNKNOWN", 404),
}
"""What the distribution protocol says instead (docker/cli 2023-01 by int128/docker-manifest-create-action#63,
moby/buildkit#3776, google/go-containerregistry#1568, aws/containers-roadmap#1970; how a deletion that an index forbids
is told is not known: nobody reported it)."""

Refusal = tuple[str, list[tuple[str, str]], bytes]


class EcrDouble(AwsDouble):
    """See the module. upstream: of the default account and REGION; their registry makes repositories on push, as if a
    creation template said so. part_bytes: what InitiateLayerUpload asks for."""

    def __init__(self, upstream: str, *, part_bytes: int = 10 * 1024 * 1024, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self.requests: list[str] = []
        self.registries, self.layers = self.area(EcrRegistries), self.area(EcrLayers)
        self.layers.part_bytes = part_bytes
        self._listeners: list[Listener] = []
        self.here = self.registries.at(ACCOUNT, REGION)
        self.here.content = Upstream(upstream)
        self.proxy_address = self._listen(None)

    def _listen(self, place: Place | None) -> str:
        listener = Listener(lambda sock: self._serve_proxy(sock, place))
        self._listeners.append(listener)
        return listener.address

    def add(self, account: str, region: str, upstream: str) -> str:
        """A registry of another account or region before a registry of its own; the address is its ``reachable_as``.
        Call it before the double is started."""
        place = self.registries.at(account, region)
        place.content = Upstream(upstream)
        return self._listen(place)

    def __enter__(self) -> EcrDouble:
        super().__enter__()
        for listener in self._listeners:
            listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.stop()
        super().__exit__(kind, error, trace)

    @property
    def password(self) -> str:
        """Of the token that is given out now."""
        return self.registries.password

    @password.setter
    def password(self, value: str) -> None:
        self.registries.password = value

    @property
    def part_bytes(self) -> int:
        """What InitiateLayerUpload asks for."""
        return self.layers.part_bytes

    @part_bytes.setter
    def part_bytes(self, value: int) -> None:
        self.layers.part_bytes = value

    @property
    def uploads(self) -> dict[str, Upload]:
        """Open uploads of the API."""
        return self.layers.uploads

    @property
    def part_bytes_in(self) -> int:
        """Bytes of all parts that came, refused ones too."""
        return sum(call.sent for call in list(self.calls))

    # The distribution protocol

    def _serve_proxy(self, sock: socket.socket, place: Place | None) -> None:
        stream = Stream(sock)
        head = stream.read_head()
        if head.method == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            assert self._tls is not None
            with self._tls.wrap_socket(sock, server_side=True) as secured:
                inner = Stream(secured)
                self._pass_on(inner, inner.read_head(), place)
            return
        self._pass_on(stream, head, place)

    def _place_of(self, head: Head) -> Place:
        found = _HOST.match(head.get("Host"))
        return self.registries.at(found["account"], found["region"]) if found else self.here

    def _pass_on(self, stream: Stream, head: Head, place: Place | None) -> None:
        """One request to the registry, with log-in and ECR's quirks; the connection then ends."""
        place = place or self._place_of(head)
        target = re.sub(r"^http://[^/]+", "", head.target)
        body = b"".join(stream.request_body(head))
        with self._lock:
            self.requests.append(f"{head.method} {target}")
        refused = self._refusal(head) or self._refused(place, head, target, body)
        if refused:
            status, headers, content = refused
            length = ("Content-Length", str(len(content)))
            stream.sock.sendall(Head(status, [*headers, length, ("Connection", "close")]).encode() + content)
            return
        mount = _MOUNT.fullmatch(target) if head.method == "POST" else None
        if mount and not place.may_mount(mount["source"], mount["digest"]):
            target = target.partition("?")[0]
        status, headers, content = self._relay(place, head, target, body)
        if head.method == "PATCH" and status == 202:
            status, headers = 201, [(name, "0-0" if name == "Range" else value) for name, value in headers]
        self._note(place, head, target, body, status)
        answer = Head(f"HTTP/1.1 {status} Answer", [*headers, ("Connection", "close")]).encode()
        stream.sock.sendall(answer + (b"" if head.method == "HEAD" else content))

    def _refused(self, place: Place, head: Head, target: str, body: bytes) -> Refusal | None:
        try:
            with self._lock:
                self._check(place, head, target, body)
        except ApiError as error:
            if error.code not in _SAID:
                return None  # what is no manifest is refused behind
            code, status = _SAID[error.code]
            said = {"errors": [{"code": code, "message": error.message}]}
            return f"HTTP/1.1 {status} Refused", [("Content-Type", "application/json")], json.dumps(said).encode()
        return None

    def _check(self, place: Place, head: Head, target: str, body: bytes) -> None:
        manifest, upload = _MANIFEST.fullmatch(target), _UPLOAD.fullmatch(target)
        if manifest and head.method == "PUT":
            place.open(manifest["repository"])
            image = read_image(body, head.get("Content-Type"))
            place.check(manifest["repository"], manifest["reference"], image)
        elif manifest and head.method == "DELETE":
            place.check_delete(manifest["repository"], manifest["reference"])
        elif manifest:
            there = place.repositories.get(manifest["repository"])
            digest = there and there.tags.get(manifest["reference"], manifest["reference"])
            image_there = there and there.images.get(str(digest))
            if image_there and image_there.status(self.clock()) != "ACTIVE":
                raise ApiError("ImageInaccessible", f"Requested image not found: {digest} is archived")
        elif upload and head.method == "POST":
            place.open(upload["repository"])

    def _note(self, place: Place, head: Head, target: str, body: bytes, status: int) -> None:
        found = _MANIFEST.fullmatch(target)
        if not found or status not in (200, 201, 202):
            return
        name, reference = found["repository"], found["reference"]
        images = self.area(EcrImages)
        with self._lock:
            there = place.repositories.get(name)
            digest = there.tags.get(reference, reference) if there else reference
            if head.method == "PUT":
                images.noted(place, name, reference, read_image(body, head.get("Content-Type")))
            elif head.method == "DELETE":
                place.note_deleted(name, reference)
                images.deleted(place, name, digest, "" if ":" in reference else reference)
            elif head.method == "GET" and there and digest in there.images:
                images.pulled(self.default.arn, there.images[digest])

    def _refusal(self, head: Head) -> Refusal | None:
        given = base64.b64decode(head.get("Authorization").partition(" ")[2]).decode()
        if not given:
            challenge = 'Basic realm="https://ecr.example/",service="ecr.amazonaws.com"'
            return "HTTP/1.1 401 Unauthorized", [("WWW-Authenticate", challenge)], b""
        return None if given == f"AWS:{self.password}" else ("HTTP/1.1 403 Expired", [], b"")

    def _relay(self, place: Place, head: Head, target: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = place.content
        assert isinstance(upstream, Upstream), f"{place.host} has no registry behind"
        connection = http.client.HTTPConnection(*upstream.address, timeout=patient(30))
        skipped = {"authorization", "connection", "content-length", "transfer-encoding"}
        headers = {name: value for name, value in head.headers if name.lower() not in skipped}
        headers.update(upstream.headers)
        connection.request(
            head.method, target, body if body or head.method in ("PUT", "PATCH", "POST") else None, headers
        )
        answer = connection.getresponse()
        content = answer.read()
        hop = {"connection", "date", "transfer-encoding", "content-length" if head.method != "HEAD" else ""}
        back = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop]
        if head.method != "HEAD":
            back.append(("Content-Length", str(len(content))))
        connection.close()
        return answer.status, back, content


__all__ = ["ACCOUNT", "REGION", "SECRET_KEY", "ApiError", "EcrDouble", "Fault", "Html", "Instead"]
