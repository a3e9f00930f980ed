"""What an index says of a project: its files, each with hashes, and its status.

Sources: PyPA "Simple repository API" (PEP 503 HTML, PEP 691 JSON, PEP 592 yanked, PEP 658/714 metadata, PEP 700 size
and time, PEP 740 provenance, PEP 792 status). Strangers wrote the page: it is read with limits, and a file that has no
wheel's name, another project's name, or an address that is none is left out. Source archives are counted, for whoever
wonders.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from registry_pipelines.build.packages.markup import tags
from registry_pipelines.errors import RegistryError
from registry_pipelines.oci.decoding import ready

MAX_PAGE_BYTES = 64 * 1024**2
"""The largest known page, of a project with nightly wheels of many platforms, has 30 MB."""

MAX_FILES = 200_000
"""Files of one project."""

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGITS = re.compile(r"[0-9a-f]{32,128}")
_ALGORITHMS = ("sha256", "sha512", "sha384")
_STATUS = re.compile(r"[a-z]{1,40}")


class WheelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that an index offers."""

    filename: str
    url: str
    """Absolute; it may hold a signature in its query."""
    hashes: dict[str, str] = {}
    """By algorithm, hexadecimal; only those that pip takes for a check."""
    requires_python: str = ""
    yanked: str | None = None
    """The reason, perhaps empty; None for a file that was not."""
    has_metadata: bool = False
    """Whether its METADATA is beside it, at its address with ``.metadata``."""
    metadata_sha256: str = ""
    """Of that file; empty where the index does not say."""
    size: int | None = None
    uploaded: str = ""
    """When, as the index writes it."""
    provenance: str = ""
    """Absolute address of who published it (PEP 740); empty for none."""

    @property
    def sha256(self) -> str:
        """64 hex digits; empty where the index gives none."""
        return self.hashes.get("sha256", "")


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What an index says of one project."""

    name: str
    """Normalised."""
    files: tuple[WheelFile, ...] = ()
    status: str = ""
    """Empty for active, else ``archived``, ``deprecated``, ``quarantined``, or a word that is newer than this."""
    reason: str = ""
    others: int = 0
    """Files that are not wheels, or cannot be told to be this project's."""

    @property
    def said(self) -> str:
        """The status with its reason, for people; empty for active."""
        return f"{self.status}: {self.reason}" if self.reason else self.status


class _Status(msgspec.Struct):
    status: Any = ""
    reason: Any = ""


class _File(msgspec.Struct, rename="kebab"):
    filename: str
    url: str
    hashes: dict[str, Any] = {}
    requires_python: Any = None
    yanked: Any = False
    core_metadata: Any = None
    dist_info_metadata: Any = None
    size: Any = None
    upload_time: Any = None
    provenance: Any = None


class _Meta(msgspec.Struct, rename="kebab"):
    api_version: str = "1.0"


class _Page(msgspec.Struct, rename="kebab"):
    files: list[_File]
    meta: _Meta = msgspec.field(default_factory=_Meta)
    project_status: _Status | None = None


def read_page(raw: bytes, content_type: str, *, name: str, url: str, where: str) -> Project:
    """Read a project's page. name: normalised. url: where it was found in the end; links are relative to it.

    Raises RegistryError for what is no page of the simple API, also for one of a newer major version.
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind.endswith("json"):
            files, status, reason = _from_json(raw, where)
        elif kind.endswith("html") or not kind:
            files, status, reason, url = _from_html(raw, url, where)
        else:
            raise RegistryError(f"its page is of the type {kind[:80]!r}, and no list of files", where=where, do=_DO)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise RegistryError(f"its page cannot be read: {str(error)[:200]}", where=where, do=_DO) from error
    if len(files) > MAX_FILES:
        raise RegistryError(f"its page lists more than {MAX_FILES} files", where=where)
    wheels = tuple(wheel for file in files if (wheel := _wheel(file, name, url)))
    known = status if isinstance(status, str) and _STATUS.fullmatch(status) and status != "active" else ""
    because = " ".join(reason.split())[:200] if known and isinstance(reason, str) else ""
    return Project(name=name, files=wheels, status=known, reason=_printable(because), others=len(files) - len(wheels))


_DO = "See whether the address is that of the simple API (often /simple/)"


def _from_json(raw: bytes, where: str) -> tuple[list[_File], Any, Any]:
    page = msgspec.json.decode(raw, type=ready(_Page))
    if page.meta.api_version.partition(".")[0] != "1":
        raise RegistryError(
            f"it speaks version {page.meta.api_version[:20]} of the simple API, and version 1 is read here",
            where=where,
            do="Update this program",
        )
    stated = page.project_status or _Status()
    return page.files, stated.status, stated.reason


def _anchor(about: dict[str, str]) -> _File:
    href, _, fragment = about["href"].partition("#")
    algorithm, _, digits = fragment.partition("=")
    metadata = about.get("data-core-metadata", about.get("data-dist-info-metadata"))
    kind, _, value = (metadata or "").partition("=")
    return _File(
        filename=unquote(href.partition("?")[0].rpartition("/")[2]),
        url=href,
        hashes={algorithm: digits} if digits else {},
        requires_python=about.get("data-requires-python"),
        yanked=about.get("data-yanked", False),
        core_metadata={kind: value} if value else metadata is not None and metadata != "false",
        provenance=about.get("data-provenance"),
    )


def _from_html(raw: bytes, url: str, where: str) -> tuple[list[_File], Any, Any, str]:
    files, base = list[_File](), ""
    told: dict[str, str] = {}
    for tag, about in tags(raw.decode("utf-8", "replace")):
        if tag == "a" and about.get("href"):
            files.append(_anchor(about))
        elif tag == "base":
            base = base or about.get("href", "")
        elif tag == "meta" and about.get("name"):
            told.setdefault(about["name"], about.get("content", ""))
    version = told.get("pypi:repository-version", "1.0")
    if version.partition(".")[0] != "1":
        said = f"it speaks version {version[:20]} of the simple API, and version 1 is read here"
        raise RegistryError(said, where=where, do="Update this program")
    status, reason = told.get("pypi:project-status"), told.get("pypi:project-status-reason")
    return files, status, reason, urljoin(url, base) if base else url


def _wheel(file: _File, name: str, base: str) -> WheelFile | None:
    """A file as a wheel of the project, None where it is none."""
    url = _absolute(base, file.url)
    if not url or not is_wheel_of(file.filename, name):
        return None
    hashes = {
        algorithm: str(digits).lower()
        for algorithm in _ALGORITHMS
        if isinstance(digits := file.hashes.get(algorithm), str) and _DIGITS.fullmatch(digits.lower())
    }
    if "sha256" in hashes and not _SHA256.fullmatch(hashes["sha256"]):
        return None
    metadata = file.core_metadata if file.core_metadata is not None else file.dist_info_metadata
    provenance = _absolute(base, file.provenance) if isinstance(file.provenance, str) and file.provenance else ""
    return WheelFile(
        filename=file.filename,
        url=url,
        hashes=hashes,
        requires_python=_printable(file.requires_python)[:200] if isinstance(file.requires_python, str) else "",
        yanked=_yanked(file.yanked),
        has_metadata=bool(metadata),
        metadata_sha256=_sha256_of(metadata),
        size=file.size if isinstance(file.size, int) and not isinstance(file.size, bool) and file.size >= 0 else None,
        uploaded=file.upload_time[:40] if isinstance(file.upload_time, str) and file.upload_time.isprintable() else "",
        provenance=provenance,
    )


def _sha256_of(metadata: Any) -> str:
    digits = metadata.get("sha256") if isinstance(metadata, dict) else ""
    return digits if isinstance(digits, str) and _SHA256.fullmatch(digits) else ""


def is_wheel_of(filename: str, name: str) -> bool:
    """Whether a file name is that of a wheel of the project with this normalised name."""
    if "/" in filename or "\\" in filename or not filename.isprintable() or len(filename) > 255:
        return False
    try:
        return str(canonicalize_name(parse_wheel_filename(filename)[0])) == name
    except (InvalidWheelFilename, InvalidVersion):
        return False


def _yanked(said: Any) -> str | None:
    if isinstance(said, str):
        return _printable(" ".join(said.split()))[:200]
    return "" if said is True else None


def _absolute(base: str, link: str) -> str:
    """The address that a link means; empty for what is neither http nor https."""
    try:
        url = urljoin(base, link)
        parts = urlsplit(url)
    except ValueError:
        return ""
    good = parts.scheme in ("http", "https") and parts.netloc
    return url.partition("#")[0] if good and "@" not in parts.netloc and url.isprintable() else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


__all__ = ["ACCEPT", "JSON_TYPE", "MAX_PAGE_BYTES", "Project", "WheelFile", "is_wheel_of", "read_page"]
