"""The advisory set that workers who share a state use alike: one of them fetches or imports it, the others bring it.

It is a document in the form that ``advisories export`` writes, named by what it describes, and is checked whole when it
is brought, as an imported file is. Without a shared state nothing is done here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import msgspec

from registry_pipelines.chain.documents import documents_of
from registry_pipelines.config import Config
from registry_pipelines.errors import AdvisoriesMissing, LocalError, StateLocked
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.advisory_sets import AdvisorySet, current_set
from registry_pipelines.shared.documents import Documents

CURRENT = "shared.json"
"""Which set is in use."""
ENDING = ".set"
MOST_BYTES = 64 * 1024
ASKED_AGAIN_S = 10.0
"""A sweep judges hundreds of releases: between two of its questions which set is in use."""
WAIT_S = 600.0
"""For another process of this machine that changes the sets of its folder."""
PAUSE_S = 0.2

_asked: dict[str, float] = {}
_asking = threading.Lock()


class _Current(msgspec.Struct, frozen=True, kw_only=True):
    """digest: of the set's description. file: sha256 of the document that holds it."""

    digest: str
    file: str


def brought(config: Config) -> None:
    """Have the set here that workers use, before advisories are read. Raises LocalError, StateLocked (this machine
    changes its sets for long), and as an import (the document is damaged)."""
    if not config.shared.database or config.advisories.source is not None:
        return
    with _asking:
        if time.monotonic() - _asked.get(str(config.state), -ASKED_AGAIN_S) < ASKED_AGAIN_S:
            return
        _bring(config, documents_of(config).under("advisories"))
        _asked[str(config.state)] = time.monotonic()


@contextmanager
def renewed(config: Config | None) -> Iterator[None]:
    """Around a change of the set in use: on top of that of all workers, by one of them at a time, for all of them.
    Raises StateLocked, LocalError."""
    if config is None or not config.shared.database:
        yield
        return
    documents = documents_of(config).under("advisories")
    with documents.held("lock", "another worker updates or imports advisories"):
        with _asking:
            _bring(config, documents)
        yield
        publish(config)


def publish(config: Config) -> bool:
    """Have all workers use the set that is in use here; whether they used another. Raises LocalError,
    AdvisoriesMissing."""
    chosen, documents = current_set(config.state), documents_of(config).under("advisories")
    before = _current(documents)
    if chosen is None or (before and before.digest == str(chosen.description.digest)):
        return False
    from registry_pipelines.scan.set_archives import write_set

    name = f"{chosen.description.digest.hex}{ENDING}"
    with documents.scratch() as folder:
        digest = write_set(chosen, folder / name)
        documents.take(name, folder / name)
    told = _Current(digest=str(chosen.description.digest), file=str(digest))
    documents.write(CURRENT, msgspec.json.encode(told))
    kept = {name, f"{Digest.parse(before.digest).hex}{ENDING}" if before else ""}
    for each in documents.entries():
        if each.name.endswith(ENDING) and each.name not in kept:
            documents.delete(each.name)
    return True


def _current(documents: Documents) -> _Current | None:
    found = documents.read(CURRENT, most=MOST_BYTES)
    if found is None:
        return None
    try:
        return msgspec.json.decode(found.content, type=ready(_Current))
    except msgspec.MsgspecError as error:
        do = "Run `registry-pipelines advisories update`, or import a set"
        raise LocalError(
            f"which advisories workers use cannot be read: {error}", where=documents.where, do=do
        ) from error


def _bring(config: Config, documents: Documents) -> None:
    wanted = _current(documents)
    if wanted is None or _is_here(config, wanted):
        return
    from registry_pipelines.scan.importing import take
    from registry_pipelines.scan.set_archives import reader

    until = time.monotonic() + WAIT_S
    while not _is_here(config, wanted):
        path = documents.local(f"{Digest.parse(wanted.digest).hex}{ENDING}")
        if path is None:
            wanted = _current(documents) or wanted  # it was replaced in between
            if time.monotonic() > until:
                raise AdvisoriesMissing("the set that workers use is not kept", where=documents.where, do="Update it")
            time.sleep(PAUSE_S)
            continue
        now = datetime.now(UTC)
        try:
            take(config.state, reader(path, now=now, digest=Digest.parse(wanted.file)), now=now)
            return
        except StateLocked:
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE_S)


def _is_here(config: Config, wanted: _Current) -> bool:
    chosen: AdvisorySet | None = None
    with suppress(AdvisoriesMissing):  # a damaged one is replaced
        chosen = current_set(config.state)
    return chosen is not None and str(chosen.description.digest) == wanted.digest


__all__ = ["brought", "publish", "renewed"]
