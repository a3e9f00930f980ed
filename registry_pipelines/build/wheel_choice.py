"""The wheels that a build or some requirements mean, for each of their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from registry_pipelines.build.bases import OpenPlace, open_base
from registry_pipelines.build.builder import INTERPRETER_BASES, BuildSpec
from registry_pipelines.build.c_library import stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.planning import check_spec
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget, target_of
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import InputError, RequirementsInvalid
from registry_pipelines.oci.platforms import Platform

if TYPE_CHECKING:  # builds without an index of the configuration load none of it
    from registry_pipelines.build.packages.sources import Sources


def gather_wheels(
    spec: BuildSpec,
    targets: Sequence[WheelTarget],
    *,
    store: WheelStore,
    cache: BuildCache,
    fetched: Callable[[int], object],
    packages: Sources | None = None,
) -> list[StoredWheel]:
    """The wheels of all targets, each file once, by name. Raises RequirementsInvalid also where there is nothing to
    choose; else as :func:`~registry_pipelines.build.resolving.resolve`."""
    found: dict[str, StoredWheel] = {}
    for target in targets:
        for wheel in resolve(spec, target, store=store, cache=cache, fetched=fetched, packages=packages):
            found.setdefault(wheel.path.name, wheel)
    if not found:
        raise RequirementsInvalid("the requirements name no package", where=spec.name)
    return sorted(found.values(), key=lambda wheel: (wheel.locked.name, wheel.path.name))


def targets_of(spec: BuildSpec, cache: BuildCache, open_place: OpenPlace) -> list[WheelTarget]:
    """What the wheels of a build are chosen for, one for each platform. Raises InputError, and what reading a base
    raises."""
    return [
        target_of(
            spec,
            platform,
            None if spec.base in INTERPRETER_BASES else open_base(spec.base, platform, open_place),
            cache,
        )
        for platform in check_spec(spec)
    ]


def read_targets(platforms: Sequence[str], python: str, libc: str) -> list[WheelTarget]:
    """Targets as a person writes them: the platforms, this one without any; a Python version, this one's if empty; a C
    library. Raises InputError: another platform or Python than this one's needs the library told."""
    here, version = Platform.here(), python or RUNNING_PYTHON
    wanted = [Platform.parse(each) for each in platforms] or [here]
    if not libc and (version != RUNNING_PYTHON or wanted != [here]):
        raise InputError(
            "wheels for another platform or Python are chosen by the C library that they find there",
            do="Give --libc, as glibc-2.31; none takes pure Python wheels only",
        )
    library = stated_c_library(libc) if libc else None
    return [WheelTarget(each, version, library) for each in wanted]
