"""Where a pull works: a hidden folder beside the result, on its disk, of which a pull that was killed leaves what the
next one uses.

``layers`` has a folder for each layer; ``whole`` in it says that both digests were right. ``root`` is the result before
it has its name. After a crash of the machine nothing of it is believed, for its bytes may never have reached the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import InputError, LocalError, StateLocked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.store import record_key
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.lazy_layer import boot_id

_ROOT = "root"

_FORMAT = 1
"""Raised when folders hold something else than before."""


class Workplace:
    """The folder while a pull works in it, alone; a context manager. target: where the result goes, a folder that is
    empty or not there.

    Raises InputError: it is something else; StateLocked: another pull works there; LocalError.
    """

    def __init__(self, target: Path) -> None:
        self.target = target.resolve()
        self._lock = -1
        self._check_target()  # the top directory has no name, and is not empty
        self.path = self.target.with_name(f".{self.target.name}.pull")

    def _check_target(self) -> None:
        target = self.target
        with local_errors(target):
            if target.is_dir() and any(target.iterdir()):
                raise InputError(
                    "the folder is not empty, and a pull would mix with what is there",
                    where=str(target),
                    do="Name a folder that is empty or not there",
                )
            if target.exists() and not target.is_dir():
                raise InputError("it is no folder", where=str(target), do="Name a folder that is empty or not there")
            if target.is_mount():
                raise InputError(
                    "a disk is mounted there, and the result cannot take its name",
                    where=str(target),
                    do=f"Name a folder in it, as {target / 'root'}",
                )

    def __enter__(self) -> Workplace:
        make_own(self.path)
        with local_errors(self.path):
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise StateLocked("another pull works there", where=str(self.path), do="Wait for it") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def begin(self, image: Digest) -> None:
        """What is there is for this image from now on: what belongs to no other pull stays."""
        began = f"{_FORMAT} {boot_id()} {image}"
        building, about = self.path / "building", self.path / "image"
        with local_errors(self.path):
            known = about.read_text() if about.exists() else ""
            # A result that was begun has taken files out of its layers, so they serve no other image.
            keeps = known == began or (known.rpartition(" ")[0] == began.rpartition(" ")[0] and not building.exists())
            if not keeps:
                for each in self.path.iterdir():
                    if each.name != "lock":
                        _remove(each)
            about.write_text(began)

    def layer(self, layer: Descriptor, diff_id: Digest) -> Path:
        """The folder of a layer."""
        return self.path / "layers" / record_key(diff_id, layer.digest).hex

    def is_whole(self, folder: Path, contents: str) -> bool:
        """Whether a layer is there. contents: which of its files have to be."""
        with suppress(OSError):
            return (folder / "whole").read_text() in ("all", contents)
        return False

    def fresh(self, folder: Path) -> None:
        """An empty folder for a layer."""
        with local_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700, parents=True)

    def keep(self, folder: Path, contents: str) -> None:
        """A layer is there, and was verified."""
        with local_errors(folder):
            made = folder / "whole.new"
            made.write_text(contents)
            made.rename(folder / "whole")

    def build(self) -> int:
        """A descriptor of the folder in which the result is made; from now on layers lose their files to it."""
        root = self.path / _ROOT
        with local_errors(root):
            (self.path / "building").touch()
            root.mkdir(mode=0o700, exist_ok=True)
            return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def finish(self) -> None:
        """Give the result its name. Raises LocalError: something has come to stand there."""
        try:
            (self.path / _ROOT).rename(self.target)
        except OSError as error:
            raise LocalError(
                f"the result cannot have its name: {error.strerror}",
                where=str(self.target),
                do=f"Make room there and run it again; until then it is {self.path / _ROOT}",
            ) from error
        self.discard()

    def discard(self) -> None:
        """Delete all that is there."""
        shutil.rmtree(self.path, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


__all__ = ["Workplace"]
