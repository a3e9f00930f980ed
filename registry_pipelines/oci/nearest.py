"""Tags that were most likely meant where one is not there: for errors, which then say what to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from registry_pipelines.oci.tags import order_key, read_version

MOST = 3
"""Tags that a message names."""


def nearest_tags(tag: str, known: Iterable[str], *, most: int = MOST) -> list[str]:
    """The tags nearest to one that is not there, the best first; empty where none is like it.

    By version: those of the same variant (``-slim``) and with the most numbers in common come first, the next version
    before the one below it. By spelling: what is typed almost so. A gone ``3.12.3-slim`` finds ``3.12.4-slim``.
    """
    names = list(dict.fromkeys(known))
    by_version, spelled = _by_version(tag, names), difflib.get_close_matches(tag, names, n=most)
    wanted = read_version(tag)
    versions = (read_version(name) for name in names)
    mistyped = wanted is None or wanted.variant not in {version.variant for version in versions if version}
    found = [*spelled, *by_version] if mistyped else [*by_version, *spelled]
    return list(dict.fromkeys(found))[:most]


def nearest_text(tag: str, known: Iterable[str]) -> str:
    """``the nearest are 3.12.4-slim, 3.12.2-slim``; empty where there is none."""
    near = nearest_tags(tag, known)
    if not near:
        return ""
    return f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}"


def _by_version(tag: str, names: list[str]) -> list[str]:
    wanted = read_version(tag)
    if wanted is None:
        return []
    key = order_key(tag)
    rows: list[tuple[tuple[bool, int, bool, int], str]] = []
    ordered = sorted(names, key=order_key)
    place = sum(order_key(name) < key for name in ordered)
    for position, name in enumerate(ordered):
        version = read_version(name)
        if version is None or version.date != wanted.date:
            continue
        common = next(
            (at for at, pair in enumerate(zip(version.numbers, wanted.numbers, strict=False)) if pair[0] != pair[1]),
            min(len(version.numbers), len(wanted.numbers)),
        )
        above = position >= place
        distance = position - place if above else place - 1 - position
        rows.append(((version.variant != wanted.variant, -common, not above, distance), name))
    return [name for (_, common, _, _), name in sorted(rows) if common or len(wanted.numbers) == 1]
