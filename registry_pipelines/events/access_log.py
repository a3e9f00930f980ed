"""The access log of the embedded registry (``registry.embedded.access``), as events of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from registry_pipelines.events.line_files import new_lines
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors
from registry_pipelines.registry.embedded.access import Access, files_of
from registry_pipelines.report.audit.model import Action, Event, Reading, plain, utc

_ACTIONS: dict[tuple[str, str], Action] = {
    ("PUT", "manifests"): "push",
    ("GET", "manifests"): "pull",
    ("DELETE", "manifests"): "delete",
    ("GET", "blobs"): "layer",
    ("DELETE", "blobs"): "delete",
}


def event_of_line(raw: bytes, reading: Reading, *, source: str, registry: str) -> Event | None:
    """What one line tells; None for what is of no concern, or cannot be read, which is said in ``reading``."""
    try:
        line: Access = msgspec.json.decode(raw, type=ready(Access))
        time = utc(line.time)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reading.cannot(f"a line of the access log cannot be read: {plain(str(error))[:200]}")
        return None
    if line.lost > 0:
        reading.cannot("the registry could not write lines of its access log: what they told is not known", line.lost)
    action = _ACTIONS.get((line.method, line.what))
    if action is None or not line.repository or line.status == 401:  # asked to log in
        reading.other += 1
        return None
    return Event(
        time=time,
        who=plain(line.who) or "anonymous",
        action=action,
        registry=registry,
        repository=plain(line.repository),
        digest=plain(line.digest),
        tag=plain(line.tag),
        source=source,
        id=plain(line.id),
        operation=f"{line.method} {line.what}",
        refused=f"HTTP {line.status}" if line.status >= 400 else "",
        address=plain(line.address),
        agent=plain(line.agent)[:200],
        size=line.bytes,
    )


class AccessLog:
    """The files of one registry's log. path: the one that grows; those put aside lie beside it."""

    def __init__(self, name: str, registry: str, path: Path) -> None:
        self.where, self._name, self._registry, self._path = str(path), name, registry, path

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        with local_errors(self._path.parent):
            files = files_of(self._path)
        if self._path not in files:
            reading.note(f"{self._path} is not there: has the registry been served since it is in the configuration?")
        for line in new_lines(files, reading):
            event = event_of_line(line, reading, source=self._name, registry=self._registry)
            if event is not None and event.time >= since:
                yield event


__all__ = ["AccessLog", "event_of_line"]
