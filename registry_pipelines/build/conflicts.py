"""Paths that two wheels bring: found before anything is made, settled only by a rule of the specification.

pip lets the wheel that is installed last win, without a word. Here one path with two contents is an error, until
``BuildSpec.conflicts`` names the project whose file stands there.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from packaging.utils import canonicalize_name

from registry_pipelines.build.archive import ZIP_ERRORS, Member, listed, read_pieces
from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.install import Scheme, plan
from registry_pipelines.build.record import encode_hash
from registry_pipelines.build.wheel import Wheel
from registry_pipelines.errors import InputError, PathConflict, WheelInvalid

APPLICATION = "application"
"""The application folder's name in rules; its layer lies above those of wheels."""


@dataclass(frozen=True)
class Inventory:
    """What a wheel or the application brings. Paths are in the image, without leading slash."""

    owner: str
    """Normalised project name, or APPLICATION."""
    label: str
    """For people: the wheel's file name."""
    paths: Mapping[str, str]
    """To what identifies the content: equal texts mean equal bytes."""
    folders: Sequence[str] = ()
    """Folders it brings beside those its files stand in."""
    version: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settled:
    """One path with different contents, and whose stands there."""

    path: str
    winner: str
    losers: tuple[str, ...]
    """Owners whose own file is left out."""


def take_inventory(wheel: Wheel, scheme: Scheme) -> Inventory:
    """Everything a wheel installs. Only files without a sha256 in RECORD are read. Raises WheelInvalid."""
    planned = plan(wheel, scheme)
    unknown = [file.member for file in planned.files if file.member and wheel.row(file.member).algorithm != "sha256"]
    hashed = _hash_members(wheel, unknown) if unknown else {}
    paths = {planned.record: f"RECORD of {wheel.path.name}"}
    for file in planned.files:
        if file.member is None:
            paths[file.path] = encode_hash(hashlib.sha256(file.content).digest())
        else:
            first_line = "with another first line, " if file.rewrite else ""
            paths[file.path] = first_line + (hashed.get(file.member.name) or wheel.row(file.member).hash)
    return Inventory(wheel.name, wheel.path.name, paths, version=wheel.version, notes=planned.notes)


def _hash_members(wheel: Wheel, members: Sequence[Member]) -> dict[str, str]:
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            return {member.name: _sha256(wheel, member, archive) for member in members}
    except (*ZIP_ERRORS, OSError) as error:
        raise WheelInvalid(f"the wheel cannot be read: {error}", where=wheel.path.name) from error


def _sha256(wheel: Wheel, member: Member, archive: zipfile.ZipFile) -> str:
    digest = hashlib.sha256()
    for piece in read_pieces(archive, member, f"{wheel.path.name}, {member.name}"):
        digest.update(piece)
    return encode_hash(digest.digest())


def application_inventory(entries: Iterable[LayerEntry], shared: Iterable[Inventory]) -> Inventory:
    """What the application brings; only files that one of ``shared`` brings too are hashed."""
    known = set[str]().union(*(inventory.paths for inventory in shared))
    paths, folders = {}, []
    for entry in entries:
        if entry.folder:
            folders.append(entry.path)
        elif entry.source is not None and entry.path in known:
            with entry.source.open("rb") as file:
                paths[entry.path] = encode_hash(hashlib.file_digest(file, "sha256").digest())
        else:
            paths[entry.path] = f"{APPLICATION} {entry.link}"
    return Inventory(APPLICATION, "the application folder", paths, folders)


def settle(
    inventories: Sequence[Inventory], rules: Mapping[str, str] | None = None, *, site_packages: str = ""
) -> list[Settled]:
    """Which owner's file stands at each path that several bring with different content.

    The same content twice is fine (namespace packages). rules: path or pattern to owner, see ``BuildSpec.conflicts``;
    a path told exactly counts before patterns. No wheel wins over the application, whose layer comes last. Raises
    PathConflict for a path without a rule, and where one's file is another's folder, which no rule settles.
    """
    paths: set[str] = set()
    several: set[str] = set()
    for inventory in inventories:  # a CUDA stack has 30,000 paths, so nothing but sets looks at each
        several |= paths & inventory.paths.keys()
        paths |= inventory.paths.keys()
    for path in sorted(_folders(paths, inventories) & paths):
        owner = next(inventory for inventory in inventories if path in inventory.paths)
        other = next(inventory for inventory in inventories if path in _folders(inventory.paths, (inventory,)))
        raise PathConflict(
            f"it is a file of {owner.label} and a folder of {other.label}",
            where=f"/{path}",
            do="Leave one of the two out, or use versions that agree",
        )
    clashes: dict[str, list[Inventory]] = {}
    for path in sorted(several):
        contenders = [inventory for inventory in inventories if path in inventory.paths]
        if len({inventory.paths[path] for inventory in contenders}) > 1:
            clashes[path] = contenders
    settlements = [_settle(path, contenders, rules or {}, site_packages) for path, contenders in clashes.items()]
    open_paths = [path for path, settled in zip(clashes, settlements, strict=True) if settled is None]
    if open_paths:
        raise _conflict(open_paths, clashes, site_packages)
    return [settled for settled in settlements if settled is not None]


def _folders(paths: Iterable[str], inventories: Iterable[Inventory]) -> set[str]:
    """Folders that paths stand in, and those that inventories bring beside them."""
    folders = {folder for inventory in inventories for folder in inventory.folders}
    todo = {path.rpartition("/")[0] for path in paths}
    while todo:
        folders |= todo
        todo = {folder.rpartition("/")[0] for folder in todo} - folders
    return folders - {""}


def check_rules(rules: Mapping[str, str], platforms: Sequence[tuple[str, Sequence[Inventory]]]) -> None:
    """Raise InputError for a rule whose owner brings no such path on any platform: it would settle nothing, ever.

    platforms: site-packages and inventories of each.
    """
    for pattern, owner in rules.items():
        name = canonicalize_name(owner)
        mine = [
            (site, inventory) for site, inventories in platforms for inventory in inventories if inventory.owner == name
        ]
        if not any(_matches(pattern, path, site) for site, inventory in mine for path in inventory.paths):
            why = f"{mine[0][1].label} brings no such path" if mine else "no such wheel is in the image"
            raise InputError(
                f"{why}, so {owner} cannot win there",
                where=f"conflicts, {pattern}",
                do="Name a path as the wheel brings it (below site-packages, or from / on) and a project that has it",
            )


def _settle(path: str, owners: Sequence[Inventory], rules: Mapping[str, str], site_packages: str) -> Settled | None:
    for pattern in sorted(rules, key=lambda pattern: pattern not in (path_key(path, site_packages), f"/{path}")):
        winner = next((inventory for inventory in owners if inventory.owner == canonicalize_name(rules[pattern])), None)
        if winner and _matches(pattern, path, site_packages):
            losers = tuple(inventory.owner for inventory in owners if inventory.paths[path] != winner.paths[path])
            if APPLICATION not in losers:
                return Settled(path, winner.owner, losers)
    return None


def path_key(path: str, site_packages: str) -> str:
    """How a rule names a path: below site-packages, else from / on."""
    return path.removeprefix(f"{site_packages}/") if path.startswith(f"{site_packages}/") else f"/{path}"


def _matches(pattern: str, path: str, site_packages: str) -> bool:
    texts = {path_key(path, site_packages), f"/{path}"}
    return pattern in texts or any(fnmatchcase(text, pattern) for text in texts)


def _conflict(paths: list[str], clashes: Mapping[str, Sequence[Inventory]], site_packages: str) -> PathConflict:
    path = paths[0]
    first = clashes[path][0]
    other = next(inventory for inventory in clashes[path] if inventory.paths[path] != first.paths[path])
    keys = [path_key(clashing, site_packages) for clashing in paths]
    more = f"; other such paths: {listed(keys[1:])}" if len(keys) > 1 else ""
    winner = APPLICATION if any(inventory.owner == APPLICATION for inventory in clashes[path]) else first.owner
    return PathConflict(
        f"{first.label} and {other.label} both bring it, with different content{more}",
        where=f"/{path}",
        do=f"Say in `conflicts` whose file stands there ({keys[0]}: {winner}), or leave one of the two out",
    )
