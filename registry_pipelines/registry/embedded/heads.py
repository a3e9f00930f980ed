"""Requests: heads parsed leanly and strictly. See ``http_messages`` for what is refused and why."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from registry_pipelines.registry.embedded.http_messages import TOKEN, BadRequest, Body, Connection

MAX_HEADERS = 100
"""Clients send about ten."""
MAX_TARGET_BYTES = 8 * 1024
"""The request target: a repository of 255 bytes and 60 tags of 128 (``?tag=``) fit; RFC 9110 asks for 8,000."""

_VERSION = re.compile(rb"HTTP/(\d)\.(\d)\Z")
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass
class Request:
    """One request. ``headers`` has lower-case names; a repeated header is joined by ``, ``."""

    method: str
    path: str
    """Percent-decoded."""
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Body
    scheme: str
    local_address: str
    peer: str = ""
    keep_alive: bool = True
    user: str = ""
    """Who asks, when authentication is on."""
    target: str = field(default="", repr=False)

    def parameter(self, name: str) -> str:
        """The first value of a query parameter, empty when there is none."""
        values = self.query.get(name)
        return values[0] if values else ""

    @property
    def base_url(self) -> str:
        """Scheme and host as the client sees them."""
        return f"{self.scheme}://{self.headers.get('host') or self.local_address}"


@dataclass(frozen=True)
class Head:
    """A parsed head, before its body is looked at."""

    method: str
    target: str
    http_1_1: bool
    headers: dict[str, str]
    length: int | None
    """None: chunked."""


def parse_head(raw: bytes) -> Head:
    """Parse a request line and headers, without the final empty line. Raises BadRequest (400, 414, 431, 501, 505)."""
    lines = raw.split(b"\r\n")
    if len(lines) - 1 > MAX_HEADERS:
        raise BadRequest(431, f"more than {MAX_HEADERS} headers")
    method, target, http_1_1 = _parse_request_line(lines[0])
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name) or _FORBIDDEN.search(value):
            raise BadRequest(400, "a header line is not valid")
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in ("content-length", "transfer-encoding", "host", "content-range", "authorization"):
                raise BadRequest(400, f"{key} is sent twice")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    if http_1_1 and "host" not in headers:
        raise BadRequest(400, "Host is missing")
    return Head(method, target, http_1_1, headers, _body_length(headers, http_1_1))


def _parse_request_line(line: bytes) -> tuple[str, str, bool]:
    parts = line.split(b" ")
    if len(parts) != 3 or not TOKEN.match(parts[0]) or _FORBIDDEN.search(line):
        raise BadRequest(400, "the request line is not valid")
    version = _VERSION.match(parts[2])
    if not version:
        raise BadRequest(400, "the request line is not valid")
    if version[1] != b"1":
        raise BadRequest(505, "only HTTP/1 is spoken here")
    if len(parts[1]) > MAX_TARGET_BYTES:
        raise BadRequest(414, f"the request target is longer than {MAX_TARGET_BYTES} bytes")
    try:
        target = parts[1].decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest(400, "the request target is not ASCII") from None
    if not target.startswith("/") and not target.lower().startswith(("http://", "https://")):
        raise BadRequest(400, "the request target is not a path")
    return parts[0].decode("ascii"), target, version[2] != b"0"


def _body_length(headers: dict[str, str], http_1_1: bool) -> int | None:
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if length is not None or not http_1_1:
            raise BadRequest(400, "Transfer-Encoding beside Content-Length or HTTP/1.0 is ambiguous")
        if encoding.lower() != "chunked":
            raise BadRequest(501, "only the transfer coding chunked is understood")
        return None
    if length is None:
        return 0
    if not _LENGTH.match(length.encode("latin-1")):
        raise BadRequest(400, "Content-Length is not a number")
    return int(length)


def split_target(target: str) -> tuple[str, dict[str, list[str]]]:
    """Path (percent-decoded) and query of a request target. Raises BadRequest."""
    if not target.startswith("/"):
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    parameters: dict[str, list[str]] = {}
    try:
        for key, value in parse_qsl(query, keep_blank_values=True, max_num_fields=200, errors="strict"):
            parameters.setdefault(key, []).append(value)
        decoded = unquote(path, errors="strict")
    except ValueError:
        raise BadRequest(400, "the request target is not valid") from None
    return decoded, parameters


def read_request(connection: Connection, *, scheme: str, local_address: str, peer: str) -> Request | None:
    """Read one request up to its body; None when the peer is done. Raises BadRequest, OSError."""
    raw = connection.read_head()
    if raw is None:
        return None
    head = parse_head(raw)
    path, query = split_target(head.target)
    options = {item.strip().lower() for item in head.headers.get("connection", "").split(",")}
    expects = head.headers.get("expect", "").lower()
    if expects and expects != "100-continue":
        raise BadRequest(417, "only the expectation 100-continue is understood")

    def go_on() -> None:
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    body = Body(connection, length=head.length, go_on=go_on if expects and head.http_1_1 else None)
    keep = "close" not in options if head.http_1_1 else "keep-alive" in options
    return Request(
        method=head.method,
        path=path,
        query=query,
        headers=head.headers,
        body=body,
        scheme=scheme,
        local_address=local_address,
        peer=peer,
        keep_alive=keep,
        target=head.target,
    )


__all__ = [
    "MAX_HEADERS",
    "MAX_TARGET_BYTES",
    "Head",
    "Request",
    "parse_head",
    "read_request",
    "split_target",
]
