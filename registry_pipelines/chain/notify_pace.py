"""How many notifications go out in an hour, of all workers that share a state together. The times stand in the state:
each run is a process of its own, and 200 runs that fail for one reason are to be told, not to be a flood."""

from __future__ import annotations

from contextlib import suppress
from time import time

import msgspec

from registry_pipelines.chain.documents import documents_of
from registry_pipelines.config.model import Config
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.shared.documents import Documents, FolderDocuments, change

FOLDER, FILE = "notify", "sent.json"
HOUR_S = 3600
AHEAD_S = 60
"""A time that is further ahead than clocks of workers differ is none."""
MAX_BYTES = 1 << 20
"""Of the document; 10,000 times take 200 KB."""


class Sent(msgspec.Struct):
    """When notifications went out within the last hour, in seconds since 1970, and how many did not since the last."""

    times: list[float] = []
    left_out: int = 0


def left_out(config: Config) -> int | None:
    """How many were left out since the last that went; None where this one is left out, too. While the database that
    workers share does not answer each machine counts for itself, and what can be written nowhere holds nobody's
    notification up."""
    most = config.notify.most_per_hour
    with suppress(RegistryPipelinesError):
        return _counted(documents_of(config), most)
    with suppress(RegistryPipelinesError):
        return _counted(FolderDocuments(config.state), most)
    return 0


def take_back(config: Config, left_out: int) -> None:
    """The last one reached nobody: it is none of this hour's, or tries in vain would use the hour up, and what is left
    out counts as told. left_out: what it would have said."""
    with suppress(RegistryPipelinesError):
        _taken_back(documents_of(config), left_out)
        return
    with suppress(RegistryPipelinesError):
        _taken_back(FolderDocuments(config.state), left_out)


def _taken_back(documents: Documents, left_out: int) -> None:
    def act(content: bytes | None) -> bytes:
        sent = _read(content or b"")
        return msgspec.json.encode(Sent(times=sent.times[:-1], left_out=sent.left_out + left_out))

    change(documents.under(FOLDER), FILE, act, most=MAX_BYTES)


def _counted(documents: Documents, most: int) -> int | None:
    before: int | None = None

    def act(content: bytes | None) -> bytes:
        nonlocal before
        sent, now = _read(content or b""), time()
        sent.times = [each for each in sent.times if now - HOUR_S < each <= now + AHEAD_S]
        goes = len(sent.times) < most
        before = sent.left_out if goes else None
        sent.left_out = 0 if goes else sent.left_out + 1
        sent.times += [now] if goes else []
        return msgspec.json.encode(sent)

    change(documents.under(FOLDER), FILE, act, most=MAX_BYTES)
    return before


def _read(content: bytes) -> Sent:
    """What it says; nothing where it is new, or somebody else wrote it."""
    try:
        return msgspec.json.decode(content, type=ready(Sent))
    except msgspec.DecodeError:
        return Sent()
