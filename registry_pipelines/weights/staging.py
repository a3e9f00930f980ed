"""Where files of weights lie in a folder until they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import held_alone
from registry_pipelines.weights.paths import STAGING_FOLDER


@contextmanager
def staged_in(folder: Path) -> Iterator[Path]:
    """Where files lie until they are whole, as the only process that brings some into this folder; what one that was
    killed left is in it. Raises InputError, StateLocked, LocalError."""
    staging = folder / STAGING_FOLDER
    if staging.is_symlink():
        raise InputError("this is a symbolic link, and a folder of ours is wanted", where=str(staging), do="Remove it")
    with held_alone(staging / "lock", "another process brings weights into this folder"):
        yield staging


__all__ = ["staged_in"]
