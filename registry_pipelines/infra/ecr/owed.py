"""Backfills that have to be done because a rule of replication changed, kept until they have begun.

ECR's list of backfills does not say which rules they followed. Between a changed rule and its backfill this process
may be killed; without a note the next plan would take an older backfill, which ended well, for that of the new rule.
"""

from __future__ import annotations

import json

from registry_pipelines.errors import LocalError
from registry_pipelines.shared.documents import Documents

FILE = "owed-backfills.json"


class Owed:
    """The notes of one registry, in its folder of the state. One process applies a registry at a time."""

    def __init__(self, folder: Documents) -> None:
        self._folder = folder

    def read(self) -> frozenset[str]:
        """The destinations, as ``account/region``. Raises LocalError."""
        found = self._folder.read(FILE)
        try:
            return frozenset(map(str, json.loads(found.content))) if found else frozenset()
        except (ValueError, TypeError) as error:
            do = "Delete it, and run a backfill of what changed last"
            raise LocalError(
                "the note of backfills that are owed cannot be read", where=f"{self._folder.where}/{FILE}", do=do
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
        self._folder.write(FILE, json.dumps(sorted(destinations)).encode())
