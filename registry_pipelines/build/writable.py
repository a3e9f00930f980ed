"""Folders that the image's user may write into. An image's files are root's, and so is a volume that is put where the
image has no folder: the engine gives a new volume the owner and rights of the folder that it stands for.
"""

from __future__ import annotations

import re

from registry_pipelines.build.builder import INTERPRETER_BASES, BuildSpec
from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.interpreter import USER_ID
from registry_pipelines.errors import InputError

MODE = 0o750
"""Other users of the container have no business there; its group may read."""

_PATH = re.compile(r"/[^/\0]+(/[^/\0]+)*")


def writable_entries(spec: BuildSpec) -> list[LayerEntry]:
    """The folders, each once. Raises InputError: no absolute path, or a user without a number, whose folders nobody
    could tell."""
    if not spec.writable:
        return []
    owner = _owner(spec)
    entries = {}
    for path in spec.writable:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise InputError(f"writable folder {path!r} is not an absolute path", where=spec.name)
        entries[path] = LayerEntry(path.lstrip("/"), MODE, folder=True, owner=owner)
    return list(entries.values())


def _owner(spec: BuildSpec) -> int:
    number = spec.user.partition(":")[0] or (str(USER_ID) if spec.base in INTERPRETER_BASES else "")
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise InputError(
            f"whose `writable` folders are is not known: user {spec.user!r}",
            where=spec.name,
            do="Write `user` as a number",
        )
    return int(number)
