"""What a build will make: checked input, resolved wheels, one job per layer. Nothing is sent yet."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from registry_pipelines.build import compiling
from registry_pipelines.build.application import application_items
from registry_pipelines.build.bases import BaseImage, OpenPlace, open_base
from registry_pipelines.build.buckets import group
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.content import FORMAT, content_job
from registry_pipelines.build.images import check_environment
from registry_pipelines.build.install import Scheme
from registry_pipelines.build.interface import INTERPRETER_BASES, BuildSpec, LockedWheel
from registry_pipelines.build.interpreter import interpreter_items, interpreter_scheme
from registry_pipelines.build.pushing import LayerJob
from registry_pipelines.build.resolving import RUNNING_PYTHON, StoredWheel, WheelStore, resolve
from registry_pipelines.build.splice import CODEC, LayerWriter
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.build.wheel_layer import WheelLayer, check_conflicts, inventory
from registry_pipelines.errors import InputError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import check_tag


@dataclass(frozen=True)
class PlatformPlan:
    """One platform's image: its base (None: the interpreter base, whose layers are among the jobs), jobs in layer
    order, and the pinned wheels."""

    platform: Platform
    base: BaseImage | None
    jobs: tuple[LayerJob, ...]
    lock: tuple[LockedWheel, ...]


def check_spec(spec: BuildSpec) -> tuple[Platform, ...]:
    """The platforms to build for. Raises InputError for what cannot be built."""
    here = Platform.here()
    platforms = spec.platforms or (here,)
    if len(set(platforms)) != len(platforms):
        raise InputError("a platform is named twice", where=spec.name)
    if not spec.workdir.startswith("/") or ".." in spec.workdir.split("/"):
        raise InputError(f"workdir {spec.workdir!r} is not an absolute path", where=spec.name)
    check_environment(spec.environment)
    if spec.version:
        check_tag(spec.version)
    if spec.base in INTERPRETER_BASES:
        if any(platform != here for platform in platforms):
            raise InputError(
                f"the interpreter base is for {here} only",
                where=spec.name,
                do="Name an image as base for other platforms",
            )
        if spec.python not in ("", RUNNING_PYTHON):
            raise InputError(
                f"the interpreter base has Python {RUNNING_PYTHON}, not {spec.python}",
                where=spec.name,
                do=f"Run the build with Python {spec.python}, or name an image as base",
            )
    return platforms


def plan_platform(
    spec: BuildSpec, platform: Platform, *, store: WheelStore, cache: BuildCache, open_place: OpenPlace
) -> PlatformPlan:
    """Resolve and check everything for one platform. Raises RequirementsInvalid, WheelInvalid, PathConflict,
    InputError, and the RegistryError family for a base image."""
    base = None if spec.base in INTERPRETER_BASES else open_base(spec.base, platform, open_place)
    python = _python_of(spec, base)
    byte_code = python == RUNNING_PYTHON and sys.implementation.name == "cpython"
    scheme = (
        interpreter_scheme()
        if base is None
        else Scheme.of(python, site_packages=spec.site_packages, interpreter=spec.interpreter)
    )
    wheels = resolve(spec, platform, python, store=store, cache=cache)
    check_conflicts([(wheel.locked.filename, _inventory(wheel, scheme, cache)) for wheel in wheels])
    jobs = _base_jobs() if base is None else []
    base_layers = len(base.manifest.layers) if base else len(jobs)
    files = {wheel.locked.sha256: wheel for wheel in wheels}
    for members in group([wheel.locked for wheel in wheels], base_layers=base_layers):
        jobs.append(_wheel_job([files[member.sha256] for member in members], scheme, store, byte_code=byte_code))
    if spec.application is not None:
        items = application_items(spec.application, spec.workdir)
        jobs.append(content_job("application", items, byte_code=byte_code))
    return PlatformPlan(platform, base, tuple(jobs), tuple(wheel.locked for wheel in wheels))


def _python_of(spec: BuildSpec, base: BaseImage | None) -> str:
    """The Python of the base: told, else what the base says (official images set PYTHON_VERSION), else the running."""
    environment = dict(item.split("=", 1) for item in (base.config.get("Env") or () if base else ()) if "=" in item)
    said = ".".join(environment.get("PYTHON_VERSION", "").split(".")[:2])
    if spec.python and said and spec.python != said:
        raise InputError(f"the base has Python {said}, not {spec.python}", where=spec.base)
    return spec.python or said or RUNNING_PYTHON


def _base_jobs() -> list[LayerJob]:
    system, python = interpreter_items()
    return [content_job("system", system, byte_code=False), content_job("python", python, byte_code=True)]


def _inventory(wheel: StoredWheel, scheme: Scheme, cache: BuildCache) -> dict[str, str]:
    key = f"inventory {FORMAT} {wheel.locked.sha256} {_scheme_identity(scheme)}"
    known = cache.note(key)
    if isinstance(known, dict):
        return known
    found = inventory(open_wheel(wheel.path), scheme)
    cache.remember_note(key, found)
    return found


def _scheme_identity(scheme: Scheme) -> str:
    return f"{scheme.prefix} {scheme.site_packages} {scheme.python} {scheme.interpreter}"


def _wheel_job(wheels: Sequence[StoredWheel], scheme: Scheme, store: WheelStore, *, byte_code: bool) -> LayerJob:
    identity = [
        *("wheels", FORMAT, CODEC, compiling.IDENTITY if byte_code else "", _scheme_identity(scheme)),
        *(wheel.locked.sha256 for wheel in wheels),
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
        layer = WheelLayer(writer, scheme, byte_code=byte_code, advance=advance)
        with ThreadPoolExecutor(1) as pool:
            # The file's own hash is checked beside the work; a wrong one fails the layer before it is committed.
            checks = [pool.submit(store.verify, wheel.path, wheel.locked.sha256) for wheel in wheels]
            for wheel in wheels:
                layer.add(open_wheel(wheel.path))
            for check in checks:
                check.result()

    contents = ", ".join(f"{wheel.locked.name} {wheel.locked.version}" for wheel in wheels)
    return LayerJob(key, contents, sum(wheel.locked.size for wheel in wheels), write)
