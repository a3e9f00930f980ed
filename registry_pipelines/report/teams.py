"""Whose a repository is."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from registry_pipelines.registry.set_aside import is_quarantine, origin_of


def teams_of(repository: str, teams: Mapping[str, Sequence[str]]) -> list[str]:
    """Teams with a pattern that a repository matches; it is the first one's. What retention set aside is of whom it
    was."""
    repository = origin_of(repository) if is_quarantine(repository) else repository
    return [name for name, own in teams.items() if any(fnmatch.fnmatchcase(repository, each) for each in own)]
