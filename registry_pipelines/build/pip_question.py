"""What pip is asked for one platform of a build: requirements, where wheels come from, and for which target."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.find_links_page import archives, offer
from registry_pipelines.build.pip_process import marker_values
from registry_pipelines.build.requirement_lines import (
    Line,
    absolute,
    local_links,
    read_constraints,
    read_lines,
    refuse_other_sources,
)
from registry_pipelines.build.target import WheelTarget
from registry_pipelines.build.wheel_store import WheelStore

if TYPE_CHECKING:  # builds without an index of the configuration load none of it
    from registry_pipelines.build.packages.front import Front

_NOT_OURS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REPORT", "PIP_DRY_RUN", "PIP_REQUIRE_VIRTUALENV")
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What says whom pip believes; the second beats the first."""
_SOURCES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")

_KEPT = ("PIP_CONSTRAINT", "PIP_PRE", "PIP_UPLOADED_PRIOR_TO")
"""What says which versions are wanted, and nothing of where they come from."""

RESUME_RETRIES = "10"
"""A few times in a download of gigabytes over a bad line is usual."""


class Question:
    """folder: an empty one, for files that pip reads and writes. Raises RequirementsInvalid."""

    def __init__(
        self, spec: BuildSpec, target: WheelTarget, folder: Path, indexes: Sequence[object] | None = None
    ) -> None:
        """indexes: what the answer depends on, where the indexes of a configuration are the only sources."""
        self.folder = folder
        self._indexes = indexes
        self.front: Front | None = None
        """What pip sees in place of the indexes, while it is asked."""
        self.where = f"{spec.name}, {target}"
        self.target = target.options()
        self._tags, self.check = target.tags, target.check
        self.markers = marker_values(target)
        self._spec = spec
        self._here = spec.folder.absolute()
        self.lines: list[Line] = read_lines(spec.requirements, spec.requirements_file, folder=self._here)
        self._constraints = read_constraints(os.environ.get("PIP_CONSTRAINT", "").split(), folder=Path.cwd())
        if indexes is not None:
            refuse_other_sources([*self.lines, *self._constraints])

    @cached_property
    def key(self) -> str:
        """Names the question: what pip's answer depends on beside the sources' content."""
        settings = sorted(f"{name}={value}" for name, value in self.environment().items() if name.startswith("PIP_"))
        identity = [
            [(line.expanded, str(line.folder), line.constraint) for line in [*self.lines, *self._constraints]],
            *(self.target, self.markers, [str(self._spec.wheels or ""), *self._spec.find_links], settings),
            *(sys.executable, _pip_version()),
            *([list(self._indexes)] if self._indexes is not None else []),
        ]
        return f"resolution {hashlib.sha256(json.dumps(identity).encode()).hexdigest()}"

    def arguments(self) -> list[str]:
        """The requirements."""
        arguments = []
        if self._spec.requirements:
            lines = self.folder / "requirements.txt"
            lines.write_text("\n".join(absolute(self._spec.requirements, self._here)) + "\n")
            arguments += ["-r", str(lines)]
        if self._spec.requirements_file:
            arguments += ["-r", str(self._spec.requirements_file)]
        return arguments

    def sources(self) -> list[str]:
        """Where wheels come from, beside what the user's own settings of pip say. Folders are offered as a page."""
        arguments = ["--no-index"] if self._spec.wheels else []
        for place, folder in self._places():
            arguments += ["--find-links", self._offered(folder) if folder else place]
        return arguments

    @property
    def advice(self) -> str:
        """What to do when pip finds no set of wheels among what it may take."""
        if self._indexes is not None:
            return (
                "Each package needs a wheel for this Python in the index that it comes from "
                f"({', '.join(self._spec.index)}); `registry-pipelines packages check PROJECT` says which that is"
            )
        if self._spec.wheels:
            return (
                f"No index is asked beside `wheels`: each package needs a wheel for this Python in {self._spec.wheels}"
            )
        return "Only wheels are used; loosen or pin the requirements so that every package has one for this platform"

    def environment(self) -> Mapping[str, str]:
        """pip's. With a folder of wheels nothing else is a source, so neither the user's indexes nor configuration
        files count. Certificates that other programs trust by SSL_CERT_FILE are believed by every pip."""
        dropped = (*_NOT_OURS, *_SOURCES) if self._spec.wheels else _NOT_OURS
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        if self._indexes is not None:  # what says where and how pip asks is the front's to say
            environment = {
                name: value for name, value in environment.items() if not name.startswith("PIP_") or name in _KEPT
            }
        if self._spec.wheels:
            environment["PIP_CONFIG_FILE"] = os.devnull
        if (
            environment.get("SSL_CERT_FILE")
            and not any(environment.get(name) for name in _CERTIFICATES)
            and _is_old_pip()
        ):
            environment["REQUESTS_CA_BUNDLE"] = environment["SSL_CERT_FILE"]
        return environment | {
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # pip 26.3 believes a page for as long as its index says, ten minutes on the public one; older pips, which
            # pass over this, always ask. Asked is only whether the page changed.
            "PIP_REFRESH_PACKAGE": ":all:",
            "PYTHONWARNINGS": "ignore",
            # A cut download goes on where it was cut from pip 25.1 on, which by itself gives up; older ones begin anew.
            "PIP_RESUME_RETRIES": environment.get("PIP_RESUME_RETRIES") or RESUME_RETRIES,
        }

    @cached_property
    def folders_hold(self) -> list[list[str | int]] | None:
        """What the sources hold, when all of them are local folders or files: names, sizes, times; else None."""
        named = local_links([*self.lines, *self._constraints])
        if not self._spec.wheels or named is None:
            return None
        files: list[list[str | int]] = []
        for _, folder in [*self._places(), *(("", path) for path in named)]:
            if folder is None:
                return None
            for path in archives(folder) if folder.is_dir() else [folder]:
                try:
                    state = path.stat()
                except OSError:
                    return None
                files.append([str(path), state.st_size, state.st_mtime_ns, state.st_ino])
        return files

    def likely_wheels(self) -> list[Path]:
        """Wheels that fit, of the folder that is the only source, largest first: most of them will be the answer."""
        places = self._places()
        if len(places) != 1 or not self._spec.wheels or not places[0][1] or not places[0][1].is_dir():
            return []
        sized, tags = [], self._tags()
        for path in archives(places[0][1]):
            with contextlib.suppress(OSError, InvalidWheelFilename, InvalidVersion):
                if not tags.isdisjoint(parse_wheel_filename(path.name)[3]):
                    sized.append((-path.stat().st_size, path))
        return [path for _, path in sorted(sized)]

    def other_content(self, filename: str, sha256: str, store: WheelStore) -> str:
        """A folder among the sources that has another file under this name; empty without."""
        for place, folder in self._places():
            path = folder / filename if folder else None
            if path and path.is_file() and store.sha256(path) != sha256:
                return place
        return ""

    def _places(self) -> list[tuple[str, Path | None]]:
        """Each place as written, and as a path where it is one."""
        written = [*([str(self._spec.wheels)] if self._spec.wheels else []), *self._spec.find_links]
        return [(place, None if "://" in place else self._here / place) for place in written]

    def _offered(self, path: Path) -> str:
        """A page of a folder's wheels; a file, which is such a page already."""
        if path.is_file():
            return str(path)
        name = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        page = self.folder / "links" / name / "index.html"
        return str(page if page.exists() else offer(path, page.parent))


_VERSION = re.compile(r"^__version__ = [\"'](.+)[\"']", re.MULTILINE)


def _pip_version() -> str:
    """As pip's own file says it; empty without pip. ``importlib.metadata`` takes longer to load than a build that finds
    everything made takes to ask the registry."""
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        return ""
    with contextlib.suppress(OSError):
        if found := _VERSION.search(Path(spec.origin).read_text(encoding="utf-8", errors="replace")):
            return found[1]
    return ""


def _is_old_pip() -> bool:
    """From 24.2 on pip believes SSL_CERT_FILE by itself."""
    return tuple(int(part) for part in re.findall(r"\d+", _pip_version())[:2]) < (24, 2)
