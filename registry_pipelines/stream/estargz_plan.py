"""What an eStargz layer leaves out, changes and puts first, found from the names of all entries.

A table of contents holds a name once, so of a repeated name the last entry stays. Hard links make that less simple: the
content of an entry that was replaced lives on under the links made to it before, and one of them becomes the file.
Names are kept as 12-byte hashes in flat arrays (17 bytes an entry), so that millions of entries fit into memory.
Source: stargz-snapshotter, docs/estargz.md, and its ``estargz.Build``, which loses such content (0.18.2).
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_HASH_BYTES = 12
"""Two of ten million names are alike by chance once in 10**15 layers."""
_PARTS = 256


class Link(NamedTuple):
    """A hard link: the entry's number, its name, and the name it links to, both below the root."""

    number: int
    name: bytes
    target: bytes


@dataclass(frozen=True)
class Plan:
    """What happens to entries, by their number in the source; what is not named here stays as it is."""

    entries: int = 0
    """How many the source has."""
    superseded: frozenset[int] = frozenset()
    """Left out: a later entry has the name."""
    renamed: dict[int, bytes] = field(default_factory=dict)
    """Written under the name of a link, because a later entry has its own."""
    moved: frozenset[int] = frozenset()
    """Hard links that are written as files in another place (see ``renamed``), so not in theirs."""
    links: dict[int, bytes] = field(default_factory=dict)
    """Hard links that get another target, which has the same content."""
    refused: dict[int, str] = field(default_factory=dict)
    """Entries that the format cannot carry, with the reason."""
    first: frozenset[int] = frozenset()
    """Written before everything else: prioritized files, with their folders and what they link to."""
    missing: frozenset[bytes] = frozenset()
    """Prioritized names that the layer does not have."""

    @property
    def in_order(self) -> bool:
        """Whether every entry stays as and where it is."""
        return not (self.superseded or self.moved or self.links or self.refused or self.first)


class Survey:
    """Takes all entries of a layer in their order, then makes the plan."""

    def __init__(self) -> None:
        self._hashes = [bytearray() for _ in range(_PARTS)]
        self._numbers = [array("I") for _ in range(_PARTS)]
        self._folders = bytearray()
        self._links: list[Link] = []
        self._parents: set[bytes] = set()
        self._parent = b""

    def add(self, name: bytes, *, folder: bool, target: bytes) -> None:
        """The next entry. name: below the root, without trailing slash. target: of a hard link, like name, or empty."""
        number, key = len(self._folders), _key(name)
        self._hashes[key[0]] += key
        self._numbers[key[0]].append(number)
        self._folders.append(folder)
        if target:
            self._links.append(Link(number, name, target))
        parent = name.rpartition(b"/")[0]
        if parent != self._parent:
            self._parent = parent
            while parent and (key := _key(parent)) not in self._parents:
                self._parents.add(key)
                parent = parent.rpartition(b"/")[0]

    def plan(self, prioritized: Sequence[bytes] = ()) -> Plan:
        """prioritized: names of entries below the root."""
        repeated = self._repeated()
        superseded = {number for numbers in repeated.values() for number in numbers[:-1]}
        refused = dict.fromkeys(self._not_folders(), "has entries below it, and is no folder")
        targets = self._targets(refused)
        renamed, moved, links = self._relink(targets, superseded)
        first, missing = self._first(prioritized, targets, renamed)
        return Plan(
            entries=len(self._folders),
            superseded=frozenset(superseded - renamed.keys()),
            renamed=renamed,
            moved=moved,
            links=links,
            refused=refused,
            first=first,
            missing=missing,
        )

    def _part(self, part: int) -> Iterator[tuple[bytes, int]]:
        hashes = bytes(self._hashes[part])
        keys = (hashes[start : start + _HASH_BYTES] for start in range(0, len(hashes), _HASH_BYTES))
        return zip(keys, self._numbers[part], strict=True)

    def _repeated(self) -> dict[bytes, list[int]]:
        """The entries of each name that more than one has, in order."""
        found: dict[bytes, list[int]] = {}
        for part in range(_PARTS):
            last = dict(self._part(part))
            if len(last) < len(self._numbers[part]):
                for key, number in self._part(part):
                    if number != last[key]:
                        found.setdefault(key, []).append(number)
                for key in found.keys() & last.keys():
                    found[key].append(last[key])
        return found

    def _find(self, keys: Iterable[bytes]) -> dict[bytes, list[int]]:
        """The entries of each of these names, in order."""
        wanted: dict[int, set[bytes]] = {}
        for key in keys:
            wanted.setdefault(key[0], set()).add(key)
        found: dict[bytes, list[int]] = {}
        for part, names in wanted.items():
            for key, number in self._part(part):
                if key in names:
                    found.setdefault(key, []).append(number)
        return found

    def _not_folders(self) -> Iterator[int]:
        """What stands at the end where other entries have a folder: nothing below it could be mounted."""
        for numbers in self._find(self._parents).values():
            if not self._folders[numbers[-1]]:
                yield numbers[-1]

    def _targets(self, refused: dict[int, str]) -> dict[int, int]:
        """For each hard link the entry that it links to, which may be a link itself."""
        found = self._find(_key(link.target) for link in self._links)
        targets: dict[int, int] = {}
        for link in self._links:
            numbers = found.get(_key(link.target), [])
            before = bisect_left(numbers, link.number)
            if not before:
                refused[link.number] = "is a hard link to a file that does not stand before it in the layer"
            elif self._folders[numbers[before - 1]]:
                refused[link.number] = "is a hard link to a folder"
            else:
                targets[link.number] = numbers[before - 1]
        return targets

    def _relink(
        self, targets: dict[int, int], superseded: set[int]
    ) -> tuple[dict[int, bytes], frozenset[int], dict[int, bytes]]:
        """New names of content whose own was taken, the links that are these names, and new targets of others."""
        roots: dict[int, int] = {}
        names: dict[int, bytes] = {}
        for link in self._links:
            if link.number in targets:
                target = targets[link.number]
                roots[link.number] = root = roots.get(target, target)
                if target == root:
                    names.setdefault(root, link.target)
        renamed: dict[int, bytes] = {}
        moved: set[int] = set()
        for link in self._links:
            root = roots.get(link.number, -1)
            if root in superseded and root not in renamed and link.number not in superseded:
                names[root] = renamed[root] = link.name
                moved.add(link.number)
        links: dict[int, bytes] = {}
        for link in self._links:
            target = targets.get(link.number, -1)
            # A link may go on naming another one that stays; what was replaced may not be named.
            if target in superseded and link.number not in superseded and link.number not in moved:
                links[link.number] = names[roots[link.number]]
        return renamed, frozenset(moved), links

    def _first(
        self, prioritized: Sequence[bytes], targets: dict[int, int], renamed: dict[int, bytes]
    ) -> tuple[frozenset[int], frozenset[bytes]]:
        names = dict.fromkeys(prioritized)
        found = self._find(_key(name) for name in names)
        missing = frozenset(name for name in names if _key(name) not in found)
        first: set[int] = set()
        folders: set[bytes] = set()
        linked = {link.number: link.target for link in self._links} if names else {}
        for name in names:
            number = found.get(_key(name), [-1])[-1]
            while number >= 0:
                folders.update(_folders_of(renamed.get(number, name)))
                first.add(number)
                name, number = linked.get(number, b""), targets.get(number, -1)
        first.update(numbers[-1] for numbers in self._find(_key(name) for name in folders).values())
        return frozenset(first), missing


def _folders_of(name: bytes) -> Iterator[bytes]:
    while name := name.rpartition(b"/")[0]:
        yield name


def _key(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=_HASH_BYTES).digest()
