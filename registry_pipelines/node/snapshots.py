"""The snapshots of a node: what containerd's own overlay snapshotter does, and layers that an image serves instead.

A snapshot's files are in ``snapshots/ID/fs`` below the root, as that of containerd keeps them; a container's, which has
parents, are the upper folder of an overlay over theirs. A layer that a LazyImage serves has no files: at its first
mention it stands there as committed, and what stands on it is mounted over the image's one tree.

Rules: containerd's ``core/snapshots`` and ``plugins/snapshots/overlay``; "Remote snapshotter" in its
``docs/remote-snapshotter.md`` (Prepare answers ALREADY_EXISTS).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from registry_pipelines.errors import LocalError, Unavailable
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.judging import Gate, is_dockers_own, layer_of, named, named_so, stands_on, unpacks
from registry_pipelines.node.lazy_images import REF_LABEL, LazyImage, LazyImages, becomes
from registry_pipelines.node.mapped import Mapped
from registry_pipelines.node.spares import Spares, make
from registry_pipelines.node.store import Info, Refused, Store
from registry_pipelines.oci.files import held_alone, local_errors
from registry_pipelines.stream.lazy.mounting import mount, unmount
from registry_pipelines.threads import run_child

UIDS_LABEL, GIDS_LABEL = "containerd.io/snapshot/uidmapping", "containerd.io/snapshot/gidmapping"
"""Of a container in a user namespace: ``container:host:size``, several with commas."""
LABELS_PATH = "labels"
_OVERLAY = Path("/sys/module/overlay/parameters")
_BLOCK = 512
_MOST_USERS = 1 << 32
DELETE_S = 600.0
"""For the files of one snapshot; containerd waits for no removal."""


class Mount(NamedTuple):
    """What containerd is to mount; see mount(8)."""

    kind: Literal["bind", "overlay"]
    source: str
    options: tuple[str, ...]


class Snapshots:
    """All of a node, below one folder that no other process uses meanwhile. Safe for many threads. lazy: images that
    serve layers; without it every layer is pulled as usual. gate: what may come here and start; everything unless told.
    counts: is told of each layer.

    Calls raise Refused for what the rules forbid, else RegistryPipelinesError: LocalError, DiskFull, Unavailable where
    an image that serves layers cannot be found any more. As a context it is closed in the end.
    """

    def __init__(
        self,
        root: Path,
        lazy: LazyImages | None = None,
        gate: Gate | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._folder, self._lazy, self._gate = root / "snapshots", lazy, gate
        self._at = str(self._folder)
        self._counts, self._mapped = counts or Counts(), Mapped(root / "mapped")
        self.draining = False
        """Whether further layers are pulled as usual (``draining``)."""
        with ExitStack() as undo:
            undo.enter_context(
                held_alone(
                    root / "lock",
                    "another process serves this folder's snapshots",
                    do="End it first, or take another --root",
                    own=True,
                )
            )
            with local_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._folder.chmod(0o700)
            self._options = _options_of(self._folder)
            self._store = Store(root / "snapshots.db")
            undo.callback(self._store.close)
            self.cleanup()
            self._spares = Spares(root / "spares")
            undo.callback(self._spares.close)
            if lazy is not None:
                lazy.retain({info.image for info in self._store.everything() if info.image})
            self._undo = undo.pop_all()

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def stat(self, name: str) -> Info:
        """One snapshot."""
        return self._store.get(name)

    def everything(self, parent: str | None = None) -> Sequence[Info]:
        """All, oldest first; or those that stand on a parent, empty for nothing."""
        return self._store.everything(parent)

    @property
    def changes(self) -> int:
        """While it is the same, so is :meth:`everything`."""
        return self._store.changes

    def update(self, name: str, labels: Mapping[str, str], paths: Sequence[str]) -> Info:
        """Change labels: all of them without paths or with ``labels``, else those of ``labels.NAME``; an empty value
        takes one away. Nothing else of a snapshot can be changed."""
        with self._store.change():
            told = dict(self._store.get(name).labels)
            if not paths or LABELS_PATH in paths:
                told = dict(labels)
            for path in paths:
                label = path.removeprefix(f"{LABELS_PATH}.")
                if path == LABELS_PATH:
                    continue
                if label == path:
                    raise Refused("INVALID_ARGUMENT", f"{path} of a snapshot cannot be changed")
                told[label] = labels.get(label, "")
            return self._store.label(name, {label: text for label, text in told.items() if text})

    def prepare(self, key: str, parent: str, labels: Mapping[str, str], snapshotter: str = "") -> list[Mount]:
        """Begin what can be written to. A layer that an image serves is refused as ALREADY_EXISTS, and is there:
        whoever asked looks for it by its label. snapshotter: what containerd calls this one."""
        chain_id = labels.get(REF_LABEL, "")
        if chain_id and not becomes(key, chain_id):
            labels, chain_id = {name: text for name, text in labels.items() if name != REF_LABEL}, ""
        if chain_id:
            labels = _of_layer(labels)
            if image := self._judged(labels, chain_id):
                self._adopt(image, chain_id, key, parent, labels)
            self._counts.count("layers", way="normal")
        else:
            self._may_start(key, parent, snapshotter)
        return self._begin(key, parent, labels, read_only=False)

    def view(self, key: str, parent: str, labels: Mapping[str, str], snapshotter: str = "") -> list[Mount]:
        """Begin what is only read."""
        self._may_start(key, parent, snapshotter)
        return self._begin(key, parent, labels, read_only=True)

    def mounts(self, key: str) -> list[Mount]:
        """The same as when it began, also after a restart of the machine."""
        info = self._store.get(key)
        if info.kind == "committed":
            raise Refused("FAILED_PRECONDITION", f"the snapshot {key} is committed, and has no mounts")
        return self._mounts(info, self._lowers(self._below(info.parent)))

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str = "") -> None:
        """What was written becomes a layer. parent: where it is told, it must be what the snapshot stands on."""
        info = self._store.get(key)
        if parent and parent != info.parent:
            raise Refused("INVALID_ARGUMENT", f"the snapshot {key} does not stand on {parent}")
        if info.kind != "active":
            raise Refused("FAILED_PRECONDITION", f"the snapshot {key} is not active")
        size, inodes = _used(self._files(info))
        with self._store.change():
            self._store.commit(info, name, labels, size, inodes)

    def remove(self, key: str) -> None:
        """Forget a snapshot on which nothing stands, and delete its files."""
        with self._store.change():
            info = self._store.remove(key)
            unused = bool(info.image) and not self._store.of_image(info.image)
        if unused and self._lazy is not None:
            self._lazy.release(info.image)
        if not info.image:
            self._mapped.end(info.id)
            self._delete(f"{self._at}/{info.id}")

    def usage(self, key: str) -> tuple[int, int]:
        """Bytes on the disk and inodes of its own files; of a layer that an image serves, of what was fetched of it."""
        info = self._store.get(key)
        if info.image:
            return self._lazy.usage(info.image, info.chain_id) if self._lazy is not None else (0, 0)
        if info.kind == "view":
            return 0, 0
        return (info.size, info.inodes) if info.kind == "committed" else _used(self._files(info))

    def cleanup(self) -> None:
        """Delete folders that no snapshot has any more: of a removal or a beginning that was killed."""
        with self._store.change(), local_errors(self._folder):
            known = {str(info.id) for info in self._store.everything()}
            gone = [each for each in self._folder.iterdir() if each.name not in known]
            self._mapped.keep(map(int, known))
        for each in gone:
            self._delete(str(each))

    def _find(self, labels: Mapping[str, str], chain_id: str) -> LazyImage | None:
        return self._lazy.find(labels, chain_id) if self._lazy is not None else None

    def _judged(self, labels: Mapping[str, str], chain_id: str) -> LazyImage | None:
        """The image that serves a layer, where the gate lets it come here at all. Raises Refused."""
        told = named(labels)
        if self._gate is not None and told is not None:
            self._gate.pulled(told, chain_id)
        image = self._find(labels, chain_id) if not self.draining else None
        if self.draining and self._lazy is not None:
            name = f"{told.reference}@{told.digest}" if told else chain_id
            self._counts.fall_back(name, "draining", "this node is being drained")
        return image if told is not None or self._gate is None else self._judged_by_layer(self._gate, image, chain_id)

    @staticmethod
    def _judged_by_layer(gate: Gate, image: LazyImage | None, chain_id: str) -> LazyImage | None:
        """Where nothing is known but a layer's name. One below others may be of another image, too, which the word
        about this one does not hold up: it is pulled then, and who starts is judged. Raises Refused."""
        try:
            gate.pulled(named_so(image.name) if image else None)
        except Refused:
            if image is None or chain_id == image.layers[-1]:
                raise
            gate.pulled(None)
            return None
        return image

    def _may_start(self, key: str, parent: str, snapshotter: str) -> None:
        """Whether something may stand on an image here. Raises Refused."""
        if self._gate is None or not parent:
            return
        if unpacks(key):  # a layer, of which a client says nothing (ctr of 1.6)
            self._gate.pulled(None)
            return
        info = self._store.get(parent)
        if is_dockers_own(info) and info.parent:
            info = self._store.get(info.parent)
        self._gate.started(stands_on(info), layer_of(info, key, snapshotter))

    def _adopt(self, image: LazyImage, chain_id: str, key: str, parent: str, labels: Mapping[str, str]) -> None:
        if chain_id not in image.layers:
            return
        # The key is what containerd may ask for again when it was killed before it looked for the layer.
        name = f"{key} {chain_id} {secrets.token_hex(8)}"
        with self._store.change():
            above = self._store.get(parent) if parent else None
            self._store.add(name, above, "committed", labels, chain_id=chain_id, image=image.name)
        self._counts.count("layers", way="lazy")
        raise Refused("ALREADY_EXISTS", f"{image.name} serves the layer {chain_id}")

    def _begin(self, key: str, parent: str, labels: Mapping[str, str], *, read_only: bool) -> list[Mount]:
        below = self._below(parent)
        lowers = self._lowers(below)
        lasting = read_only or REF_LABEL not in labels  # a layer that is being unpacked is begun anew after a power cut
        with self._store.change(lasting=lasting), local_errors(self._at):
            info = self._store.add(key, below[0] if below else None, "view" if read_only else "active", labels)
            self._make(f"{self._at}/{info.id}", with_work=bool(lowers) and not read_only)
            _own(self._files(info), lowers, labels)
        return self._mounts(info, lowers)

    def _make(self, folder: str, *, with_work: bool) -> None:
        if with_work and self._spares.take(folder):
            return
        try:
            make(folder, with_work=with_work)
        except FileExistsError:  # of one that was not kept, whose number is free again
            self._delete(folder)
            make(folder, with_work=with_work)

    def _below(self, parent: str) -> Sequence[Info]:
        return self._store.chain(parent) if parent else ()

    def _lowers(self, below: Sequence[Info]) -> list[str]:
        """Folders to be seen through a snapshot's own, topmost first. An image's tree has all that is below it."""
        return [str(self._serving(info).mount(info.chain_id)) if info.image else self._files(info) for info in below]

    def _serving(self, info: Info) -> LazyImage:
        image = self._find(info.labels, info.chain_id)
        if image is None:
            raise Unavailable(
                f"the layer {info.chain_id} was served before it was fetched, and cannot be now",
                where=info.image,
                do="Remove the image, and pull it again",
            )
        return image

    def _mounts(self, info: Info, lowers: Sequence[str]) -> list[Mount]:
        ids = [("uidmap", UIDS_LABEL), ("gidmap", GIDS_LABEL)]
        options = [f"{name}={info.labels[label]}" for name, label in ids if label in info.labels]
        if not lowers:
            rights = "ro" if info.kind == "view" else "rw"
            return [Mount("bind", self._files(info), (*options, rights, "rbind"))]
        if info.kind == "view" and len(lowers) == 1:
            return [Mount("bind", lowers[0], (*options, "ro", "rbind"))]
        if options and any(not each.startswith(f"{self._at}/") for each in lowers):
            mappings = (info.labels.get(label, "") for _, label in ids)
            lowers = [str(each) for each in self._mapped.lowers(info.id, list(map(Path, lowers)), *mappings)]
            options = []
        if info.kind == "active":
            options += [f"workdir={self._at}/{info.id}/work", f"upperdir={self._files(info)}"]
        options.append(f"lowerdir={':'.join(lowers)}")
        return [Mount("overlay", "overlay", (*options, *self._options))]

    def _files(self, info: Info) -> str:
        return f"{self._at}/{info.id}/fs"

    @staticmethod
    def _delete(folder: str) -> None:
        """What cannot be deleted now is deleted by the next cleanup. By rm, for a container's folders may be deeper
        than Python's own way goes."""
        with suppress(OSError, TimeoutExpired):
            run_child(["rm", "-rf", "--", folder], timeout_s=DELETE_S)


def _of_layer(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Without those that would give a layer's files other owners. containerd takes a layer's labels from annotations in
    the image's manifest, so whoever made one image could give its owners to the layers of all images on the same base:
    a layer's name says what its tar holds, and nothing of what was made of that."""
    return {name: text for name, text in labels.items() if name not in (UIDS_LABEL, GIDS_LABEL)}


def _own(files: str, lowers: Sequence[str], labels: Mapping[str, str]) -> None:
    """Give an upper folder, which is what a container sees as its root, the rights of the root below it. In a user
    namespace its owner is whom the container sees as that owner."""
    mode, owner = 0o755, [0, 0]
    if lowers:
        below = os.stat(lowers[0])  # noqa: PTH116 - a pull asks for this with each layer, and waits
        mode, owner = below.st_mode & 0o7777, [below.st_uid, below.st_gid]
    if any(owner) or UIDS_LABEL in labels or GIDS_LABEL in labels:
        named = zip(owner, (UIDS_LABEL, GIDS_LABEL), strict=True)
        os.lchown(files, *(_mapped(number, labels.get(label, "")) for number, label in named))
    os.chmod(files, mode)  # noqa: PTH101


def _mapped(number: int, mapping: str) -> int:
    """The host's number of a container's. mapping: empty for the same. Raises Refused."""
    try:
        ranges = [tuple(map(int, each.split(":"))) for each in mapping.split(",")] if mapping else []
        for inside, outside, size in ranges:
            if min(inside, outside, size) < 0 or outside + size > _MOST_USERS:
                raise ValueError(mapping)
            if inside <= number < inside + size:
                return outside + number - inside
    except ValueError as error:
        raise Refused("INVALID_ARGUMENT", f"{mapping[:100]!r} is no mapping of users") from error
    return number


def _used(folder: str) -> tuple[int, int]:
    """Bytes on the disk and inodes, each once, the folder itself too."""
    seen: set[tuple[int, int]] = set()
    size = 0
    waiting: list[str | os.DirEntry[str]] = [folder]
    with local_errors(folder):
        while waiting:
            entry = waiting.pop()
            try:
                found = os.lstat(entry) if isinstance(entry, str) else entry.stat(follow_symlinks=False)
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    size += found.st_blocks * _BLOCK
                if isinstance(entry, str) or entry.is_dir(follow_symlinks=False):
                    with os.scandir(entry) as below:
                        waiting += below
            except FileNotFoundError:  # a container runs on meanwhile
                if entry is folder:
                    raise
    return size, len(seen)


def _options_of(folder: Path) -> tuple[str, ...]:
    """Of every overlay here: those of containerd's own. Raises LocalError where none can be made."""
    if os.geteuid() != 0:
        raise LocalError("snapshots are mounted by root", do="Start it as root, as containerd is")
    with local_errors(folder), TemporaryDirectory(dir=folder.parent, prefix="try-") as tried:
        names = ("lower", "upper", "work", "merged")
        lower, upper, work, merged = (Path(tried) / name for name in names)
        for each in (lower, upper, work, merged):
            each.mkdir()
        try:
            mount("overlay", merged, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
        except OSError as error:
            raise LocalError(
                f"an overlay cannot be mounted there: {error.strerror}",
                where=str(folder),
                do="Name a folder on ext4 or XFS, not on an overlay; in a container give it a volume and CAP_SYS_ADMIN",
            ) from error
        unmount(merged)
    return ("index=off",) if (_OVERLAY / "index").exists() else ()


__all__ = ["GIDS_LABEL", "UIDS_LABEL", "Mount", "Snapshots"]
