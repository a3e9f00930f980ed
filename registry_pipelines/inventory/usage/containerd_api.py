"""What containerd answers over gRPC, read by field numbers: no generated code is needed, and its own has no release for
today's protobuf.

Sources: containerd's ``api/services/{namespaces,containers,images,tasks}/v1`` and ``api/types/task`` (1.0 to 2.x have
the same numbers); Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from registry_pipelines.errors import LocalError, RegistryError, ToolMissing, Unavailable

ANSWER_S = 60.0
MAX_ANSWER_BYTES = 512 * 1024 * 1024
"""Containers come with their whole specification, some 20 KB each."""
RUNNING = 2
"""Of a task's Status."""


class Container(NamedTuple):
    """A container. image: as it was started with; empty for none. since: when it was made."""

    name: str
    image: str
    since: datetime | None = None


class Image(NamedTuple):
    """A name in a store of images, and the digest of the index or manifest that it is."""

    name: str
    digest: str


class Namespace(NamedTuple):
    """What one namespace of a host has. running: names of containers whose task runs."""

    name: str
    containers: tuple[Container, ...]
    images: tuple[Image, ...]
    running: frozenset[str]


class ContainerdApi:
    """containerd at a socket of this machine. Raises ToolMissing without grpcio."""

    def __init__(self, socket: Path) -> None:
        try:
            import grpc  # an extra; nothing else here needs it
        except ImportError as error:
            raise ToolMissing(
                "grpcio is not installed, by which containerd is asked",
                do="Install it: pip install 'registry-pipelines[containerd]', or say `command` with ctr or crictl",
            ) from error
        if not socket.exists():  # for which gRPC would wait
            raise LocalError("containerd's socket is not there", where=str(socket), do="Start it, or name its socket")
        self._grpc, self._where = grpc, str(socket)
        options = [("grpc.max_receive_message_length", MAX_ANSWER_BYTES)]
        self._channel = grpc.insecure_channel(f"unix://{socket.absolute()}", options=options)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def namespaces(self) -> list[Namespace]:
        """All of it. Raises Unavailable, RegistryError."""
        names = [_text(one, 1) for one in _listed(self._call("namespaces", "Namespaces", ""))]
        return [self._namespace(name) for name in names]

    def _namespace(self, name: str) -> Namespace:
        containers = _listed(self._call("containers", "Containers", name))
        images = _listed(self._call("images", "Images", name))
        tasks = _listed(self._call("tasks", "Tasks", name))
        return Namespace(
            name,
            tuple(Container(_text(one, 1), _text(one, 3), _time(_bytes(one, 8))) for one in containers),
            tuple(Image(_text(one, 1), _text(_bytes(one, 3), 2)) for one in images),
            # The container's name is `container_id`, and containerd 2 leaves that empty: there `id` is.
            frozenset(_text(one, 1) or _text(one, 2) for one in tasks if _number(one, 4) == RUNNING),
        )

    def _call(self, package: str, service: str, namespace: str) -> bytes:
        method = f"/containerd.services.{package}.v1.{service}/List"
        metadata = [("containerd-namespace", namespace)] if namespace else []
        try:
            return bytes(self._channel.unary_unary(method)(b"", timeout=ANSWER_S, metadata=metadata))
        except self._grpc.RpcError as error:
            code, said = error.code().name, str(error.details())[:200]
            kind = Unavailable if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") else RegistryError
            raise kind(f"containerd refuses {service}/List: {code}: {said}", where=self._where) from error


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and a whole number or bytes. Raises RegistryError for what is none."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        match key & 7:
            case 0:
                value, at = _varint(raw, at)
                yield key >> 3, value
            case 1 | 5 as form:
                size = 8 if form == 1 else 4
                yield key >> 3, _piece(raw, at, size)
                at += size
            case 2:
                size, at = _varint(raw, at)
                yield key >> 3, _piece(raw, at, size)
                at += size
            case other:
                raise RegistryError(f"containerd's answer cannot be read: it has a field of wire type {other}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if not raw[at - 1] & 0x80:
            return value, at
    raise RegistryError("containerd's answer cannot be read: a number has no end")


def _piece(raw: bytes, at: int, size: int) -> bytes:
    if at + size > len(raw):
        raise RegistryError("containerd's answer cannot be read: it ends early")
    return raw[at : at + size]


def _listed(raw: bytes) -> list[bytes]:
    """The entries of a List answer: field 1, repeated."""
    return [value for number, value in fields(raw) if number == 1 and isinstance(value, bytes)]


def _last(raw: bytes, wanted: int) -> Any:
    found = [value for number, value in fields(raw) if number == wanted]
    return found[-1] if found else None


def _bytes(raw: bytes, wanted: int) -> bytes:
    found = _last(raw, wanted)
    return found if isinstance(found, bytes) else b""


def _text(raw: bytes, wanted: int) -> str:
    return _bytes(raw, wanted).decode(errors="replace")


def _number(raw: bytes, wanted: int) -> int:
    found = _last(raw, wanted)
    return found if isinstance(found, int) else 0


def _time(raw: bytes) -> datetime | None:
    """A google.protobuf.Timestamp."""
    try:
        return datetime.fromtimestamp(_number(raw, 1), UTC) if raw else None
    except (ValueError, OverflowError, OSError):
        return None


__all__ = ["Container", "ContainerdApi", "Image", "Namespace", "fields"]
