"""What wheels are chosen for: a Python, a platform, and the C library of the base.

Tags come from ``packaging.tags``, PEP 600 (manylinux) and PEP 656 (musllinux): a base takes every level up to the
version of its C library. What pip chose is looked at once more with the same tags.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags, sys_tags
from packaging.utils import parse_wheel_filename

from registry_pipelines.build.bases import BaseImage
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.c_library import MACHINES, BaseFacts, CLibrary, read_base, stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.errors import InputError, RequirementsInvalid
from registry_pipelines.oci.platforms import Platform

RUNNING_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_PYTHON = re.compile(r"3\.(\d+)(t?)\Z")
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
"""First manylinux level of a machine; 17 for all others (PEP 599)."""


@dataclass(frozen=True)
class WheelTarget:
    """What wheels must fit. Raises InputError, RequirementsInvalid for a platform without wheels."""

    platform: Platform
    python: str
    """``3.12``; ``3.13t`` when it is free-threaded."""
    c_library: CLibrary | None = None
    """None: that of this machine, and this Python."""
    full_version: str = ""
    """``3.12.4`` where it is known; ``Requires-Python`` is judged by it."""

    def __post_init__(self) -> None:
        if not _PYTHON.match(self.python):
            raise InputError(f"python {self.python!r} is not a version", do="Write 3.12, or 3.13t when free-threaded")
        if self.c_library and (self.platform.os != "linux" or not self.machine):
            raise RequirementsInvalid(f"there are no wheels for {self.platform}", do=f"Use linux with {_known()}")

    @property
    def running(self) -> bool:
        """Whether pip's own look at this machine is the answer."""
        return self.c_library is None

    def options(self) -> list[str]:
        """pip's; it takes them only together with ``--target``."""
        if self.running:
            return []
        version = self.full_version or self.python.rstrip("t")
        options = ["--python-version", version, "--implementation", "cp", "--abi", self._abi]
        for name in self._platforms():
            options += ["--platform", name]
        return options

    def tags(self) -> frozenset[Tag]:
        """All tags that fit."""
        if self.running:
            return frozenset(sys_tags())
        version, platforms = self._version, list(self._platforms())
        tags = cpython_tags(version, abis=[self._abi], platforms=platforms)
        return frozenset([*tags, *compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)])

    def check(self, filenames: Iterable[str]) -> None:
        """Raise RequirementsInvalid for a wheel that does not fit, whatever chose it."""
        fitting = self.tags()
        for filename in filenames:
            if fitting.isdisjoint(parse_wheel_filename(filename)[3]):
                raise RequirementsInvalid(
                    f"{filename} does not fit {self}",
                    do="Name a version that has a wheel for it, or take another base",
                )

    def _with(self) -> str:
        if self.c_library is None:
            return " and the C library of this machine"
        return f" with C library {self.c_library} ({self.c_library.source})"

    def __str__(self) -> str:
        return f"Python {self.python}{self._with()}, {self.platform}"

    @property
    def _version(self) -> tuple[int, int]:
        match = _PYTHON.match(self.python)
        return 3, int(match[1]) if match else 0

    @property
    def _abi(self) -> str:
        minor = self._version[1]
        return f"cp3{minor}" + ("t" if self.python.endswith("t") else "m" if minor < 8 else "")

    @property
    def machine(self) -> str:
        """The architecture as wheel tags name it; empty when there are none."""
        normal = self.platform.normal
        if normal.architecture == "arm" and normal.variant != "v7":
            return ""
        return MACHINES.get(normal.architecture, "")

    def _platforms(self) -> Iterator[str]:
        """Platform tags, best first."""
        library = self.c_library
        if library is None or library.kind == "none":
            yield "any"
            return
        if library.kind == "musl":
            for minor in range(library.minor, -1, -1):
                yield f"musllinux_{library.major}_{minor}_{self.machine}"
        else:
            for minor in range(library.minor, _OLDEST_GLIBC.get(self.machine, 17) - 1, -1):
                yield f"manylinux_{library.major}_{minor}_{self.machine}"
                if minor in _LEGACY:
                    yield f"{_LEGACY[minor]}_{self.machine}"
        yield f"linux_{self.machine}"


def _known() -> str:
    return ", ".join(name for name in MACHINES if name != "arm") + " or arm/v7"


def target_of(spec: BuildSpec, platform: Platform, base: BaseImage | None, cache: BuildCache) -> WheelTarget:
    """The target of a build for one platform. base: None for the interpreter base.

    The layers of a base are read only where there are wheels to choose. Raises InputError when the C library cannot
    be known, and what ``read_base`` raises.
    """
    if base is None:
        if spec.libc:
            raise InputError(
                "libc is said of a base image, and this is the interpreter base, which has that of this machine",
                where=spec.name,
                do="Leave libc out, or name an image as base",
            )
        return WheelTarget(platform, spec.python or RUNNING_PYTHON)
    said = _said_version(base)
    stated = stated_c_library(spec.libc) if spec.libc else None
    wanted = bool(spec.requirements or spec.requirements_file)
    if wanted:
        WheelTarget(
            platform, RUNNING_PYTHON, CLibrary("none", 0, 0, "")
        )  # no layer is read for a platform without wheels
    facts = BaseFacts(None, "", ())
    if (wanted and not stated) or (spec.python and not said.startswith(f"{spec.python}.")):
        layers = list(zip(base.manifest.layers, base.diff_ids, strict=True))
        facts = read_base(base.place, layers, platform, cache=cache)
    python = _python_of(spec, said, facts)
    if not wanted:
        return WheelTarget(platform, python)
    library = stated or facts.c_library
    if library is None:
        raise InputError(
            f"the C library of the base cannot be told: {facts.why}",
            where=f"{base.reference}, {platform}",
            do="Say it with `libc: glibc-2.31` or `libc: musl-1.2`; `libc: none` takes pure Python wheels only",
        )
    return WheelTarget(platform, python, library, said if said.startswith(f"{python.rstrip('t')}.") else "")


def _said_version(base: BaseImage) -> str:
    """The base's PYTHON_VERSION (official images set it) as numbers with dots; empty without."""
    environment = dict(variable.split("=", 1) for variable in (base.config.get("Env") or ()) if "=" in variable)
    match = re.match(r"3\.\d+(?:\.\d+)?", environment.get("PYTHON_VERSION", ""))
    return match[0] if match else ""


def _python_of(spec: BuildSpec, said: str, facts: BaseFacts) -> str:
    """The Python of the base: told, else what the base says, else the only one seen in it, else the running."""
    minor = ".".join(said.split(".")[:2])
    if spec.python:
        if minor and spec.python.rstrip("t") != minor and spec.python not in facts.pythons:
            raise InputError(f"the base has Python {minor}, not {spec.python}", where=spec.base)
        return spec.python
    if minor:
        free = f"{minor}t"
        return free if free in facts.pythons and minor not in facts.pythons else minor
    seen = set(facts.pythons)
    return seen.pop() if len(seen) == 1 else RUNNING_PYTHON
