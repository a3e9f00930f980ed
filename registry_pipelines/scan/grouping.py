"""Which advisory records of one package mean the same vulnerability (OSV schema 1.7, "aliases", "upstream").

Aliases are one vulnerability under several names. ``upstream`` points one way: a distribution's record (``DSA-...``,
``USN-...``) names the vulnerabilities it is about, often several. So a record with several upstreams belongs to a
finding of each of them, and glues none together: an exception for one CVE must not excuse another that was fixed by the
same notice. ``related`` is no relation of identity and is never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry_pipelines.scan.osv import Record
from registry_pipelines.scan.report import is_notice

_COPY = re.compile(r"[A-Z]+-(CVE-\d{4}-\d{4,})\Z")
"""A distribution's own record of a CVE is named after it (``DEBIAN-CVE-2026-1111``, ``UBUNTU-CVE-...``)."""


@dataclass(frozen=True)
class Vulnerability:
    """One vulnerability of a package."""

    records: tuple[Record, ...]
    """Everything that speaks of it, by id."""
    ids: tuple[str, ...]
    """Its names, and the ids of the records, sorted."""


def group(records: Sequence[Record]) -> list[Vulnerability]:
    """Records of **one package** as vulnerabilities, sorted; the result does not depend on the order of ``records``.

    Aliases are symmetric and transitive within a package; across packages they are not (one CVE, two projects).
    """
    names = _Names()
    stated = [(record, _own_names(record), _upstreams(record)) for record in records]
    for record, own, upstreams in stated:
        for name in (record.id, *own, *upstreams):
            names.add(name)
        for name in own:
            names.join(record.id, name)
    _join_single(stated, names)
    members: dict[str, dict[int, Record]] = {}
    ids: dict[str, set[str]] = {}
    for record, own, upstreams in stated:
        for root in {names.find(name) for name in (*upstreams, *(own if upstreams else [record.id]))}:
            members.setdefault(root, {})[id(record)] = record
            known = ids.setdefault(root, set())
            known.add(record.id)
            known.update(name for name in (*own, *upstreams) if names.find(name) == root)
    vulnerabilities = [
        Vulnerability(
            tuple(sorted(members[root].values(), key=lambda record: (record.id, record.modified))),
            tuple(sorted(ids[root])),
        )
        for root in members
    ]
    return sorted(vulnerabilities, key=lambda vulnerability: (vulnerability.records[0].id, vulnerability.ids))


def _own_names(record: Record) -> list[str]:
    """Other names of what the record itself is about."""
    copy = _COPY.match(record.id)
    return [*([copy[1]] if copy else []), *([] if is_notice(record.id) else record.aliases or ())]


def _upstreams(record: Record) -> list[str]:
    return [*(record.upstream or ()), *((record.aliases or ()) if is_notice(record.id) else ())]


def _join_single(stated: Iterable[tuple[Record, list[str], list[str]]], names: _Names) -> None:
    """A record without a name of its own whose upstreams are all one vulnerability is that vulnerability; until nothing
    changes. With one (a GHSA of CVE-B, downstream of CVE-A) it is another one that belongs to both findings."""
    waiting: dict[str, set[str]] = {}
    named: set[str] = set()
    for record, own, upstreams in stated:  # two feeds may hold two editions of one record
        if upstreams:
            waiting.setdefault(record.id, set()).update(upstreams)
        if own:
            named.add(record.id)
    for name in named:
        waiting.pop(name, None)
    changed = True
    while changed:
        changed = False
        for name, causes in waiting.items():
            roots = {names.find(cause) for cause in causes}
            if len(roots) == 1 and names.find(name) not in roots:
                names.join(name, roots.pop())
                changed = True


class _Names:
    """Names that mean the same (union-find)."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def add(self, name: str) -> None:
        self._leader.setdefault(name, name)
        copy = _COPY.match(name)
        if copy:
            self._leader.setdefault(copy[1], copy[1])
            self.join(name, copy[1])

    def find(self, name: str) -> str:
        leader = self._leader
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    def join(self, one: str, other: str) -> None:
        self._leader[self.find(other)] = self.find(one)
