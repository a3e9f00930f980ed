"""What programs expect of a small Linux system beside libraries, taken from this machine.

Time zones, names of services and protocols, the C.UTF-8 locale, ``ldconfig`` with a cache of the libraries, and which
distribution all this is from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.elf import Loader, is_elf, write_cache
from registry_pipelines.build.entries import PROGRAM_MODE
from registry_pipelines.build.system_packages import Packages

ZONES = "usr/share/zoneinfo"
_ZONES_LEFT_OUT = ("right", "posix", "localtime")
"""Second copies with leap seconds and under another name; and the link to this machine's own zone."""

_LOCALES = ("usr/lib/locale/C.utf8", "usr/lib/locale/C.UTF-8")
"""What ``LANG=C.UTF-8`` needs of C libraries before glibc 2.35."""

_NAMES = ("etc/services", "etc/protocols")
_LDCONFIG = ("sbin/ldconfig.real", "sbin/ldconfig")
"""Ubuntu's ``ldconfig`` is a shell script around the other."""

_RELEASES = ("usr/lib/os-release", "etc/os-release")


def data_entries(database: Packages) -> Iterator[LayerEntry]:
    """Time zones, locale, services, protocols and ``os-release``, as far as this machine has them."""
    yield from _tree(database.root, ZONES, _ZONES_LEFT_OUT)
    for locale in _LOCALES:
        yield from _tree(database.root, locale)
    yield from (LayerEntry(path, source=(database.root / path).resolve()) for path in _packable_names(database))
    # It tells scanners whose packages these are; without a package database that would be a guess.
    release = next((path for path in (database.root / place for place in _RELEASES) if path.is_file()), None)
    if database.exists and release is not None:
        yield LayerEntry(_RELEASES[0], source=release.resolve())
        yield LayerEntry(_RELEASES[1], link=f"../{_RELEASES[0]}")


def finder_entries(libraries: Iterable[LayerEntry], loader: Loader) -> Iterator[LayerEntry]:
    """``ldconfig`` and the cache it prints: ``ctypes.util.find_library`` asks nothing else where there is no compiler.

    libraries: those of the layer. Nothing without glibc's cache on this machine: musl has neither.
    """
    programs = (Path("/") / path for path in _LDCONFIG)
    program = next((path for path in programs if path.is_file() and is_elf(path)), None)
    flags = loader.cache_flags("libc.so.6")
    if program is None or flags is None:
        return
    yield LayerEntry("sbin/ldconfig", PROGRAM_MODE, source=program.resolve())
    yield LayerEntry("etc/ld.so.cache", content=write_cache((f"/{entry.path}" for entry in libraries), flags))


def missing_data(database: Packages) -> list[str]:
    """For people: what images will lack because this machine lacks it."""
    said = []
    if not (database.root / ZONES).is_dir():
        said.append(
            f"this machine has no /{ZONES} (tzdata): in the image TZ means UTC, and zoneinfo needs the tzdata wheel"
        )
    packed = _packable_names(database)
    for path in _NAMES:
        if not (database.root / path).is_file():
            said.append(f"this machine has no /{path} (netbase): the image knows none of its names")
        elif path not in packed:
            said.append(f"/{path} was changed on this machine and is not packed: the image knows none of its names")
    if not database.exists:
        said.append(
            "this machine has no database of dpkg or apk: the image does not name the packages of the base's libraries"
        )
    return said


def _packable_names(database: Packages) -> list[str]:
    """Files of names that are the distribution's own: an edited one may name what is internal."""
    there = {(database.root / path).resolve(): path for path in _NAMES if (database.root / path).is_file()}
    owners = database.owners(there)
    return [path for real, path in there.items() if real not in owners or owners[real].intact]


def _tree(root: Path, folder: str, left_out: tuple[str, ...] = ()) -> Iterator[LayerEntry]:
    """Files, and links that stay inside; others are followed."""
    top = (root / folder).resolve()
    waiting = [top] if top.is_dir() else []
    while waiting:
        for entry in sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name):
            path = Path(entry.path)
            place = f"{folder}/{path.relative_to(top)}"
            if path.parent == top and entry.name in left_out:
                continue
            if not entry.is_symlink():
                if entry.is_dir():
                    waiting.append(path)
                elif entry.is_file():
                    yield LayerEntry(place, source=path)
            elif not path.readlink().is_absolute() and path.resolve().is_relative_to(top):
                yield LayerEntry(place, link=str(path.readlink()))
            elif entry.is_file():
                yield LayerEntry(place, source=path.resolve())
