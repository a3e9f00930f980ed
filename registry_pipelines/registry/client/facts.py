"""What a registry does, as answers showed, remembered per repository and dated."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from msgspec.structs import replace

from registry_pipelines.registry.protocol import Capabilities


class Facts:
    """Remembers findings; safe for many threads. A finding is replaced by a newer one, None changes nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Capabilities] = {}
        self.head_trusted = False
        """Whether this registry's HEAD was seen to tell what is there from what is not."""

    def of(self, repository: str) -> Capabilities:
        """What is known so far."""
        with self._lock:
            return self._known.get(repository, Capabilities())

    def learn(
        self,
        repository: str,
        *,
        referrers_api: bool | None = None,
        mount: bool | None = None,
        chunked_upload: bool | None = None,
        range_reads: bool | None = None,
        delete: bool | None = None,
        note: str = "",
    ) -> None:
        """Remember findings, with the time."""
        findings = {
            "referrers_api": referrers_api,
            "mount": mount,
            "chunked_upload": chunked_upload,
            "range_reads": range_reads,
            "delete": delete,
        }
        with self._lock:
            before = self._known.get(repository, Capabilities())
            changes = {
                name: value for name, value in findings.items() if value is not None and getattr(before, name) != value
            }
            notes = (*before.notes, note) if note and note not in before.notes else before.notes
            if changes or notes != before.notes:
                now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
                self._known[repository] = replace(before, **changes, notes=notes, probed_at=now)
