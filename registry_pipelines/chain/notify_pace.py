"""How many notifications go out in an hour. The times stand in the state folder: each run is a process of its own, and
200 runs that fail for one reason are to be told, not to be a flood."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from time import time

import msgspec

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors

FILE = "notify.json"
HOUR_S = 3600
MAX_BYTES = 1 << 20
"""Of the file; 10,000 times take 200 KB."""


class Sent(msgspec.Struct):
    """When notifications went out within the last hour, in seconds since 1970, and how many did not since the last."""

    times: list[float] = []
    left_out: int = 0


def left_out(state: Path, most: int) -> int | None:
    """How many were left out since the last that went; None where this one is left out, too. A folder that cannot be
    written holds nobody's notification up."""
    with suppress(LocalError), local_errors(state):
        state.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(state / FILE, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held for microseconds
            sent = _read(file.read(MAX_BYTES))
            now = time()
            sent.times = [each for each in sent.times if now - HOUR_S < each <= now]
            goes, before = len(sent.times) < most, sent.left_out
            sent.left_out = 0 if goes else before + 1
            sent.times += [now] if goes else []
            file.seek(0)
            file.write(msgspec.json.encode(sent))
            file.truncate()
            return before if goes else None
    return 0


def _read(content: bytes) -> Sent:
    """What the file says; nothing where it is new, or whoever wrote it was killed."""
    try:
        return msgspec.json.decode(content, type=ready(Sent))
    except msgspec.DecodeError:
        return Sent()
