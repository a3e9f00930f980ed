"""ECR Public: its API, which is in us-east-1 alone, and ``public.ecr.aws`` in front of a real registry.

Sources: botocore's model of ECR Public; its user guide ("Registry authentication": tokens by the bearer protocol, given
for the API's password or to nobody; a repository is made before the first push).
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import socket
import uuid
from types import TracebackType

from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call, pages
from tests.doubles.aws.model import ApiError, Values
from tests.doubles.wire import Head, Listener, Stream
from tests.patience import patient

ALIAS = "a1b2c3d4"
_UPLOAD = re.compile(r"/v2/(?P<repository>.+)/(blobs/uploads/.*|manifests/.+)")


class EcrPublic(Area):
    """repositories: names without the alias, to when they were made."""

    service = "ecr-public"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.repositories: dict[str, float] = {}
        self.password = "public-" + uuid.uuid4().hex
        self._pages: dict[str, tuple[str, list[Values]]] = {}

    def do_GetAuthorizationToken(self, call: Call) -> Values:
        if call.region != "us-east-1":
            raise ApiError(
                "UnsupportedCommandException", "GetAuthorizationToken command is only supported in us-east-1."
            )
        token = base64.b64encode(f"AWS:{self.password}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": moment(self.world.clock() + 12 * 3600)}
        return {"authorizationData": data}

    def do_CreateRepository(self, call: Call) -> Values:
        name = call.values["repositoryName"]
        if name in self.repositories:
            raise ApiError("RepositoryAlreadyExistsException", name)
        self.repositories[name] = self.world.clock()
        return {"repository": self._about(call, name), "catalogData": {}}

    def do_DescribeRepositories(self, call: Call) -> Values:
        names = call.values.get("repositoryNames") or sorted(self.repositories)
        missing = [name for name in names if name not in self.repositories]
        if missing:
            raise ApiError("RepositoryNotFoundException", f"{missing[0]} does not exist")
        found = [self._about(call, name) for name in names]
        return pages(self._pages, "DescribeRepositories", "repositories", found, call.values)

    def do_DescribeRegistries(self, call: Call) -> Values:
        alias = {"name": ALIAS, "status": "ACTIVE", "primaryRegistryAlias": True, "defaultRegistryAlias": True}
        about = {
            "registryId": call.account,
            "registryArn": f"arn:aws:ecr-public::{call.account}:registry/{call.account}",
            "registryUri": f"public.ecr.aws/{ALIAS}",
            "verified": False,
            "aliases": [alias],
        }
        return {"registries": [about]}

    def _about(self, call: Call, name: str) -> Values:
        return {
            "repositoryArn": f"arn:aws:ecr-public::{call.account}:repository/{name}",
            "registryId": call.account,
            "repositoryName": name,
            "repositoryUri": f"public.ecr.aws/{ALIAS}/{name}",
            "createdAt": moment(self.repositories[name]),
        }


class PublicDoor:
    """``with PublicDoor(world, upstream) as door: door.address`` is ``public.ecr.aws``. tokens: given out, to whether
    they may write."""

    def __init__(self, world: AwsDouble, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream, self._area = (host, int(port)), world.area(EcrPublic)
        self.tokens: dict[str, bool] = {}
        self.requests: list[str] = []
        self._listener = Listener(self._serve)
        self.address = self._listener.address

    def __enter__(self) -> PublicDoor:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.stop()

    def _serve(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        head = stream.read_head()
        body = b"".join(stream.request_body(head))
        status, headers, content = self._answer(head, body)
        lines = [*headers, ("Content-Length", str(len(content))), ("Connection", "close")]
        if head.method == "HEAD":
            lines = [*headers, ("Connection", "close")]
            content = b""
        sock.sendall(Head(f"HTTP/1.1 {status} Answer", lines).encode() + content)

    def _answer(self, head: Head, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        kind, _, given = head.get("Authorization").partition(" ")
        if head.target.startswith("/token/"):
            return self._token(base64.b64decode(given).decode() if kind == "Basic" else "")
        self.requests.append(f"{head.method} {head.target}")
        realm = f'Bearer realm="http://{self.address}/token/",service="public.ecr.aws",scope="aws"'
        if given not in self.tokens:
            return self._said(401, "UNAUTHORIZED", "Not Authorized", ("WWW-Authenticate", realm))
        write = _UPLOAD.fullmatch(head.target) if head.method not in ("GET", "HEAD") else None
        if write and not self.tokens[given]:
            return self._said(403, "DENIED", "Your authorization token has no right to push")
        if write and write["repository"].removeprefix(f"{ALIAS}/") not in self._area.repositories:
            return self._said(404, "NAME_UNKNOWN", f"The repository with name '{write['repository']}' does not exist")
        return self._relay(head, body)

    def _token(self, given: str) -> tuple[int, list[tuple[str, str]], bytes]:
        if given and given != f"AWS:{self._area.password}":
            return self._said(401, "UNAUTHORIZED", "wrong password")
        token = secrets.token_urlsafe(24)
        self.tokens[token] = bool(given)
        return 200, [("Content-Type", "application/json")], json.dumps({"token": token}).encode()

    def _said(
        self, status: int, code: str, message: str, *headers: tuple[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        said = {"errors": [{"code": code, "message": message}]}
        return status, [("Content-Type", "application/json"), *headers], json.dumps(said).encode()

    def _relay(self, head: Head, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self._upstream, timeout=patient(30))
        skipped = {"authorization", "connection", "content-length", "transfer-encoding"}
        headers = {name: value for name, value in head.headers if name.lower() not in skipped}
        target = re.sub(r"^http://[^/]+", "", head.target)
        connection.request(head.method, target, body if body or head.method != "GET" else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        hop = {"connection", "date", "transfer-encoding", *([] if head.method == "HEAD" else ["content-length"])}
        back = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop]
        connection.close()
        return answer.status, back, content


__all__ = ["ALIAS", "EcrPublic", "PublicDoor"]
