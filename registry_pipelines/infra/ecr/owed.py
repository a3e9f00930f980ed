"""Backfills that have to be done because a rule of replication changed, kept until they have begun.

ECR's list of backfills does not say which rules they followed. Between a changed rule and its backfill this process
may be killed; without a note the next plan would take an older backfill, which ended well, for that of the new rule.
"""

from __future__ import annotations

import json
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors, write_file

FILE = "owed-backfills.json"


class Owed:
    """The notes of one registry, below the state folder. One process applies a registry at a time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def read(self) -> frozenset[str]:
        """The destinations, as ``account/region``. Raises LocalError."""
        try:
            return frozenset(map(str, json.loads(self._file.read_text())))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError) as error:
            do = "Delete it, and run a backfill of what changed last"
            raise LocalError(
                "the note of backfills that are owed cannot be read", where=str(self._file), do=do
            ) from error

    def add(self, destinations: frozenset[str]) -> None:
        """Before their rules change."""
        self._write(self.read() | destinations)

    def drop(self, destination: str) -> None:
        """When its backfill has begun."""
        owed = self.read()
        if destination in owed:
            self._write(owed - {destination})

    def _write(self, destinations: frozenset[str]) -> None:
        with local_errors(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._file, json.dumps(sorted(destinations)).encode())
