"""Which distribution packages the files of this machine come from, written into the image for scanners.

The form is that of distroless images, which scanners read: ``var/lib/dpkg/status.d/<package>`` holds the package's
control fields, ``<package>.md5sums`` those of its files that the image has (``deb-control(5)``, ``deb-md5sums(5)``). A
file whose content is not the package's is not listed: nobody's advisories speak of it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from registry_pipelines.build.content import Item

STATUS_FOLDER = "var/lib/dpkg/status.d"

_KEPT_FIELDS = ("Package", "Source", "Version", "Architecture", "Maintainer", "Section", "Homepage", "Description")
"""What names a package and its advisories. Dependencies are left out: most of them are not in the image."""


@dataclass(frozen=True)
class Owner:
    """Who owns a file."""

    package: str
    """The name in dpkg's folder: ``tzdata``, ``libc6:amd64``."""
    md5: str
    """Of the content."""
    intact: bool
    """Whether the content is the package's; true when the package does not tell."""


class Dpkg:
    """The package database of this machine. root: where the machine's files are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._folder = root / "var/lib/dpkg"
        self._known_sums: dict[str, dict[str, str]] = {}

    @property
    def exists(self) -> bool:
        """Whether this machine has one."""
        return (self._folder / "status").is_file()

    def owners(self, files: Iterable[Path]) -> dict[Path, Owner]:
        """The owner of each file that has one. files: real paths, no links."""
        found: dict[Path, Owner] = {}
        for path in files:
            name = next((name for name in self._names(path) if name in self._lists), None)
            if name is not None:
                package = self._lists[name]
                md5 = _md5(path)
                expected = self._sums(package).get(name.decode(errors="surrogateescape"), md5)
                found[path] = Owner(package, md5, expected == md5)
        return found

    @cached_property
    def _lists(self) -> dict[bytes, str]:
        """Path to package, from all lists."""
        found: dict[bytes, str] = {}
        for file in sorted(self._folder.glob("info/*.list")):
            found.update(dict.fromkeys(file.read_bytes().split(b"\n"), file.stem))
        return found

    def _names(self, path: Path) -> list[bytes]:
        """How lists may name a file: where ``/lib`` is a link to ``/usr/lib``, packages say either."""
        name = "/" + str(path)[len(str(self.root)) :].lstrip("/")
        short = name.removeprefix("/usr")
        merged = short != name and short.split("/")[1] in self._merged
        return [each.encode(errors="surrogateescape") for each in ([name, short] if merged else [name])]

    @cached_property
    def _merged(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.root) if entry.is_symlink()}

    def _sums(self, package: str) -> dict[str, str]:
        if package not in self._known_sums:
            found = dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})", self._stanzas.get(package, ""), re.MULTILINE))
            sums = self._folder / f"info/{package}.md5sums"
            if sums.is_file():
                lines = sums.read_text(encoding="utf-8", errors="surrogateescape")
                found |= {f"/{path}": md5 for md5, path in re.findall(r"^([0-9a-f]{32})  (.+)$", lines, re.MULTILINE)}
            self._known_sums[package] = found
        return self._known_sums[package]

    @cached_property
    def _stanzas(self) -> dict[str, str]:
        """By the name in dpkg's folder, and by the bare one."""
        text = (self._folder / "status").read_text(encoding="utf-8", errors="surrogateescape")
        found: dict[str, str] = {}
        for stanza in text.split("\n\n"):
            name, architecture = (_field(stanza, each) for each in ("Package", "Architecture"))
            found.setdefault(name, stanza)
            found[f"{name}:{architecture}"] = stanza
        return found

    def control(self, package: str) -> str:
        """The control fields that an image keeps; empty when the database does not know the package."""
        stanza = self._stanzas.get(package, "")
        lines = [f"{field}: {value}\n" for field in _KEPT_FIELDS if (value := _field(stanza, field))]
        return "".join(lines)


def _field(stanza: str, name: str) -> str:
    """The first line of a field."""
    found = re.search(rf"^{name}: *(.*)$", stanza, re.MULTILINE)
    return found[1].strip() if found else ""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def package_items(layers: Sequence[Sequence[Item]], database: Dpkg) -> list[list[Item]]:
    """For each layer, lowest first, the entries that name the packages its files come from.

    A package with files in two layers is told in the upper one, with the files of both.
    """
    files = {item.source: item for layer in layers for item in layer if item.source is not None}
    owners = database.owners(files)
    made: list[list[Item]] = []
    listed: dict[str, dict[str, str]] = {}
    for layer in layers:
        touched = set()
        for item in layer:
            owner = owners.get(item.source) if item.source else None
            if owner and owner.intact:
                touched.add(owner.package)
                listed.setdefault(owner.package, {})[item.path] = owner.md5
        made.append([entry for name in sorted(touched) for entry in _entries(database.control(name), listed[name])])
    return made


def _entries(control: str, files: dict[str, str]) -> list[Item]:
    """The two files of a package. files: path in the image to md5."""
    name = _field(control, "Package")
    if not name:
        return []
    sums = "".join(f"{md5}  {path}\n" for path, md5 in sorted(files.items()))
    return [
        Item(f"{STATUS_FOLDER}/{name}", content=control.encode(errors="surrogateescape")),
        Item(f"{STATUS_FOLDER}/{name}.md5sums", content=sums.encode(errors="surrogateescape")),
    ]
