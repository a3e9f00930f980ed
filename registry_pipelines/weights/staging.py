"""Where files of weights lie in a folder until they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import held_alone, local_errors, write_file
from registry_pipelines.weights.paths import STAGING_FOLDER

LOCK = "lock"
"""In the staging folder; held by who brings files."""


@contextmanager
def staged_in(folder: Path) -> Iterator[Path]:
    """Where files lie until they are whole, as the only process that brings some into this folder; what one that was
    killed left is in it. Raises InputError, StateLocked, LocalError."""
    staging = folder / STAGING_FOLDER
    if staging.is_symlink():
        raise InputError("this is a symbolic link, and a folder of ours is wanted", where=str(staging), do="Remove it")
    with held_alone(staging / LOCK, "another process brings weights into this folder"):
        try:
            with local_errors(staging):
                for path in staging.glob(".*"):  # of a small file that a kill left half written
                    path.unlink()
            yield staging
        finally:
            with suppress(OSError):  # nothing came, or all is in its place: no trace of us
                if [path.name for path in staging.iterdir()] == [LOCK]:
                    shutil.rmtree(staging)


def put_beside(folder: Path, name: str, content: bytes) -> None:
    """Replace a small file beside the files of a folder, at once or not at all. What a kill leaves of it lies where
    nobody takes it for a file of the model. Raises as :func:`staged_in`, and DiskFull."""
    with staged_in(folder) as staging:
        write_staged(staging, folder / name, content)


def write_staged(staging: Path, target: Path, content: bytes) -> None:
    """As :func:`put_beside`, by who is the only process there already."""
    with local_errors(target):
        write_file(target, content, temporary_folder=staging)


__all__ = ["LOCK", "put_beside", "staged_in", "write_staged"]
