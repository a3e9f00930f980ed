"""The databases of dpkg and apk and the texts beside them, read from bytes; bad content gives a reason, never an
exception.

Sources: dpkg's ``deb-control(5)`` and ``dpkg-query(1)`` (status), Alpine's apk-tools v2 ``installed`` format.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from registry_pipelines.progress import count_text
from registry_pipelines.scan.facts import Copyright, OsDatabase, OsPackage, OsRelease, OwnedFiles
from registry_pipelines.scan.names import NamesWriter, names_of

_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?\s*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,254}\Z")
MAX_PACKAGES = 100_000
"""Of one database; Debian has 65,000 binary packages."""
MAX_BROKEN = 100
"""Records that cannot be read and are named one by one."""
_MORE = f"it has more than {MAX_PACKAGES} records; the rest was not read"
MAX_LICENSES = 40
"""Of one package; Chromium names 80."""
MAX_LICENSE_CHARACTERS = 300

_LICENSE_FIELD = re.compile(r"^License:[ \t]*([^\n]*)", re.MULTILINE | re.IGNORECASE)
_COMMON_LICENSE = re.compile(r"/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]{1,40})")
_MD5_LINE = re.compile(r"[0-9a-f]{32} [ *](.+)\Z")

SBOM_FOLDER = ".dist-info/sboms/"
"""Every file in it is an SBOM (PEP 770)."""

SBOM_SUFFIXES = (".cdx.json", ".cyclonedx.json", ".spdx.json")
"""Names of SBOMs, as CycloneDX and SPDX recommend them and cargo-cyclonedx writes them."""

_KEPT_SUFFIXES = (
    *SBOM_SUFFIXES,
    "-info/METADATA",
    "-INFO/PKG-INFO",
    "-info/PKG-INFO",
    "vendor/vendor.txt",
    "vendor/vendored.txt",
)
_STANDARD_LIBRARY = re.compile(r"/python3\.\d+t?/os\.py\Z")
_USELESS_FOLDERS = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/include/", "usr/share/info/")
_USELESS_PARTS = re.compile(
    r"\.dist-info/|/zoneinfo/|\.(?:py|pyc|pyi|pyx|pxd|pth|typed|c|cc|cpp|cu|cuh|h|hh|hpp|inc|f90|cmake|js|cjs|mjs|jsx|ts|tsx"
    r"|map|css|scss|html?|xml|svg|png|jpe?g|gif|ico|webp|ttf|woff2?|eot|json|ya?ml|toml|cfg|ini|conf|txt|md|rst|ipynb|csv|tsv"
    r"|parquet|np[yz]|dat|gz|bz2|xz|mo|pot?|pem|crt|proto|sql|pm|pl|tcl|lua|rb|go|j2|tmpl|template|lock|la|a|o|pc)\Z",
    re.IGNORECASE,
)


def may_matter(path: str) -> bool:
    """Whether ownership of this path can decide something: not for sources, texts and documentation."""
    keeps = path.endswith(_KEPT_SUFFIXES) or _STANDARD_LIBRARY.search(path)
    return bool(keeps) or not (path.startswith(_USELESS_FOLDERS) or _USELESS_PARTS.search(path))


def clean_path(path: str) -> str:
    """A path below the root without leading slash; empty when it is no path or climbs above."""
    cleaned = posixpath.normpath("/" + path).lstrip("/") if path and "\0" not in path else ""
    return "" if cleaned == "." else cleaned


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _stanzas(text: str) -> Iterator[list[str]]:
    """Blocks of lines between blank lines. Only ``\\n`` ends a line: values may hold other separators."""
    block: list[str] = []
    for line in _lines(text):
        line = line.removesuffix("\r")
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _lines(text: str) -> Iterator[str]:
    """What ``split`` gives, not all at once: a million lines take a hundred megabytes."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _fields(block: Iterable[str]) -> dict[str, str] | None:
    """Fields of one stanza with lower-case names, continuation lines dropped; None when a line is malformed."""
    fields: dict[str, str] = {}
    for line in block:
        if line[0] in " \t":
            if not fields:
                return None
            continue
        name, colon, value = line.partition(":")
        if not colon or name.lower() in fields:
            return None
        fields[name.lower()] = value.strip()
    return fields


def read_stanzas(raw: bytes) -> Iterator[dict[str, str]]:
    """The fields of each well-formed stanza of a file as apt and dpkg write it, names in lower case; first lines of
    values only."""
    yield from (fields for block in _stanzas(_text(raw)) if (fields := _fields(block)) is not None)


def read_dpkg(raw: bytes, *, status_required: bool) -> OsDatabase:
    """A status file. status_required: False for distroless ``status.d``, where a missing Status means installed.

    Counts what is installed (config-files only means removed). A broken stanza is reported and the others stay.
    """
    packages: list[OsPackage] = []
    broken: list[str] = []
    for number, block in enumerate(_stanzas(_text(raw)), 1):
        if number > MAX_PACKAGES:
            broken.append(_MORE)
            break
        fields = _fields(block)
        name = (fields or {}).get("package", "")
        if fields is None or not _NAME.match(name):
            broken.append(f"stanza {number} ({block[0][:60]!r}) is malformed")
            continue
        status = fields.get("status", "" if status_required else "install ok installed").split()
        if not status:
            broken.append(f"stanza {number} (package {name}) has no Status")
        elif status[-1] == "installed":
            package = _deb_package(name, fields)
            if isinstance(package, OsPackage):
                packages.append(package)
            else:
                broken.append(f"stanza {number} (package {name}) {package}")
    return OsDatabase(manager="deb", packages=tuple(packages), broken=_first(broken))


def _first(broken: list[str]) -> tuple[str, ...]:
    """Those that are named, and how many more there are."""
    more = len(broken) - MAX_BROKEN
    return (*broken[:MAX_BROKEN], *([f"and {count_text(more, 'more record')}"] if more > 0 else []))


def _deb_package(name: str, fields: dict[str, str]) -> OsPackage | str:
    version = fields.get("version", "")
    if not version or " " in version:
        return "has no usable Version"
    source = source_version = ""
    if "source" in fields:
        match = _SOURCE.match(fields["source"])
        if not match:
            return "has a malformed Source"
        source, source_version = match[1], match[2] or ""
    return OsPackage(
        name=name,
        version=version,
        architecture=fields.get("architecture", ""),
        source=source,
        source_version=source_version,
        maintainer=fields.get("maintainer", "")[:300],
    )


def read_dpkg_list(raw: bytes, package: str) -> OwnedFiles:
    """``info/<package>[:arch].list``: one absolute path a line."""
    return _owned(package.partition(":")[0], (clean_path(line) for line in _lines(_text(raw))))


def read_md5sums(raw: bytes, package: str) -> OwnedFiles:
    """Distroless ``status.d/<package>.md5sums``: hash, two blanks, relative path."""
    matches = (_MD5_LINE.match(line) for line in _lines(_text(raw)))
    return _owned(package, (clean_path(match[1]) for match in matches if match))


def _owned(package: str, found: Iterable[str]) -> OwnedFiles:
    paths = [path for path in found if path]
    return OwnedFiles(package=package, paths=tuple(path for path in paths if may_matter(path)), names=names_of(paths))


def read_copyright(raw: bytes) -> Copyright:
    """``copyright`` of a package: the short names of licences (Debian's machine-readable format 1.0), else the common
    licences that it points to."""
    text = _text(raw)
    if text.lstrip().startswith("Format:"):
        found = [match[1].strip() for match in _LICENSE_FIELD.finditer(text)]
    else:
        found = [match[1].rstrip(".") for match in _COMMON_LICENSE.finditer(text)]
    named = dict.fromkeys(license for license in found if 0 < len(license) <= MAX_LICENSE_CHARACTERS)
    return Copyright(licenses=tuple(named)[:MAX_LICENSES])


def read_apk(raw: bytes) -> OsDatabase:
    """apk's ``installed``: ``P:`` name, ``V:`` version, ``o:`` origin, ``F:`` folder, then its ``R:`` files."""
    packages: list[OsPackage] = []
    broken: list[str] = []
    owned: list[tuple[str, tuple[str, ...]]] = []
    names = NamesWriter()
    for number, block in enumerate(_stanzas(_text(raw)), 1):
        if number > MAX_PACKAGES:
            broken.append(_MORE)
            break
        fields: dict[str, str] = {}
        paths: list[str] = []
        folder = ""
        for line in block:
            key, value = line[:1], line[2:].strip()
            if line[1:2] != ":":
                fields.clear()
                break
            if key == "F":
                folder = value
            elif key == "R":
                paths.append(clean_path(f"{folder}/{value}"))
            else:
                fields.setdefault(key, value)
        name, version = fields.get("P", ""), fields.get("V", "")
        if not _NAME.match(name) or not version or " " in version:
            broken.append(f"record {number} ({block[0][:60]!r}) is malformed")
            continue
        origin = fields.get("o", "")
        packages.append(
            OsPackage(
                name=name,
                version=version,
                architecture=fields.get("A", ""),
                source="" if origin == name else origin,
                maintainer=fields.get("m", "")[:300],
                licenses=tuple(filter(None, [fields.get("L", "")[:1000]])),
            )
        )
        for path in filter(None, paths):
            names.add(path)
        owned.append((name, tuple(path for path in paths if path and may_matter(path))))
    return OsDatabase(
        manager="apk", packages=tuple(packages), broken=_first(broken), owned=tuple(owned), names=names.names()
    )


def read_os_release(raw: bytes) -> OsRelease:
    """``os-release(5)``: ID and VERSION_ID, unquoted; empty when they are not there."""
    values: dict[str, str] = {}
    for line in _text(raw).split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals:
            values[key] = value.strip().strip("\"'")
    return OsRelease(id=values.get("ID", "").lower()[:64], version=values.get("VERSION_ID", "")[:64])
