"""Requirements to pinned wheels, by pip's own resolver and with the user's own pip settings.

``pip install --dry-run --report`` answers which files would be installed, with their hashes; ``pip download`` fetches
those that are not in the store yet, hash-checked. Indexes, credentials, proxies and certificates are pip's business.
Traps: pip 23 takes ``--platform`` only together with ``--target``, even for a dry run; with ``--platform`` it still
judges environment markers (``platform_machine``) by the running machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.interface import BuildSpec, LockedWheel
from registry_pipelines.errors import DiskFull, LocalError, RequirementsInvalid, ToolMissing, WheelInvalid
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.platforms import Platform

PIP_TIMEOUT_S = 3600
"""Downloading a CUDA stack of 5 GB over a slow line."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
"""pip's report repeats the metadata of every package; 300 packages give about 5 MB."""

GLIBC_MINORS = (28, 27, 26, 24, 17, 12, 5)
"""manylinux levels asked for on another platform, best first: images from Debian 10 and RHEL 8 on have glibc 2.28."""

SCRATCH_LIFE_S = 24 * 3600
"""No resolution takes longer; an older scratch folder belongs to a build that was killed."""

_SCRATCH = "resolve-"

RUNNING_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "ppc64le": "ppc64le", "s390x": "s390x"}
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
CREDENTIALS = re.compile(r"://[^/@\s]+@")
"""User name and password in addresses, as pip prints them."""
_NOT_OURS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REPORT", "PIP_DRY_RUN", "PIP_REQUIRE_VIRTUALENV")


@dataclass(frozen=True)
class StoredWheel:
    """A pinned wheel and where its file is kept."""

    locked: LockedWheel
    path: Path


class WheelStore:
    """Wheel files by hash: ``<root>/<sha256>/<filename>``. What is in it was verified when it came in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, sha256: str, filename: str) -> Path | None:
        """The file, None when it is not there."""
        path = self.root / sha256 / filename
        return path if path.is_file() else None

    def verify(self, path: Path, sha256: str) -> None:
        """Check a stored file again; a damaged one is removed, so that it is fetched anew. Raises WheelInvalid."""
        try:
            check_sha256(path, sha256)
        except WheelInvalid:
            path.unlink(missing_ok=True)
            raise

    def sweep(self) -> None:
        """Remove what builds that were killed left behind, a day after."""
        for folder in self.root.glob(f"{_SCRATCH}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > SCRATCH_LIFE_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def take(self, path: Path, sha256: str) -> Path:
        """Move a file in. Raises WheelInvalid when it has another hash."""
        check_sha256(path, sha256)
        target = self.root / sha256 / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return target


def check_sha256(path: Path, sha256: str) -> None:
    """Raise WheelInvalid unless the file has this hash."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WheelInvalid(
            f"its sha256 is {found}, expected {sha256}", where=path.name, do="Build again; the file is fetched anew"
        )


def resolve(
    spec: BuildSpec, platform: Platform, python: str, *, store: WheelStore, cache: BuildCache
) -> list[StoredWheel]:
    """The wheels the requirements mean on a platform, sorted by name, all in the store.

    Raises RequirementsInvalid (pip's own words), ToolMissing without pip.
    pip is asked every time, unless the requirements pin every package of its last answer.
    """
    if not spec.requirements and not spec.requirements_file:
        return []
    with disk_errors(store.root):
        store.root.mkdir(parents=True, exist_ok=True)
    store.sweep()
    with disk_errors(store.root), tempfile.TemporaryDirectory(dir=store.root, prefix=_SCRATCH) as name:
        question = _Question(spec, platform, python, Path(name))
        items = _reusable(cache.note(question.key), question.lines, store)
        if items is None:
            items = _ask(question)
            _fetch(question, [item for item in items if not store.find(item["sha256"], item["filename"])], store)
            cache.remember_note(question.key, items)
    return [_stored(item, store) for item in sorted(items, key=lambda item: str(item["name"]))]


class _Question:
    """What pip is asked: requirement arguments and target options."""

    def __init__(self, spec: BuildSpec, platform: Platform, python: str, folder: Path) -> None:
        self.folder = folder
        self.where = f"{spec.name}, {platform}, Python {python}"
        self.lines = list(spec.requirements)
        self.arguments: list[str] = []
        if spec.requirements:
            lines = folder / "requirements.txt"
            lines.write_text("\n".join(spec.requirements) + "\n")
            self.arguments += ["-r", str(lines)]
        if spec.requirements_file:
            self.lines += _read_lines(spec.requirements_file)
            self.arguments += ["-r", str(spec.requirements_file)]
        self.source = ["--no-index", "--find-links", str(spec.wheels)] if spec.wheels else []
        self.target = _target_options(platform, python)
        settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_"))
        identity = json.dumps([self.lines, self.target, self.source, settings, sys.executable])
        self.key = f"resolution {hashlib.sha256(identity.encode()).hexdigest()}"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementsInvalid(f"the requirements file cannot be read: {error}", where=str(path)) from error


def _target_options(platform: Platform, python: str) -> list[str]:
    if platform == Platform.here() and python == RUNNING_PYTHON:
        return []
    machine = _MACHINES.get(platform.architecture)
    if platform.os != "linux" or machine is None:
        raise RequirementsInvalid(f"there are no wheels for {platform}", do=f"Use linux with {', '.join(_MACHINES)}")
    names = [name for minor in GLIBC_MINORS for name in (f"manylinux_2_{minor}", _LEGACY.get(minor)) if name]
    options = ["--python-version", python, "--implementation", "cp"]
    for name in (*names, "linux"):
        options += ["--platform", f"{name}_{machine}"]
    return options


def _ask(question: _Question) -> list[dict[str, Any]]:
    report = question.folder / "report.json"
    target = ["--target", str(question.folder / "target"), *question.target] if question.target else []
    _pip(
        [
            *(
                "install",
                "--dry-run",
                "--ignore-installed",
                "--quiet",
                "--only-binary",
                ":all:",
                "--report",
                str(report),
            ),
            *(*target, *question.source, *question.arguments),
        ],
        question,
    )
    if report.stat().st_size > MAX_REPORT_BYTES:
        raise RequirementsInvalid(f"pip's report is larger than {MAX_REPORT_BYTES} bytes", where=question.where)
    answer = json.loads(report.read_bytes())
    return [_read_item(item, question.where) for item in answer["install"]]


def _read_item(item: dict[str, Any], where: str) -> dict[str, Any]:
    info = item["download_info"]
    url = urlsplit(info["url"])
    filename = unquote(url.path.rpartition("/")[2])
    name = str(canonicalize_name(item["metadata"]["name"]))
    try:
        parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise RequirementsInvalid(
            f"{name} is not a wheel ({filename})", where=where, do="Build a wheel of it first (`pip wheel`)"
        ) from error
    sha256 = info.get("archive_info", {}).get("hashes", {}).get("sha256", "")
    if not sha256 and url.scheme == "file":
        with Path(unquote(url.path)).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise RequirementsInvalid(f"the index gives no sha256 of {filename}", where=where, do="Use an index that does")
    version = str(item["metadata"]["version"])
    return {"name": name, "version": version, "filename": filename, "sha256": sha256, "url": info["url"]}


def _fetch(question: _Question, items: Sequence[dict[str, Any]], store: WheelStore) -> None:
    """Download by the exact addresses of the report; the index options of the requirements go along for credentials."""
    if not items:
        return
    options = [line for line in question.lines if line.lstrip().startswith("-") and not _INCLUDE.match(line)]
    pins = [f"{item['name']} @ {item['url']} --hash=sha256:{item['sha256']}" for item in items]
    wanted = question.folder / "pins.txt"
    wanted.touch(mode=0o600)
    wanted.write_text("\n".join([*options, *pins]) + "\n")
    downloads = question.folder / "wheels"
    _pip(
        [
            *("download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-d", str(downloads)),
            *(*question.target, *question.source, "-r", str(wanted)),
        ],
        question,
    )
    for item in items:
        path = downloads / item["filename"]
        if not path.is_file():
            raise LocalError(f"pip did not fetch {item['filename']}", where=question.where)
        store.take(path, item["sha256"])


_INCLUDE = re.compile(
    r"\s*(-r|-c|-e|--requirement|--constraint|--editable|--require-hashes|--only-binary|--no-binary)\b"
)


def _pip(arguments: Sequence[str], question: _Question) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    environment |= {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=PIP_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"pip did not finish: {error}", where=question.where) from error
    if done.returncode == 0:
        return
    output = CREDENTIALS.sub("://", (done.stderr or done.stdout)[-4000:].decode(errors="replace")).strip()
    if "No space left on device" in output:
        raise DiskFull("pip found no space left", where=question.where, do="Free space or choose another state folder")
    if "No module named pip" in output:
        raise ToolMissing("pip is not installed", where=sys.executable, do="Run `python -m ensurepip`")
    raise RequirementsInvalid(
        f"pip found no set of wheels: {output}",
        where=question.where,
        do="Only wheels are used; loosen or pin the requirements so that every package has one for this platform",
    )


def _reusable(items: Any, lines: Sequence[str], store: WheelStore) -> list[dict[str, Any]] | None:
    """The last answer, when the requirements pin each of its packages and all files are there."""
    if not items:
        return None
    pinned: dict[str, str] = {}
    for line in lines:
        text = line.partition(" #")[0].strip()
        if not text or (text.startswith(("#", "-")) and not _INCLUDE.match(text)):
            continue
        try:
            requirement = Requirement(text.partition(" --hash")[0].rstrip("\\ "))
        except InvalidRequirement:
            return None
        pins = [part.version for part in requirement.specifier if part.operator == "==" and "*" not in part.version]
        if len(pins) == 1:
            pinned[canonicalize_name(requirement.name)] = pins[0]
    complete = all(
        pinned.get(item["name"]) == item["version"] and store.find(item["sha256"], item["filename"]) for item in items
    )
    return list(items) if complete else None


def _stored(item: dict[str, Any], store: WheelStore) -> StoredWheel:
    path = store.root / item["sha256"] / item["filename"]
    locked = LockedWheel(
        name=item["name"],
        version=item["version"],
        filename=item["filename"],
        sha256=item["sha256"],
        size=path.stat().st_size,
    )
    return StoredWheel(locked, path)
