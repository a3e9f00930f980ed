"""containerd's snapshots service on the wire: its messages, made at run time, and the calls over Snapshots.

Source: containerd's ``api/services/snapshots/v1/snapshots.proto`` and ``api/types/mount.proto`` (the same numbers from
1.0 to 2.x). PyPI has no stubs that today's protobuf takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError, Unavailable
from registry_pipelines.node.filters import parse_filters
from registry_pipelines.node.grpc_connection import INTERNAL, UNAVAILABLE, Call, Failed
from registry_pipelines.node.messages import Fields, classes
from registry_pipelines.node.snapshots import Mount, Snapshots
from registry_pipelines.node.store import Code, Info, Refused

SERVICE = "containerd.services.snapshots.v1.Snapshots"
LIST_BATCH = 100
"""Snapshots in one message of a list, as containerd's own server sends them."""
_PACKAGE, _, _ = SERVICE.rpartition(".")
_KINDS = {"view": 1, "active": 2, "committed": 3}
_CODES: Mapping[Code, int] = {
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "FAILED_PRECONDITION": 9,
}
"""gRPC's numbers."""
_OWNER = ("snapshotter", 1, "string")
_LABELS = ("labels", 4, "map")
_INFO, _MOUNTS = f".{_PACKAGE}.Info", (("mounts", 1, "*.containerd.types.Mount"),)
_BEGIN = (_OWNER, ("key", 2, "string"), ("parent", 3, "string"), _LABELS)
_KEY = (_OWNER, ("key", 2, "string"))
_MESSAGES: dict[str, Fields] = {
    "Info": (
        ("name", 1, "string"),
        ("parent", 2, "string"),
        ("kind", 3, f"enum .{_PACKAGE}.Kind"),
        ("created_at", 4, ".google.protobuf.Timestamp"),
        ("updated_at", 5, ".google.protobuf.Timestamp"),
        ("labels", 6, "map"),
    ),
    "PrepareSnapshotRequest": _BEGIN,
    "PrepareSnapshotResponse": _MOUNTS,
    "ViewSnapshotRequest": _BEGIN,
    "ViewSnapshotResponse": _MOUNTS,
    "MountsRequest": _KEY,
    "MountsResponse": _MOUNTS,
    "CommitSnapshotRequest": (
        _OWNER,
        ("name", 2, "string"),
        ("key", 3, "string"),
        _LABELS,
        ("parent", 5, "string"),
    ),
    "RemoveSnapshotRequest": _KEY,
    "StatSnapshotRequest": _KEY,
    "StatSnapshotResponse": (("info", 1, _INFO),),
    "UpdateSnapshotRequest": (_OWNER, ("info", 2, _INFO), ("update_mask", 3, ".google.protobuf.FieldMask")),
    "UpdateSnapshotResponse": (("info", 1, _INFO),),
    "ListSnapshotsRequest": (_OWNER, ("filters", 2, "*string")),
    "ListSnapshotsResponse": (("info", 1, f"*{_INFO}"),),
    "UsageRequest": _KEY,
    "UsageResponse": (("size", 1, "int64"), ("inodes", 2, "int64")),
    "CleanupRequest": (_OWNER,),
}


_find = classes(
    {
        "containerd.types": {
            "Mount": (
                ("type", 1, "string"),
                ("source", 2, "string"),
                ("target", 3, "string"),
                ("options", 4, "*string"),
            )
        },
        _PACKAGE: _MESSAGES,
    },
    {_PACKAGE: {"Kind": ("UNKNOWN", "VIEW", "ACTIVE", "COMMITTED")}},
)


def message(name: str) -> Any:
    """The class of a message of the service, or ``Empty``."""
    return _find("google.protobuf.Empty" if name == "Empty" else f"{_PACKAGE}.{name}")


class Service:
    """The calls, each from a request to its answer."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def prepare(self, request: Any) -> Any:
        """Mounts of what can be written to."""
        found = self._snapshots.prepare(request.key, request.parent, dict(request.labels), request.snapshotter)
        return message("PrepareSnapshotResponse")(mounts=_mounts(found))

    def view(self, request: Any) -> Any:
        """Mounts of what is only read."""
        found = self._snapshots.view(request.key, request.parent, dict(request.labels), request.snapshotter)
        return message("ViewSnapshotResponse")(mounts=_mounts(found))

    def mounts(self, request: Any) -> Any:
        """The same again."""
        return message("MountsResponse")(mounts=_mounts(self._snapshots.mounts(request.key)))

    def commit(self, request: Any) -> Any:
        """Make it a layer."""
        self._snapshots.commit(request.name, request.key, dict(request.labels), request.parent)
        return message("Empty")()

    def remove(self, request: Any) -> Any:
        """Forget it."""
        self._snapshots.remove(request.key)
        return message("Empty")()

    def stat(self, request: Any) -> Any:
        """What is known of it."""
        return message("StatSnapshotResponse")(info=_info(self._snapshots.stat(request.key)))

    def update(self, request: Any) -> Any:
        """Change its labels."""
        paths = list(request.update_mask.paths)
        changed = self._snapshots.update(request.info.name, dict(request.info.labels), paths)
        return message("UpdateSnapshotResponse")(info=_info(changed))

    def list(self, request: Any) -> Iterator[Any]:
        """All that a filter fits."""
        fits = parse_filters(list(request.filters))
        found = (_info(info) for info in self._snapshots.everything(fits.parent) if fits(info))
        while batch := list(itertools.islice(found, LIST_BATCH)):
            yield message("ListSnapshotsResponse")(info=batch)

    def usage(self, request: Any) -> Any:
        """What its files take."""
        size, inodes = self._snapshots.usage(request.key)
        return message("UsageResponse")(size=size, inodes=inodes)

    def cleanup(self, request: Any) -> Any:
        """Delete what no snapshot has any more."""
        self._snapshots.cleanup()
        return message("Empty")()


def calls(service: Service, log: Callable[[str], object]) -> Mapping[bytes, Call]:
    """The service for a server, by path. log: told of every call that failed by this machine or a registry, not of what
    containerd asked wrongly."""
    found: dict[str, tuple[Callable[[Any], Any], str]] = {
        "Prepare": (service.prepare, "PrepareSnapshotRequest"),
        "View": (service.view, "ViewSnapshotRequest"),
        "Mounts": (service.mounts, "MountsRequest"),
        "Commit": (service.commit, "CommitSnapshotRequest"),
        "Remove": (service.remove, "RemoveSnapshotRequest"),
        "Stat": (service.stat, "StatSnapshotRequest"),
        "Update": (service.update, "UpdateSnapshotRequest"),
        "List": (service.list, "ListSnapshotsRequest"),
        "Usage": (service.usage, "UsageRequest"),
        "Cleanup": (service.cleanup, "CleanupRequest"),
    }

    def made(name: str, call: Callable[[Any], Any], asked: Any) -> Call:
        def answer(raw: bytes) -> Iterator[bytes]:
            try:
                answered = call(asked.FromString(raw))
                for each in answered if name == "List" else (answered,):
                    yield each.SerializeToString()
            except DecodeError as error:
                raise Failed(INTERNAL, f"the request is no {asked.DESCRIPTOR.name}") from error
            except Refused as error:
                raise Failed(_CODES[error.code], str(error)) from error
            except (RegistryPipelinesError, OSError) as error:
                log(f"{name}: {error}")
                raise Failed(UNAVAILABLE if isinstance(error, Unavailable) else INTERNAL, str(error)) from error

        return answer

    from google.protobuf.message import DecodeError

    return {f"/{SERVICE}/{name}".encode(): made(name, call, message(asked)) for name, (call, asked) in found.items()}


def _mounts(found: Sequence[Mount]) -> list[dict[str, Any]]:
    return [{"type": each.kind, "source": each.source, "options": each.options} for each in found]


def _info(info: Info) -> Any:
    made = message("Info")(name=info.name, parent=info.parent, kind=_KINDS[info.kind], labels=info.labels)
    made.created_at.FromNanoseconds(info.created)
    made.updated_at.FromNanoseconds(info.updated)
    return made


__all__ = ["SERVICE", "Service", "calls", "message"]
