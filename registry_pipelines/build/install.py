"""Where a wheel's files go in the image, and the files an installer writes beside them.

Sources: PyPA "Binary distribution format" (spreading .data, rewriting ``#!python``), "Entry points specification".
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import dataclass

from registry_pipelines.build.archive import Member, file_and_folder, listed
from registry_pipelines.build.entries import FILE_MODE, PROGRAM_MODE
from registry_pipelines.build.entry_points import read_entry_points
from registry_pipelines.build.wheel import Wheel, data_place
from registry_pipelines.errors import WheelInvalid

WHEEL_FORMAT = 2
"""Raised when an equal wheel shall be installed otherwise than before; part of what is remembered of wheels."""

INSTALLER = b"registry-pipelines\n"
"""Content of INSTALLER: who put the files there."""


@dataclass(frozen=True)
class Scheme:
    """Folders of a Python installation in the image, without leading slash (PyPA "Installation schemes")."""

    prefix: str
    site_packages: str
    python: str
    """Minor version, ``3.12``."""
    interpreter: str
    """Absolute path of the Python program, for the first line of scripts."""

    @classmethod
    def of(cls, python: str, *, site_packages: str = "", interpreter: str = "") -> Scheme:
        """The official images' scheme (``/usr/local``), or what a base has instead."""
        site = (site_packages or f"/usr/local/lib/python{python}/site-packages").strip("/")
        head, marker, _ = site.partition(f"/lib/python{python}/")
        prefix = head if marker else "usr/local"
        return cls(prefix, site, python, interpreter or f"/{prefix}/bin/python{python}")

    @property
    def scripts(self) -> str:
        """Where scripts go."""
        return f"{self.prefix}/bin"

    def of_data(self, wheel: Wheel, key: str) -> str | None:
        """Target of ``<name>.data/<key>``, None for an unknown key."""
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": self.scripts,
            "headers": f"{self.prefix}/include/python{self.python}/{wheel.name}",
            "data": self.prefix,
        }.get(key)

    def record_path(self, path: str) -> str:
        """An image path (without ``..`` and doubled slashes) as RECORD writes it: relative to site-packages."""
        inside = self.site_packages + "/"
        if path.startswith(inside):
            return path[len(inside) :]
        return posixpath.relpath(path, self.site_packages)


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to install. ``path``: in the image, without leading slash. Either ``member`` (its content is taken over,
    or with another first line when ``rewrite``) or ``content`` (written by us)."""

    path: str
    mode: int
    member: Member | None = None
    content: bytes = b""
    rewrite: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything to install except byte code and RECORD, sorted by path; notes: what the wheel's maker cannot have
    meant and pip does all the same."""

    files: tuple[Planned, ...]
    record: str
    """Where RECORD goes."""
    notes: tuple[str, ...]


def plan(wheel: Wheel, scheme: Scheme) -> Plan:
    """Where each file of a wheel goes. Raises WheelInvalid.

    As pip does: ``.data`` is spread, scripts that tools of old made for entry points are left out, and where two files
    go to one place the later kind wins (root, ``.data``, ``.data/scripts``, entry points, our own).
    """
    where = wheel.path.name
    entry_points, notes = read_entry_points(wheel.entry_points, scheme.python, where=where)
    info = f"{scheme.site_packages}/{wheel.dist_info}"
    order = sorted(wheel.members, key=lambda member: (_rank(member), member.offset))
    chosen: dict[str, Planned] = {}
    left_out, overwritten = [], []
    for file in (_placed(member, wheel, scheme, where) for member in order):
        if file.member and _is_wrapper(file, entry_points):
            left_out.append(file.member.name)
            continue
        if file.path in chosen:
            overwritten.append(file.path)
        chosen[file.path] = file
    for name, entry in entry_points.items():
        path = f"{scheme.scripts}/{name}"
        if path in chosen:
            overwritten.append(path)
        chosen[path] = Planned(path, PROGRAM_MODE, content=entry.script(scheme.interpreter))
    chosen[f"{info}/INSTALLER"] = Planned(f"{info}/INSTALLER", FILE_MODE, content=INSTALLER)
    chosen.pop(f"{info}/RECORD", None)
    if both := file_and_folder([*chosen, f"{info}/RECORD"]):
        raise WheelInvalid(f"/{both} would be both a file and a folder", where=where)
    kinds = (("left out, an entry point makes the program", left_out), ("two files go to one place", overwritten))
    notes += tuple(f"{what}: {listed(names)}" for what, names in kinds if names)
    files = tuple(sorted(chosen.values(), key=lambda file: file.path))
    return Plan(files, f"{info}/RECORD", wheel.notes + notes)


def _rank(member: Member) -> int:
    place = data_place(member.name)
    return 0 if place is None else 2 if place[0] == "scripts" else 1


def _placed(member: Member, wheel: Wheel, scheme: Scheme, where: str) -> Planned:
    mode = PROGRAM_MODE if member.executable else FILE_MODE
    place = data_place(member.name)
    if place is None:
        return Planned(f"{scheme.site_packages}/{member.name}", mode, member)
    key, rest = place
    root = scheme.of_data(wheel, key)
    if root is None or not rest:
        raise WheelInvalid(f"{member.name} belongs to no known installation folder", where=where)
    mode = PROGRAM_MODE if key == "scripts" else mode
    return Planned(f"{root}/{rest}", mode, member, rewrite=member.name in wheel.first_lines)


def _is_wrapper(file: Planned, entry_points: Collection[str]) -> bool:
    """Whether setuptools made this script for an entry point; pip and we make our own."""
    if not file.member or _rank(file.member) != 2:
        return False
    name = file.path.rpartition("/")[2]
    suffix = next((end for end in _WRAPPER_SUFFIXES if name.lower().endswith(end)), "")
    return name[: len(name) - len(suffix)] in entry_points


_WRAPPER_SUFFIXES = (".exe", "-script.py", ".pya")


def first_line(scheme: Scheme) -> bytes:
    """What stands in place of ``#!python...``."""
    return b"#!" + scheme.interpreter.encode() + b"\n"
