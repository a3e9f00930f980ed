"""Where this node's containerd asks for the images of a host: the folders of ``certs.d``, read as it reads them.

``<folder>/<host>_<port>_/``, ``<folder>/<host>/`` or ``<folder>/_default/``, the first that is there, holds
``hosts.toml``; without that file it holds certificates, as Docker has them (containerd, ``docs/hosts.md``,
``core/remotes/docker/config/hosts.go``). What we cannot follow is named, and left out.
"""

from __future__ import annotations

import json
import tomllib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.errors import ConfigInvalid, ReferenceInvalid
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.references import check_repository
from registry_pipelines.settings import HOST

FOLDER = Path("/etc/containerd/certs.d")
MAX_BYTES = 1 << 20
MAX_HOSTS = 32
"""Each may be asked for each blob."""
MAX_HEADERS = 32
CAPABILITIES = ("pull", "resolve", "push")
_HEADER = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Endpoint:
    """One place to ask. host: with its port where one is written. prefix: before the repositories there."""

    host: str
    plain: bool = False
    prefix: str = ""
    resolves: bool = True
    ca_files: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()
    """Certificate and key."""
    skip_verify: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def usual(self) -> bool:
        """Whether it is asked as any registry of that name is."""
        return not (self.plain or self.ca_files or self.client or self.skip_verify or self.headers)


@dataclass(frozen=True)
class Hosts:
    """Where a host's images are asked for. endpoints: in this order; the host itself is among them only where the file
    says so. left_out: what we cannot follow, a sentence each."""

    endpoints: tuple[Endpoint, ...]
    server: bool = False
    """Whether the last of them is in the host's own place, so that nothing comes after it."""
    left_out: tuple[str, ...] = ()


def find_hosts(host: str, folders: Sequence[Path]) -> Hosts | None:
    """What a node says about a host (``docker.io``, ``registry.example.com:5000``); None for nothing. Raises
    ConfigInvalid with every problem of the file, LocalError for one that cannot be read."""
    name, colon, port = host.rpartition(":")
    names = [f"{name}_{port}_", host] if colon else [host]
    for folder in (folder / each for folder in folders for each in (*names, "_default")):
        with local_errors(folder):
            if folder.is_dir():
                return _read(folder, host)
    return None


def _read(folder: Path, host: str) -> Hosts | None:
    path = folder / "hosts.toml"
    if path.exists():
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigInvalid([f"{path}: it has more than {MAX_BYTES} bytes"])
        return parse_hosts(raw, path)
    ca_files = tuple(sorted(folder.glob("*.crt")))
    client = tuple((each, each.with_suffix(".key")) for each in sorted(folder.glob("*.cert")))
    return Hosts((Endpoint(host, ca_files=ca_files, client=client),), server=True) if ca_files or client else None


def parse_hosts(raw: bytes, path: Path) -> Hosts:
    """A ``hosts.toml``. path: of the file, for errors and what it names relative to its folder. Raises ConfigInvalid
    with every problem."""
    try:
        document = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid([f"{path}: it is no TOML: {str(error)[:200]}"]) from error
    reading = _Reading(path)
    tables = document.get("host", {})
    if not isinstance(tables, dict):
        reading.problem("host", "is no table")
        tables = {}
    if len(tables) > MAX_HOSTS:
        reading.problem("host", f"has more than {MAX_HOSTS} entries")
    found = [
        reading.endpoint(url, table, f"host.{json.dumps(_shown(url))}")
        for url, table in list(tables.items())[:MAX_HOSTS]
    ]
    server = document.get("server")
    if server is not None:
        found.append(reading.endpoint(server, document, "server"))
    if reading.wrong:
        raise ConfigInvalid(reading.wrong)
    return Hosts(tuple(each for each in found if each), server is not None, tuple(reading.left_out))


def _shown(url: str) -> str:
    """An address as it may stand in a log: without a password, and what stands behind a question mark may be one."""
    front, at, rest = url.partition("?")[0].rpartition("@")
    scheme, slashes, _ = front.rpartition("//")
    return f"{scheme}{slashes}...@{rest}"[:200] if at else rest[:200]


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.wrong: list[str] = []
        self.left_out: list[str] = []

    def problem(self, where: str, what: str) -> None:
        self.wrong.append(f"{self._path}: {where[:300]}: {what}")

    def endpoint(self, url: object, table: object, where: str) -> Endpoint | None:
        if not isinstance(url, str) or not isinstance(table, dict):
            self.problem(where, "is not an address with settings below it")
            return None
        address = self._address(url, table, where)
        capabilities = self._capabilities(table, where)
        more: dict[str, Any] = {
            "ca_files": tuple(self._files(table.get("ca"), f"{where}.ca")),
            "client": tuple(self._client(table.get("client"), f"{where}.client")),
            "skip_verify": self._flag(table, "skip_verify", where),
            "headers": self._headers(table.get("header"), f"{where}.header"),
        }
        if address is None or "pull" not in capabilities:
            return None
        host, plain, prefix = address
        return Endpoint(host, plain, prefix, resolves="resolve" in capabilities, **more)

    def _address(self, url: str, table: Mapping[str, Any], where: str) -> tuple[str, bool, str] | None:
        """Host, whether without TLS, and the path before the repositories; None for one that is left out, or wrong."""
        whole = url if "://" in url else f"https://{url}"
        try:
            parts = urllib.parse.urlsplit(whole)
            host = HOST.check(parts.netloc)
            is_one = parts.port != 0 and parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
        except ValueError:
            is_one = False
        if not is_one:
            self.problem(where, f"{_shown(url)!r} is no address of a registry; write https://host:port")
            return None
        path = parts.path.strip("/")
        override = self._flag(table, "override_path", where)
        if not override and not path:
            return host, parts.scheme == "http", ""
        first, _, prefix = path.partition("/")
        if not override or first != "v2":
            told = "is asked below a path of its own before /v2, which is not followed here"
            self.left_out.append(f"{self._path}: {_shown(url)!r} {told}")
            return None
        try:
            return host, parts.scheme == "http", check_repository(prefix) if prefix else ""
        except ReferenceInvalid:
            self.problem(where, f"{prefix[:200]!r} is no beginning of repositories")
            return None

    def _capabilities(self, table: Mapping[str, Any], where: str) -> Sequence[str]:
        told = table.get("capabilities", list(CAPABILITIES))
        if not isinstance(told, list) or not all(isinstance(each, str) for each in told):
            self.problem(f"{where}.capabilities", "is no list of words")
            return ()
        return told or CAPABILITIES

    def _flag(self, table: Mapping[str, Any], name: str, where: str) -> bool:
        told = table.get(name, False)
        if not isinstance(told, bool):
            self.problem(f"{where}.{name}", "is neither true nor false")
        return told is True

    def _files(self, told: object, where: str) -> Iterator[Path]:
        for each in [told] if isinstance(told, str) else told if isinstance(told, list) else []:
            if isinstance(each, str) and each and "\0" not in each:
                yield self._path.parent / each
            else:
                self.problem(where, "names no file")
        if told is not None and not isinstance(told, str | list):
            self.problem(where, "is neither a file nor a list of files")

    def _client(self, told: object, where: str) -> Iterator[tuple[Path, Path]]:
        """One file with both, a list of such, or of pairs; the key of a pair may be empty, and is in the other then."""
        for each in [told] if isinstance(told, str) else told if isinstance(told, list) else []:
            names = [each] if isinstance(each, str) else each if isinstance(each, list) else []
            texts = [name for name in names if isinstance(name, str) and "\0" not in name]
            if len(texts) == len(names) in (1, 2) and texts[0]:
                yield self._path.parent / texts[0], self._path.parent / (texts[-1] or texts[0])
            else:
                self.problem(where, "is neither a certificate with its key, nor a pair of files")
        if told is not None and not isinstance(told, str | list):
            self.problem(where, "is neither a file nor a list of files")

    def _headers(self, told: object, where: str) -> dict[str, str]:
        """Values may be secret: none is repeated."""
        found: dict[str, str] = {}
        if told is not None and (not isinstance(told, dict) or len(told) > MAX_HEADERS):
            self.problem(where, f"is no table of at most {MAX_HEADERS} headers")
            return found
        for name, value in (told or {}).items():
            values = value if isinstance(value, list) else [value]
            good = all(isinstance(each, str) and each.isprintable() and each.isascii() for each in values)
            if not name or not set(name.lower()) <= _HEADER or not good:
                self.problem(where, f"{name[:80]!r} is no header with its text")
            else:
                found[name] = ", ".join(values)
        return found


__all__ = ["FOLDER", "Endpoint", "Hosts", "find_hosts", "parse_hosts"]
