"""Which distribution packages the files of this machine come from, written into the image for scanners.

On Debian and Ubuntu in the form of distroless images: ``var/lib/dpkg/status.d/<package>`` holds the package's control
fields, ``<package>.md5sums`` those of its files that the image has (``deb-control(5)``, ``deb-md5sums(5)``). On Alpine
``lib/apk/db/installed`` (apk-tools v2) with the packages and files that the image has. A file whose content is not the
package's is not listed: nobody's advisories speak of it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from registry_pipelines.build.content import LayerEntry

STATUS_FOLDER = "var/lib/dpkg/status.d"

APK_DATABASE = "lib/apk/db/installed"

_KEPT_FIELDS = ("Package", "Source", "Version", "Architecture", "Maintainer", "Section", "Homepage", "Description")
"""What names a package and its advisories. Dependencies are left out: most of them are not in the image."""
_KEPT_LETTERS = "PVATUoLm"
"""The same of apk: name, version, architecture, description, address, origin, licence, maintainer."""


@dataclass(frozen=True)
class Owner:
    """Who owns a file."""

    package: str
    """The database's own name for it: ``tzdata``, ``libc6:amd64``."""
    checksum: str
    """Of the content, in the database's form."""
    intact: bool
    """Whether the content is the package's; true when the package does not tell."""


class Packages(Protocol):
    """The package database of a machine."""

    root: Path
    """Where the machine's files are."""

    @property
    def exists(self) -> bool:
        """Whether the machine has one."""
        ...

    def owners(self, files: Iterable[Path]) -> dict[Path, Owner]:
        """The owner of each file that has one. files: real paths, no links."""
        ...

    def entries(self, listed: Mapping[str, Mapping[str, str]], touched: Collection[str]) -> list[LayerEntry]:
        """What one layer says. listed: by package, path in the image to checksum, of this layer and those below.
        touched: packages with files in this layer."""
        ...


def machine_packages(root: Path = Path("/")) -> Packages:
    """This machine's database: apk's where there is one, else dpkg's, also in the form that images have."""
    apk, folder = Apk(root), StatusFolder(root)
    return apk if apk.exists else folder if folder.exists else Dpkg(root)


class Dpkg:
    """See Packages; ``dpkg(1)``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._folder = root / "var/lib/dpkg"
        self._known_sums: dict[str, dict[str, str]] = {}

    @property
    def exists(self) -> bool:
        """See Packages."""
        return (self._folder / "status").is_file()

    def owners(self, files: Iterable[Path]) -> dict[Path, Owner]:
        """See Packages."""
        names = {path: self._names(path) for path in files}
        packages = self._packages({name for spellings in names.values() for name in spellings})
        owners: dict[Path, Owner] = {}
        for path, spellings in names.items():
            name = next((name for name in spellings if name in packages), None)
            if name is not None:
                package = packages[name]
                md5 = _md5(path)
                expected = self._sums(package).get(name.decode(errors="surrogateescape"), md5)
                owners[path] = Owner(package, md5, expected == md5)
        return owners

    def _packages(self, names: set[bytes]) -> dict[bytes, str]:
        """The packages of those names that a list has. No list is kept: a machine's have a hundred times the files of
        an image."""
        lines = names | {name + b"\n" for name in names}
        packages: dict[bytes, str] = {}
        for path in sorted(self._folder.glob("info/*.list")):
            with path.open("rb") as file:
                packages.update(dict.fromkeys((line.rstrip(b"\n") for line in lines.intersection(file)), path.stem))
        return packages

    def _names(self, path: Path) -> list[bytes]:
        """How lists may name a file: where ``/lib`` is a link to ``/usr/lib``, packages say either."""
        name = "/" + str(path)[len(str(self.root)) :].lstrip("/")
        short = name.removeprefix("/usr")
        merged = short != name and short.split("/")[1] in self._merged
        return [spelling.encode(errors="surrogateescape") for spelling in ([name, short] if merged else [name])]

    @cached_property
    def _merged(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.root) if entry.is_symlink()}

    def _sums(self, package: str) -> dict[str, str]:
        if package not in self._known_sums:
            sums = dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})", self._stanzas.get(package, ""), re.MULTILINE))
            listing = self._folder / f"info/{package}.md5sums"
            if listing.is_file():
                lines = listing.read_text(encoding="utf-8", errors="surrogateescape")
                sums |= {f"/{path}": md5 for md5, path in re.findall(r"^([0-9a-f]{32})  (.+)$", lines, re.MULTILINE)}
            self._known_sums[package] = sums
        return self._known_sums[package]

    @cached_property
    def _stanzas(self) -> dict[str, str]:
        """By the name in dpkg's folder, and by the bare one."""
        text = (self._folder / "status").read_text(encoding="utf-8", errors="surrogateescape")
        stanzas: dict[str, str] = {}
        for stanza in text.split("\n\n"):
            name, architecture = (_field(stanza, field) for field in ("Package", "Architecture"))
            stanzas.setdefault(name, stanza)
            stanzas[f"{name}:{architecture}"] = stanza
        return stanzas

    def entries(self, listed: Mapping[str, Mapping[str, str]], touched: Collection[str]) -> list[LayerEntry]:
        """See Packages: two files for each package of this layer."""
        made = []
        for package in sorted(touched):
            stanza = self._stanzas.get(package, "")
            name = _field(stanza, "Package")
            fields = "".join(f"{field}: {value}\n" for field in _KEPT_FIELDS if (value := _field(stanza, field)))
            sums = "".join(f"{md5}  {path}\n" for path, md5 in sorted(listed[package].items()))
            if name:
                made += [_text(f"{STATUS_FOLDER}/{name}", fields), _text(f"{STATUS_FOLDER}/{name}.md5sums", sums)]
        return made


class StatusFolder(Dpkg):
    """The same in the form of distroless images, which :meth:`Dpkg.entries` writes: where a build runs in an image that
    a build made, the packages keep their names."""

    @property
    def exists(self) -> bool:
        """See Packages."""
        return (self.root / STATUS_FOLDER).is_dir() and not super().exists

    def _packages(self, names: set[bytes]) -> dict[bytes, str]:
        owners = {path: package for package in self._stanzas for path in self._sums(package)}
        return {name: owner for name in names if (owner := owners.get(name.decode(errors="surrogateescape")))}

    def _sums(self, package: str) -> dict[str, str]:
        if package not in self._known_sums:
            listing = self.root / STATUS_FOLDER / f"{package}.md5sums"
            text = listing.read_text(encoding="utf-8", errors="surrogateescape") if listing.is_file() else ""
            found = re.findall(r"^([0-9a-f]{32})  (.+)$", text, re.MULTILINE)
            self._known_sums[package] = {f"/{path}": md5 for md5, path in found}
        return self._known_sums[package]

    @cached_property
    def _stanzas(self) -> dict[str, str]:
        files = (path for path in (self.root / STATUS_FOLDER).iterdir() if path.suffix != ".md5sums")
        return {path.name: path.read_text(encoding="utf-8", errors="surrogateescape") for path in files}


def _text(path: str, text: str) -> LayerEntry:
    return LayerEntry(path, content=text.encode(errors="surrogateescape"))


def _field(stanza: str, name: str) -> str:
    """The first line of a field."""
    match = re.search(rf"^{name}: *(.*)$", stanza, re.MULTILINE)
    return match[1].strip() if match else ""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Apk:
    """See Packages; ``apk(8)``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    @property
    def exists(self) -> bool:
        """See Packages."""
        return (self.root / APK_DATABASE).is_file()

    def owners(self, files: Iterable[Path]) -> dict[Path, Owner]:
        """See Packages. Checksums are ``Q1`` and base64 of a SHA-1."""
        owners: dict[Path, Owner] = {}
        for path in files:
            package, expected = self._files.get(path, ("", ""))
            if package:
                with path.open("rb") as file:
                    sha1 = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).digest()
                checksum = "Q1" + base64.b64encode(sha1).decode()
                owners[path] = Owner(package, checksum, expected in ("", checksum))
        return owners

    @cached_property
    def _records(self) -> dict[str, list[str]]:
        text = (self.root / APK_DATABASE).read_text(encoding="utf-8", errors="surrogateescape")
        blocks = [block.splitlines() for block in text.split("\n\n")]
        return {line[2:]: block for block in blocks for line in block if line.startswith("P:")}

    @cached_property
    def _files(self) -> dict[Path, tuple[str, str]]:
        """Real path to package and checksum (empty when the database does not tell)."""
        files: dict[Path, tuple[str, str]] = {}
        for package, lines in self._records.items():
            folder, path = self.root, None
            for line in lines:
                if line.startswith("F:"):
                    folder = (self.root / line[2:]).resolve()
                elif line.startswith("R:"):
                    path = folder / line[2:]
                    files[path] = (package, "")
                elif line.startswith("Z:") and path is not None:
                    files[path] = (package, line[2:])
        return files

    def entries(self, listed: Mapping[str, Mapping[str, str]], touched: Collection[str]) -> list[LayerEntry]:
        """See Packages: one file, which hides that of a lower layer and so tells of its packages too."""
        if not touched:
            return []
        blocks = []
        for package in sorted(listed):
            lines = [line for line in self._records[package] if line[1:2] == ":" and line[0] in _KEPT_LETTERS]
            for path, checksum in sorted(listed[package].items()):
                folder, _, name = path.rpartition("/")
                lines += [f"F:{folder}", f"R:{name}", f"Z:{checksum}"]
            blocks.append("\n".join(lines) + "\n\n")
        return [_text(APK_DATABASE, "".join(blocks))]


def package_entries(layers: Sequence[Sequence[LayerEntry]], database: Packages) -> list[list[LayerEntry]]:
    """For each layer, lowest first, the entries that name the packages its files come from.

    A package with files in two layers is told in the upper one with the files of both.
    """
    owners = database.owners({entry.source for layer in layers for entry in layer if entry.source is not None})
    made: list[list[LayerEntry]] = []
    listed: dict[str, dict[str, str]] = {}
    for layer in layers:
        touched = set()
        for entry in layer:
            owner = owners.get(entry.source) if entry.source else None
            if owner and owner.intact:
                touched.add(owner.package)
                listed.setdefault(owner.package, {})[entry.path] = owner.checksum
        made.append(database.entries(listed, touched))
    return made
