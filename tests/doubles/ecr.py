"""ECR: its JSON API in front of a real registry, whose ``/v2/`` it passes on with ECR's quirks.

``with EcrDouble(upstream_address) as ecr:`` Two doors on loopback: ``ecr.api_address`` is AWS_ENDPOINT_URL_ECR,
``ecr.proxy_address`` an HTTP proxy that leads every host name to ``/v2/`` (plain, or TLS by CONNECT). Each API request
and answer is checked against botocore's model of ECR, each signature over its body. The rules of parts
are AWS's documented ones: consecutive, 5 MiB at least except the last, at most ``part_bytes``. Images are in
``ecr_images``; both doors see the same ones.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.doubles.ecr_images import Image, Images
from tests.doubles.ecr_model import (
    MODEL,
    PREFIX,
    SECRET_KEY,
    ApiError,
    check_error,
    check_reply,
    check_request,
    is_signed,
)
from tests.doubles.wire import Head, Listener, Stream
from tests.patience import patient

SMALLEST_PART = 5 * 1024 * 1024
_MANIFEST = re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/?]+)")
_SAID = {
    "ReferencedImagesNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "ImageTagAlreadyExistsException": "TAG_INVALID",
    "ImageDigestDoesNotMatchException": "MANIFEST_INVALID",
    "ImageReferencedByManifestList": "DENIED",
}
"""What the distribution protocol says instead (docker/cli 2023-01 by int128/docker-manifest-create-action#63,
moby/buildkit#3776, google/go-containerregistry#1568; the last is not known: nobody reported it)."""

Refusal = tuple[str, list[tuple[str, str]], bytes]
Fault = str | ApiError | Callable[[], object]


@dataclass
class Upload:
    """An open upload. small: a part below 5 MiB came, so none may follow."""

    repository: str
    content: bytearray = field(default_factory=bytearray)
    small: bool = False


@dataclass
class Call:
    """One API request that was understood. sent: bytes of the part in it."""

    action: str
    values: dict[str, Any]
    sent: int = 0
    code: str = ""


class EcrDouble:
    """See the module. part_bytes: what InitiateLayerUpload asks for. calls: all API requests in order."""

    def __init__(self, upstream: str, *, part_bytes: int = 10 * 1024 * 1024, tls: ssl.SSLContext | None = None) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream, self._tls = (host, int(port)), tls
        self.part_bytes = part_bytes
        self.password = "token-" + uuid.uuid4().hex
        self.token_life_s = 12 * 3600.0
        self.calls: list[Call] = []
        self.requests: list[str] = []
        self.uploads: dict[str, Upload] = {}
        self.committed: set[tuple[str, str]] = set()
        self._faults: list[tuple[str, Callable[[], Fault]]] = []
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self.images = Images(self._put_manifest, lambda name, at: self._ask("DELETE", f"/v2/{name}/manifests/{at}"))
        self._api, self._proxy = Listener(self._serve_api), Listener(self._serve_proxy)
        self.api_address, self.proxy_address = self._api.address, self._proxy.address

    def __enter__(self) -> EcrDouble:
        self._api.start()
        self._proxy.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.stop()
        self._proxy.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a client of AWS needs to come here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL_ECR": f"http://{self.api_address}",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def part_bytes_in(self) -> int:
        """Bytes of all parts that came, refused ones too."""
        return sum(call.sent for call in list(self.calls))

    def count(self, action: str) -> int:
        """Requests of an action."""
        return sum(call.action == action for call in list(self.calls))

    def fail(self, action: str, what: str | ApiError | Callable[[], object], *, times: int = 1, skip: int = 0) -> None:
        """Fail an action: by an error; ``lose``: the work is done, no answer comes; ``cut``: nothing is done. Something
        to call is called when the work is done, and no answer comes either."""
        with self._lock:
            plan: list[Fault] = [""] * skip + [what] * times
            self._faults.append((action, lambda: plan.pop(0) if plan else ""))

    def wait_for_parts(self, count: int, ended: Callable[[], bool]) -> None:
        """Return when so many parts came, or the sender has ended."""
        with self._change:
            while self.count("UploadLayerPart") < count and not ended():
                self._change.wait(0.2)

    # The API

    def _serve_api(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        while True:
            head = stream.read_head()
            if head.get("Expect"):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b"".join(stream.request_body(head))
            status, answer, keep = self._dispatch(head, body)
            if not keep:
                return
            raw = json.dumps(answer).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(raw)))]
            sock.sendall(Head(f"HTTP/1.1 {status} Answer", headers).encode() + raw)

    def _dispatch(self, head: Head, body: bytes) -> tuple[int, dict[str, Any], bool]:
        action = head.get("X-Amz-Target").removeprefix(PREFIX)
        fault: Fault = ""
        try:
            values = self._checked(head, action, body)
            call = Call(action, values, len(values.get("layerPartBlob", b"")))
            with self._change:
                fault = next((found for name, take in self._faults if name == action and (found := take())), "")
                if fault != "cut":
                    self.calls.append(call)
                    self._change.notify_all()
            if fault == "cut":
                return 0, {}, False
            if isinstance(fault, ApiError):
                call.code = fault.code
                raise fault
            with self._lock:
                reply = self._operation(action)(values)
            check_reply(action, reply)
            if callable(fault):
                fault()
            return 200, _plain(reply), fault == ""
        except ApiError as error:
            if action in MODEL.operation_names and not isinstance(fault, ApiError):
                check_error(action, error.code)
            answer = {"__type": error.code, "message": error.message, **error.fields}
            return error.status, answer, fault == "" or isinstance(fault, ApiError)

    def _operation(self, action: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        found = getattr(self, f"_do_{action}", None) or getattr(self.images, f"do_{action}", None)
        if found is None or action not in MODEL.operation_names:
            raise ApiError("UnknownOperationException", action)
        return found  # type: ignore[no-any-return]

    def _checked(self, head: Head, action: str, body: bytes) -> dict[str, Any]:
        self._operation(action)
        if not is_signed(head, body):
            raise ApiError("InvalidSignatureException", "The request signature does not match", status=403)
        values = json.loads(body)
        if "layerPartBlob" in values:
            values["layerPartBlob"] = base64.b64decode(values["layerPartBlob"], validate=True)
        check_request(action, values)
        return dict(values)

    def _do_GetAuthorizationToken(self, values: dict[str, Any]) -> dict[str, Any]:
        token = base64.b64encode(f"AWS:{self.password}".encode()).decode()
        expires = time.time() + self.token_life_s
        return {
            "authorizationData": [{"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": "https://x"}]
        }

    def _do_InitiateLayerUpload(self, values: dict[str, Any]) -> dict[str, Any]:
        name = str(uuid.uuid4())
        self.uploads[name] = Upload(values["repositoryName"])
        return {"uploadId": name, "partSize": self.part_bytes}

    def _upload(self, values: dict[str, Any]) -> Upload:
        found = self.uploads.get(values["uploadId"])
        if found is None or found.repository != values["repositoryName"]:
            raise ApiError("UploadNotFoundException", "The upload could not be found")
        return found

    def _do_UploadLayerPart(self, values: dict[str, Any]) -> dict[str, Any]:
        upload, content = self._upload(values), values["layerPartBlob"]
        there = len(upload.content)
        first, last = values["partFirstByte"], values["partLastByte"]
        if first != there or last - first + 1 != len(content) or len(content) > self.part_bytes:
            raise ApiError("InvalidLayerPartException", "not consecutive", lastValidByteReceived=max(there - 1, 0))
        if upload.small:
            raise ApiError("LayerPartTooSmallException", "only the last part may be below 5 MiB")
        upload.small = len(content) < SMALLEST_PART
        upload.content += content
        return {**self._names(values), "lastByteReceived": last}

    def _do_CompleteLayerUpload(self, values: dict[str, Any]) -> dict[str, Any]:
        upload, digest = self._upload(values), values["layerDigests"][0]
        if not upload.content:
            raise ApiError("EmptyUploadException", "no parts")
        if f"sha256:{hashlib.sha256(upload.content).hexdigest()}" != digest:
            raise ApiError("InvalidLayerException", "the digest does not match")
        if self._size(upload.repository, digest) is not None:
            raise ApiError("LayerAlreadyExistsException", "it exists")
        self._store(upload, digest)
        del self.uploads[values["uploadId"]]
        return {**self._names(values), "layerDigest": digest}

    def _do_BatchCheckLayerAvailability(self, values: dict[str, Any]) -> dict[str, Any]:
        layers = []
        for digest in values["layerDigests"]:
            size = self._size(values["repositoryName"], digest)
            there = {"layerAvailability": "UNAVAILABLE"} if size is None else {"layerAvailability": "AVAILABLE"}
            layers.append({"layerDigest": digest, **there, **({} if size is None else {"layerSize": size})})
        return {"layers": layers, "failures": []}

    def _names(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in ("registryId", "repositoryName", "uploadId") if name in values}

    # The registry behind

    def _ask(self, method: str, path: str, body: bytes | bytearray = b"", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*self._upstream, timeout=patient(30))
        connection.request(method, path, bytes(body), headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def _size(self, repository: str, digest: str) -> int | None:
        answer = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}")
        return int(answer.headers["Content-Length"]) if answer.status == 200 else None

    def _store(self, upload: Upload, digest: str) -> None:
        location = self._ask("POST", f"/v2/{upload.repository}/blobs/uploads/").headers["Location"]
        path = re.sub(r"^http://[^/]+", "", location)
        path = f"{path}{'&' if '?' in path else '?'}digest={digest}"
        assert self._ask("PUT", path, upload.content).status == 201

    def _put_manifest(self, repository: str, reference: str, image: Image) -> int:
        path = f"/v2/{repository}/manifests/{reference}"
        return self._ask("PUT", path, image.raw, **{"Content-Type": image.media_type}).status

    def _serve_proxy(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        head = stream.read_head()
        if head.method == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            assert self._tls is not None
            with self._tls.wrap_socket(sock, server_side=True) as secured:
                inner = Stream(secured)
                self._pass_on(inner, inner.read_head())
            return
        self._pass_on(stream, head)

    def _pass_on(self, stream: Stream, head: Head) -> None:
        """One request to the registry, with log-in and ECR's quirks; the connection then ends."""
        target = re.sub(r"^http://[^/]+", "", head.target)
        body = b"".join(stream.request_body(head))
        with self._lock:
            self.requests.append(f"{head.method} {target}")
        refused = self._refusal(head) or self._refused_image(head, target, body)
        if refused:
            status, headers, content = refused
            length = ("Content-Length", str(len(content)))
            stream.sock.sendall(Head(status, [*headers, length, ("Connection", "close")]).encode() + content)
            return
        if head.method == "POST" and "mount=" in target and not self._may_mount(target):
            target = target.partition("?")[0]
        status, headers, content = self._relay(head, target, body)
        if head.method == "PATCH" and status == 202:
            status, headers = 201, [(name, "0-0" if name == "Range" else value) for name, value in headers]
        self._note_image(head, target, body, status)
        answer = Head(f"HTTP/1.1 {status} Answer", [*headers, ("Connection", "close")]).encode()
        stream.sock.sendall(answer + (b"" if head.method == "HEAD" else content))

    def _refused_image(self, head: Head, target: str, body: bytes) -> Refusal | None:
        found = _MANIFEST.fullmatch(target)
        try:
            with self._lock:
                if found and head.method == "PUT":
                    self.images.check(found["repository"], found["reference"], Image(body, head.get("Content-Type")))
                elif found and head.method == "DELETE":
                    self.images.check_delete(found["repository"], found["reference"])
        except ValueError:
            return None  # what is no JSON is refused behind
        except ApiError as error:
            said = {"errors": [{"code": _SAID[error.code], "message": error.message}]}
            return "HTTP/1.1 400 Bad Request", [("Content-Type", "application/json")], json.dumps(said).encode()
        return None

    def _note_image(self, head: Head, target: str, body: bytes, status: int) -> None:
        found = _MANIFEST.fullmatch(target)
        if not found or status not in (201, 202):
            return
        with self._lock:
            if head.method == "PUT":
                self.images.note(found["repository"], found["reference"], Image(body, head.get("Content-Type")))
                digests = re.findall(r"sha256:[0-9a-f]{64}", body.decode())
                self.committed.update((found["repository"], digest) for digest in digests)
            elif head.method == "DELETE":
                self.images.note_deleted(found["repository"], found["reference"])

    def _refusal(self, head: Head) -> Refusal | None:
        given = base64.b64decode(head.get("Authorization").partition(" ")[2]).decode()
        if not given:
            challenge = 'Basic realm="https://ecr.example/",service="ecr.amazonaws.com"'
            return "HTTP/1.1 401 Unauthorized", [("WWW-Authenticate", challenge)], b""
        return None if given == f"AWS:{self.password}" else ("HTTP/1.1 403 Expired", [], b"")

    def _relay(self, head: Head, target: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self._upstream, timeout=patient(30))
        skipped = {"authorization", "connection", "content-length", "transfer-encoding"}
        headers = {name: value for name, value in head.headers if name.lower() not in skipped}
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

    def _may_mount(self, target: str) -> bool:
        """Only what a committed manifest of the source repository names is mounted."""
        found = re.search(r"mount=(sha256:[0-9a-f]+)&from=(.+)", target)
        return bool(found) and (found[2], found[1]) in self.committed  # type: ignore[index]


def _plain(reply: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(reply))  # type: ignore[no-any-return]


__all__ = ["SECRET_KEY", "ApiError", "EcrDouble", "Fault"]
