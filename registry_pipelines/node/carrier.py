"""By what the images of a node are mounted (``stream.lazy.carriers``), as far as it is known when an agent starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.stream.lazy.carriers import Kind


def usable_carrier(wanted: Kind, state: Path, log: Callable[[str], object]) -> Kind:
    """What each mount is to be asked for. With ``auto`` it is FUSE where fanotify does not work here, and why is said.
    Also with ``fanotify`` an image that EROFS cannot hold is mounted by FUSE: its pull was answered by then.

    state: the folder with what this node keeps. Raises LocalError: it is to be ``fanotify``, and does not work.
    """
    if wanted == "fuse":
        return wanted
    from registry_pipelines.stream.lazy.fanotify import self_test

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


__all__ = ["usable_carrier"]
