"""Answers, and the errors of distribution-spec 1.1 ("Error Codes") as JSON."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO


@dataclass(frozen=True)
class FileBody:
    """A part of an open file as an answer's body; whoever sends the answer closes it."""

    stream: BinaryIO
    start: int
    length: int


@dataclass
class Response:
    """One answer. ``content_length`` is announced for HEAD without a body being sent."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    file: FileBody | None = None
    parts: Generator[bytes | memoryview] | None = None
    """A body that comes while it is sent; ``content_length`` says how long it is, and an exception cuts it."""
    content_length: int | None = None
    close: bool = False

    def close_file(self) -> None:
        """Close what the body comes from; safe to call twice."""
        if self.file is not None:
            self.file.stream.close()
        if self.parts is not None:
            self.parts.close()

    def head(self, *, keep_alive: bool) -> bytes:
        """Status line and headers as sent."""
        length = self.content_length
        if length is None:
            length = self.file.length if self.file else len(self.body)
        lines = [f"HTTP/1.1 {self.status} {_reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            lines.append(f"Content-Length: {length}")
        lines.append("Docker-Distribution-Api-Version: registry/2.0")
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class ApiError(Exception):
    """Ends a request with an error of the specification; ``code`` is one of its codes for every 4xx."""

    def __init__(
        self, status: int, code: str, message: str, *, detail: object = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = headers

    def response(self) -> Response:
        """The answer."""
        return error_response(self.status, self.code, self.message, detail=self.detail, headers=self.headers)


def error_response(
    status: int, code: str, message: str, *, detail: object = None, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An error in the specification's JSON form."""
    entry: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return json_response({"errors": [entry]}, status=status, headers=headers)


def json_response(
    document: object,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    """A JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Response(status, [("Content-Type", content_type), *headers], body)


__all__ = ["ApiError", "FileBody", "Response", "error_response", "json_response"]
