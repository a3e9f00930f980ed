"""Lower folders of containers in user namespaces, shown with the owners that those have outside.

containerd can do that by itself, by the options ``uidmap`` and ``gidmap`` of an overlay, but shows the folder above all
lower ones so, without what is mounted below it (2.1, ``doPrepareIDMappedOverlay``): of an image that is served the
container would see an empty folder. So a container on such an image gets its lower folders from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy.mounting import unmount
from registry_pipelines.stream.lazy.owners import mapped_tree, put, user_namespace


class Mapped:
    """Such mounts, below a folder of its own: ``NUMBER/PLACE`` for a snapshot's number and a lower folder's place. They
    are read-only, and stay until :meth:`end`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lowers(self, number: int, lowers: Sequence[Path], uids: str, gids: str) -> list[Path]:
        """The same folders with other owners, for a snapshot; mounted where they are not. uids, gids: as containerd
        writes them, ``container:host:size`` with commas. Raises LocalError where the kernel cannot."""
        found = [self._folder / str(number) / str(place) for place in range(len(lowers))]
        wanted = [(lower, where) for lower, where in zip(lowers, found, strict=True) if not _shows(where, lower)]
        if not wanted:
            return found
        with local_errors(self._folder):
            for _, where in wanted:
                where.mkdir(mode=0o711, parents=True, exist_ok=True)
                _clear(where)
        try:
            with user_namespace(_lines(uids), _lines(gids)) as namespace:
                for lower, where in wanted:
                    with mapped_tree(lower, namespace) as tree:
                        put(tree, where)
        except OSError as error:
            raise LocalError(
                f"what is served before it is fetched cannot be shown to users of a namespace: {error.strerror}",
                where=str(wanted[0][0]),
                do="That needs Linux 6.12; `registry-pipelines node probe` tries it. Start the pod without a user "
                "namespace, or on a node with another snapshotter",
            ) from error
        return found

    def end(self, number: int) -> None:
        """Take a snapshot's away; what still uses them goes on."""
        for where in self._of(number):
            _clear(where)
            with suppress(OSError):
                where.rmdir()
        with suppress(OSError):
            (self._folder / str(number)).rmdir()

    def keep(self, numbers: Iterable[int]) -> None:
        """Take away those of all other snapshots."""
        known = {str(number) for number in numbers}
        with suppress(FileNotFoundError):
            for each in self._folder.iterdir():
                if each.name not in known and each.name.isdigit():
                    self.end(int(each.name))

    def _of(self, number: int) -> list[Path]:
        with suppress(FileNotFoundError):
            return list((self._folder / str(number)).iterdir())
        return []


def _shows(where: Path, lower: Path) -> bool:
    """Whether a mount shows the folder that is meant: an image may have been mounted anew since."""
    try:
        mine, theirs = where.lstat(), lower.lstat()
        return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)
    except OSError:
        return False


def _clear(where: Path) -> None:
    """Until nothing is mounted there; os.path.ismount sees no mount of the same disk."""
    with suppress(OSError):
        while True:
            unmount(where, detach=True)


def _lines(mapping: str) -> str:
    return "".join(f"{' '.join(each.split(':'))}\n" for each in mapping.split(","))


__all__ = ["Mapped"]
