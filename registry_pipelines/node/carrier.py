"""By what the images of a node are mounted (``stream.lazy.carriers``), as far as it is known when an agent starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from registry_pipelines.errors import LocalError, RegistryPipelinesError
from registry_pipelines.stream.lazy.carriers import Kind
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse


def usable_carrier(wanted: Kind, state: Path, log: Callable[[str], object]) -> Kind:
    """What each mount is to be asked for. With ``auto`` it is FUSE where fanotify does not work here, and why is said.
    Also with ``fanotify`` an image that EROFS cannot hold is mounted by FUSE: its pull was answered by then.

    state: the folder with what this node keeps. Raises LocalError: it is to be ``fanotify``, and does not work.
    """
    if wanted == "fuse":
        return wanted
    from registry_pipelines.stream.lazy.watch_proof import self_test

    try:
        self_test(state / "lazy" / "backing")
    except LocalError as error:
        if wanted == "fanotify":
            raise LocalError(
                f"images cannot be mounted by fanotify: {error.what}",
                where=error.where,
                do="Leave the carrier out, or say `auto`; `registry-pipelines node probe` tells what works here",
            ) from error
        log(f"images are mounted by FUSE: {error.what}")
        return "fuse"
    return "auto"


def fault_of(carrier: Kind, state: Path) -> str:
    """Why nothing can be mounted by FUSE here, tried; empty where it can, or where :func:`usable_carrier` found that
    fanotify works. Raises LocalError: the state's folder cannot be used."""
    if carrier != "fuse":
        return ""
    make_own(state / "lazy")
    with TemporaryDirectory(dir=state / "lazy", prefix="try-") as folder:
        try:
            device = mount_fuse(Path(folder), "try")
        except RegistryPipelinesError as error:
            return str(error)
        os.close(device)
        end_mount(Path(folder))
    return ""


__all__ = ["fault_of", "usable_carrier"]
