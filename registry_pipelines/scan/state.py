"""Files of the scan room in the state folder: written whole or not at all, with errors of ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import disk_errors


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; on success it takes its place, on any error it is removed.

    Readers see the old file or the new one. Raises DiskFull, LocalError (no right to write there).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise LocalError(
            f"the state folder cannot be written: {error.strerror or error}",
            where=str(path.parent),
            do="Make the folder writable, or name another in the configuration (state)",
        ) from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        # The folder itself is the problem, and that error is already on its way.
        return
