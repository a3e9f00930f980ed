"""What an agent says of itself to other commands: a file below its root, written again whenever something changed.

The last one stays when the agent is gone, so that `node status` tells what was there. Whether it lives is told by a
lock beside the file, for process numbers mean nothing between a pod and its host. Containers that use an image are
those whose snapshots stand on its layers.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.node.counts import Counted, Counts, Fallback
from registry_pipelines.node.judging import unpacks
from registry_pipelines.node.lazy_images import REF_LABEL
from registry_pipelines.node.store import Info
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.times import write_time
from registry_pipelines.stream.lazy.notes import MountNote, Noted, is_locked, read_notes

FILE, LOCK = "status.json", "status.lock"
"""In the root of a node's snapshots, which only root may read."""

EVERY_S = 1.0
"""How often the agent looks whether something changed; so old is what is told of it at most."""

_KEY = re.compile(r"([^/]+)/[0-9]+/(.+)\Z", re.DOTALL)
_ADDED = {
    "pack_bytes": ("fetched_bytes", {"way": "pack"}),
    "demand_bytes": ("fetched_bytes", {"way": "demand"}),
    "background_bytes": ("fetched_bytes", {"way": "background"}),
    "requests": ("requests", {}),
    "stalls": ("stalls", {}),
    "stalled_s": ("stalled_seconds", {}),
    "failed_reads": ("failed_reads", {}),
}
"""Counters of a mount's note, and those of the agent to which they are added: they go on when a mount ends."""


class ImageStatus(msgspec.Struct):
    """An image of which layers are served before they are fetched."""

    image: str
    """Reference and digest of its manifest."""
    layers: int
    """Snapshots that are served."""
    containers: list[str] = []
    """Containers that stand on them, as ``namespace/name``; for CRI the container's ID in ``k8s.io``."""
    mounts: list[MountNote] = []


class DrainStatus(msgspec.Struct):
    """How far a drain is (`node drain`)."""

    since: str
    """RFC 3339, UTC."""
    missing_bytes: int = 0
    """Of what containers use, not yet on this node."""
    filled: bool = False
    """Whether nothing that runs needs a registry any more."""
    done: bool = False
    """Whether no container uses an image that is served: nothing that runs needs the agent."""


class NodeStatus(msgspec.Struct, kw_only=True):
    """All that an agent says of itself."""

    process: int
    started: str
    """RFC 3339, UTC, as all times here."""
    updated: str = ""
    ended: str = ""
    """Empty while it runs, and of one that was killed."""
    version: str
    """Of this product."""
    socket: str
    root: str
    lazy_state: str = ""
    """Folder of what it keeps of images that are served before they are fetched; empty where it serves none."""
    drain: DrainStatus | None = None
    snapshots: int = 0
    containers: int = 0
    """Snapshots that containers write to."""
    images: list[ImageStatus] = []
    counters: list[Counted] = []
    fallbacks: list[Fallback] = []


class Told(NamedTuple):
    """The last status of a node, and whether its agent lives."""

    status: NodeStatus
    alive: bool


def read_status(root: Path) -> Told:
    """What the agent of a root said last. Raises NotFound where none ever served it, LocalError, ContentError."""
    path = root / FILE
    if not path.exists():
        raise NotFound(
            "no agent has served this folder yet",
            where=str(root),
            do="Start `node serve`, or name its folder with --root",
        )
    alive = is_locked(root / LOCK)
    with local_errors(path):
        return Told(decode_json(path.read_bytes(), NodeStatus, what="status of a node's agent"), alive)


def users_of(snapshots: Sequence[Info]) -> dict[str, ImageStatus]:
    """Images that serve layers, by name, with who stands on them; in the order of their first layer."""
    by_id = {each.id: each for each in snapshots}
    found: dict[str, ImageStatus] = {}
    for each in snapshots:
        if each.image:
            found.setdefault(each.image, ImageStatus(each.image, 0)).layers += 1
    for each in snapshots:
        below: Info | None = each
        while below is not None and not below.image:
            below = by_id.get(below.above) if below.above is not None else None
        if is_container(each) and below is not None:
            found[below.image].containers.append(_named(each.name))
    return found


def is_container(info: Info) -> bool:
    """Whether a container writes to it; else a layer is made of it, or it is only read."""
    return info.kind == "active" and REF_LABEL not in info.labels and not unpacks(info.name)


def _named(key: str) -> str:
    """A container as people know it: containerd puts its namespace and a number before the name."""
    match = _KEY.match(key)
    return f"{match[1]}/{match[2]}" if match else key


class Reporter:
    """Keeps the file of a root, while the context lasts. Its counts go on with what mounts count."""

    def __init__(
        self,
        root: Path,
        first: NodeStatus,
        snapshots: Callable[[], Sequence[Info]],
        *,
        counts: Counts,
        lazy_state: Path | None,
        changes: Callable[[], int] | None = None,
    ) -> None:
        """first: what does not change. snapshots: all there are, asked for again when ``changes`` is another number
        (each time unless told): a node has hundreds, and this is done each second. lazy_state: the folder of lazy
        images of this node (``lazy`` in ``NodeImages``'s state), None where nothing is served before it is fetched."""
        self._root, self._snapshots, self._counts = root, snapshots, counts
        self._first = msgspec.structs.replace(first, lazy_state=str(lazy_state or ""))
        self._lazy_state = lazy_state
        self.drain: Callable[[Sequence[ImageStatus]], DrainStatus | None] = lambda images: None
        """Says how far a drain is, of all images that are served; asked each time something is told."""
        self.told: list[Callable[[NodeStatus], object]] = []
        """Who is told each new status; what they raise is theirs."""
        self._last: bytes = b""
        self._changes, self._known_at = changes, -1
        self._known: tuple[int, int, dict[str, ImageStatus]] = (0, 0, {})
        """Snapshots, containers and their images as of ``_known_at``."""
        self._seen: dict[tuple[str, str], MountNote] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="node_status", daemon=True)

    def __enter__(self) -> Reporter:
        with local_errors(self._root):
            self._held = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)  # others hold it for a moment, to see whether it is held
        self.write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.write(ended=write_time(datetime.now(UTC)))
        os.close(self._held)

    def now(self) -> NodeStatus:
        """As of now."""
        with self._lock:
            count, containers, known = self._users()
            images = {name: msgspec.structs.replace(each, mounts=[]) for name, each in known.items()}
            seen: dict[tuple[str, str], MountNote] = {}
            for note, alive, _ in self._notes():
                if alive:  # what a killed agent counted is none of this one's, though it is mounted still
                    self._add(note)
                    seen[note.folder, note.since] = note
                name = f"{note.image}@{note.digest}"
                images.setdefault(name, ImageStatus(name, 0)).mounts.append(note)
            self._seen = seen
            return msgspec.structs.replace(
                self._first,
                drain=self.drain(list(images.values())),
                snapshots=count,
                containers=containers,
                images=list(images.values()),
                counters=list(self._counts.counters()),
                fallbacks=list(self._counts.fallbacks()),
            )

    def _users(self) -> tuple[int, int, dict[str, ImageStatus]]:
        at = self._changes() if self._changes is not None else -1
        if at < 0 or at != self._known_at:
            snapshots = self._snapshots()
            self._known = len(snapshots), sum(map(is_container, snapshots)), users_of(snapshots)
            self._known_at = at  # from before: what changed meanwhile is looked at again
        return self._known

    def write(self, *, ended: str = "") -> None:
        """Write the file where something changed. A full disk keeps the old one: what is served is worth more."""
        status = msgspec.structs.replace(self.now(), ended=ended)
        content = encode_json(status)
        if content == self._last:
            return
        for each in tuple(self.told):
            with suppress(RegistryPipelinesError, OSError):
                each(status)
        with suppress(RegistryPipelinesError), local_errors(self._root):
            told = encode_json(msgspec.structs.replace(status, updated=write_time(datetime.now(UTC))))
            write_file(self._root / FILE, told, mode=0o600, lasting=False)
            self._last = content

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            with suppress(RegistryPipelinesError):
                self.write()

    def _notes(self) -> Iterator[Noted]:
        """Of this agent's mounts, and of those that one before it left and that are not served on yet."""
        if self._lazy_state is None:
            return
        own = self._lazy_state / "node"
        for each in read_notes(self._lazy_state / "mounts"):
            if own in Path(each.note.folder).parents:
                yield each

    def _add(self, note: MountNote) -> None:
        before = self._seen.get((note.folder, note.since))
        if before is None:
            self._counts.count("mounts")
            if note.pack:
                self._counts.count("packs")
        for field, (name, labels) in _ADDED.items():
            had, has = getattr(before, field, 0), getattr(note, field)
            if has != had:  # where it began again all of it is new
                self._counts.count(name, has - had if has > had else has, **labels)
