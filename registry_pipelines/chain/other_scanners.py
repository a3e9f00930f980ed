"""trivy and grype beside our own advisories: their programs are started for each image of a release, or reports that
somebody else made are read.

The program gets the image by digest, is told what the configuration says of how the registry is reached (``ca_file``,
``plain_http``), and gets no credentials of ours: what it needs to log in, its own environment has. Nothing that it may
do wrong ends a scan: it becomes an unknown of the report, and the policy decides.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from registry_pipelines.chain.places import address
from registry_pipelines.config import Config
from registry_pipelines.config.registries import LayoutRegistry, StoreRegistry
from registry_pipelines.config.scanning import Scanner
from registry_pipelines.dialing import authorities_pem
from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.other_scanners import Opinion, about_scanner
from registry_pipelines.scan.report import OtherScanner, PlatformPackages, UnknownKind
from registry_pipelines.scan.scanner_documents import MAX_SCANNER_BYTES, Scanned, ScannerKind, read_opinion
from registry_pipelines.threads import started_child

MAX_MESSAGE_BYTES = 1 << 20
"""Of what a program says on stderr; the last line is shown."""

_COMMANDS: dict[str, tuple[str, ...]] = {
    "trivy": ("image", "--quiet", "--format", "json", "--scanners", "vuln", "--list-all-pkgs", "--image-src", "remote"),
    "grype": ("--output", "json"),  # with --quiet it does not say why it failed (0.121)
}

_PASSED = ("PATH", "HOME", "TMPDIR", "LANG", "XDG_CACHE_HOME", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PASSED_PREFIXES = (
    "TRIVY_CACHE_DIR",
    "TRIVY_DB_",
    "TRIVY_JAVA_DB_",
    "TRIVY_OFFLINE_SCAN",
    "TRIVY_SKIP_DB_UPDATE",
    "GRYPE_DB_",
    "TRIVY_INSECURE",
    "TRIVY_NON_SSL",
    "TRIVY_USERNAME",
    "TRIVY_PASSWORD",
    "TRIVY_REGISTRY_TOKEN",
    "GRYPE_REGISTRY_",
)
"""Of the environment: where the data is, and how registries are reached. What would leave findings out (TRIVY_SEVERITY,
TRIVY_IGNOREFILE, GRYPE_CONFIG, ...) is not passed on, and the program runs in an empty folder: a configuration there
would count."""

_INSECURE = (
    "the registry speaks plain HTTP, which trivy does with TRIVY_INSECURE=true alone; it then does not check who "
    "answers where its database comes from, either"
)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_BUSY = ("may be in use by another process", "database is locked", "too many requests", "toomanyrequests")
"""What they say when the same could be done later (aquasecurity/trivy#650, #3145; trivy-db#442)."""


def opinions(place: Place, release: Release, packages: Sequence[PlatformPackages], config: Config) -> list[Opinion]:
    """What trivy and grype say about each image of a release, where they are among the scanners. Raises RegistryError;
    whatever is wrong with a scanner is an unknown."""
    scanners = {kind: scanner for kind, scanner in config.scanners.items() if kind in _COMMANDS}
    if not scanners:
        return []
    top = place.registry.get_manifest(place.repository, release.digest)
    images = images_of(read_entries(place, top, configs=False))
    types = {
        each.manifest.digest: frozenset(component.type for component in each.components if component.declared)
        for each in packages
    }
    return [
        _opinion(
            cast("ScannerKind", kind), scanner, place, release, entry, types.get(entry.digest, frozenset()), config
        )
        for kind, scanner in scanners.items()
        for entry in images
    ]


def _opinion(
    kind: ScannerKind,
    scanner: Scanner,
    place: Place,
    release: Release,
    entry: Entry,
    types: frozenset[str],
    config: Config,
) -> Opinion:
    scanned = Scanned(release.digest, entry.digest, entry.manifest.config.digest, types)
    try:
        if scanner.reports:
            raw, database = _read(scanner, release, entry, config.path.parent)
        else:
            raw, database = _run(kind, scanner, place, entry, _way(config, place))
        return read_opinion(kind, raw, scanned, database=database, where=kind)
    except ManifestInvalid as error:
        problem = _Problem("unreadable", error.what)
    except _Problem as told:
        problem = told
    nobody = OtherScanner(name=kind, covers=())
    return Opinion(nobody, unknowns=(about_scanner(problem.kind, kind, f"{entry.digest.short}: {problem.reason}"),))


class _Problem(Exception):
    """Why there is no report."""

    def __init__(self, kind: UnknownKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def _read(scanner: Scanner, release: Release, entry: Entry, folder: Path) -> tuple[bytes, bytes]:
    names = {"digest": entry.digest.hex, "release": release.digest.hex, "image": release.image, "tag": release.tag}
    text = scanner.reports
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    report = _file(folder / Path(text).expanduser())
    return report, _file(folder / scanner.database) if scanner.database else b""


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SCANNER_BYTES + 1)
    except FileNotFoundError as error:
        raise _Problem("pending", f"there is no {path.name} yet") from error
    except OSError as error:
        raise _Problem("unreadable", f"{path.name}: {error.strerror}") from error


class _Way(NamedTuple):
    """How a registry is reached, as far as the configuration says it and a scanner cannot know."""

    ca_file: Path | None = None
    plain_http: bool = False


def _way(config: Config, place: Place) -> _Way:
    host = str(place).partition("/")[0]
    for settings in config.registries.values():
        if not isinstance(settings, LayoutRegistry | StoreRegistry) and address(settings) == host:
            return _Way(settings.ca_file, getattr(settings, "plain_http", None) is True)
    return _Way()


def _run(kind: ScannerKind, scanner: Scanner, place: Place, entry: Entry, way: _Way) -> tuple[bytes, bytes]:
    program = scanner.program or kind
    reference = f"{place}@{entry.digest}"
    target = reference if kind == "trivy" else f"registry:{reference}"
    limit = scanner.timeout.total_seconds()
    try:
        report = _output(program, (*_COMMANDS[kind], target), kind, limit, way)
    except _Problem as problem:
        if kind == "trivy" and way.plain_http and "TRIVY_INSECURE" not in os.environ:
            problem.reason += f"; {_INSECURE}"
        raise
    # trivy's report does not say how old its data is.
    return report, _output(program, ("version", "--format", "json"), kind, limit, way) if kind == "trivy" else b""


def _output(program: str, arguments: Sequence[str], kind: str, timeout_s: float, way: _Way) -> bytes:
    """What a program prints. It runs in an empty folder, so that no configuration or list of exceptions is found."""
    with (
        tempfile.TemporaryDirectory(prefix="registry-pipelines-") as folder,
        _environment(way) as environment,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):
        try:
            with started_child(
                [program, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=environment,
            ) as child:
                code = child.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise _Problem("pending", f"{kind} did not end within {timeout_s:.0f} s") from error
        except FileNotFoundError as error:
            raise _Problem("incomplete", f"{program} is not installed on the machine that scanned") from error
        except OSError as error:
            raise _Problem("incomplete", f"{program} cannot be started: {error.strerror}") from error
        out.seek(0)
        errors.seek(0)
        said = errors.read(MAX_MESSAGE_BYTES).decode(errors="replace")
        if code:
            raise _failed(kind, code, said)
        return out.read(MAX_SCANNER_BYTES + 1)


def _failed(kind: str, code: int, said: str) -> _Problem:
    lines = [" ".join(line.split()) for line in _COLOURS.sub("", said).splitlines() if line.strip()]
    last = lines[-1][:200] if lines else "it said nothing"
    if any(word in said.lower() for word in _BUSY):
        return _Problem("pending", f"{kind} was busy: {last}")
    if re.search(r"(?i)\bdb\b|database", said):
        return _Problem("uncovered", f"{kind} has no usable database: {last}")
    return _Problem("incomplete", f"{kind} ended with {code}: {last}")


@contextmanager
def _environment(way: _Way) -> Iterator[dict[str, str]]:
    """The variables of a program, with a file of the authorities that it is to trust."""
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    own = {"GRYPE_CHECK_FOR_APP_UPDATE": "false", "TRIVY_SKIP_VERSION_CHECK": "true", "TRIVY_SHOW_SUPPRESSED": "true"}
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.lower() in proxies or name.startswith(_PASSED_PREFIXES)
    }
    if way.plain_http:
        passed.setdefault("GRYPE_REGISTRY_INSECURE_USE_HTTP", "true")
    if way.ca_file is None:
        yield passed | own
        return
    with tempfile.NamedTemporaryFile(prefix="registry-pipelines-", suffix=".pem") as file:
        try:
            file.write(_system_authorities() + authorities_pem(str(way.ca_file)))
            file.flush()
        except OSError as error:
            raise _Problem("incomplete", f"{way.ca_file} cannot be read: {error}") from error
        yield passed | own | {"SSL_CERT_FILE": file.name}


def _system_authorities() -> bytes:
    """Go reads one file in place of the system's, which a program needs to fetch its database. Where the system has a
    folder of them alone, Go reads that beside the file."""
    path = ssl.get_default_verify_paths().cafile
    return Path(path).read_bytes() + b"\n" if path else b""
