"""Repositories that hold no images anybody uses: what retention let go, and records of mirrors. Names, nothing else.

Room ``collect`` fills the first, until they are deleted for good, and ``mirror.record`` the second. Who lists what a
registry holds (plans, syncs, inventories) asks :func:`is_set_aside` and leaves both out.
"""

from __future__ import annotations

from registry_pipelines.registry.protocol import Place

QUARANTINE = "rp-quarantine"
"""The part of a repository's name that says so."""

QUARANTINES = (f"{QUARANTINE}/*", f"*/{QUARANTINE}/*")
"""Patterns of all such repositories; in patterns, * also matches a slash."""

MIRRORED = "rp-mirrored"
"""The same of records that say when a mirror was last whole: a retention rule would let them go as old images."""

_GOOGLE_HOSTS = ("-docker.pkg.dev", "gcr.io")


def quarantine_of(place: Place) -> Place:
    """Where the content of a repository is set aside: ``rp-quarantine/<repository>`` in the same registry.

    On Artifact Registry the name begins with project and repository (``gcr.io``: the project), which must be there
    already: there it is below them, ``project/repository/rp-quarantine/<image>``.
    """
    parts = place.repository.split("/")
    kept = _parts_that_exist(place.registry.name, parts)
    return Place(place.registry, "/".join([*parts[:kept], QUARANTINE, *parts[kept:]]))


def is_set_aside(repository: str) -> bool:
    """Whether a repository, by its name, holds what was set aside, or records."""
    return is_quarantine(repository) or MIRRORED in repository.split("/")


def is_quarantine(repository: str) -> bool:
    """Whether a repository, by its name, holds what was set aside."""
    return QUARANTINE in repository.split("/")


def origin_of(repository: str) -> str:
    """The repository whose content is set aside in this one."""
    parts = repository.split("/")
    at = parts.index(QUARANTINE)
    return "/".join([*parts[:at], *parts[at + 1 :]])


def _parts_that_exist(host: str, parts: list[str]) -> int:
    if not host.endswith(_GOOGLE_HOSTS):
        return 0
    return min(1 if host.endswith("gcr.io") else 2, len(parts) - 1)
