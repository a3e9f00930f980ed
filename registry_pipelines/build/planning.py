"""What a build will make: checked input, resolved wheels, one job per layer. Nothing is sent yet."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from registry_pipelines.build import compiling
from registry_pipelines.build.archive import DO_NOT_USE
from registry_pipelines.build.bases import BaseImage, OpenPlace, open_base
from registry_pipelines.build.buckets import group
from registry_pipelines.build.builder import INTERPRETER_BASES, BuildSpec, LockedWheel, SettledConflict
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.conflicts import (
    APPLICATION,
    Inventory,
    Settled,
    application_inventory,
    check_rules,
    settle,
    take_inventory,
)
from registry_pipelines.build.content import LayerEntry, content_job
from registry_pipelines.build.images import check_environment, check_settings
from registry_pipelines.build.install import WHEEL_FORMAT, Scheme
from registry_pipelines.build.interpreter import interpreter_entries, interpreter_scheme
from registry_pipelines.build.pushing import LayerJob
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.splice import CODEC, LayerWriter
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget, target_of
from registry_pipelines.build.wheel import Wheel, open_wheel
from registry_pipelines.build.wheel_layer import WheelLayer
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.build.writable import writable_entries
from registry_pipelines.errors import InputError, WheelInvalid
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import check_tag
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # builds without an index of the configuration load none of it
    from registry_pipelines.build.packages.sources import Sources


@dataclass(frozen=True)
class PlatformPlan:
    """One platform's image: its base (None: the interpreter base, whose layers are among the jobs), jobs in layer
    order, and the pinned wheels."""

    platform: Platform
    base: BaseImage | None
    target: WheelTarget
    jobs: tuple[LayerJob, ...]
    lock: tuple[LockedWheel, ...]
    inventories: tuple[Inventory, ...]
    """Of the wheels in the lock's order, then the application's."""
    settled: tuple[Settled, ...]
    """Paths that several bring, and whose file the image has."""


def check_spec(spec: BuildSpec) -> tuple[Platform, ...]:
    """The platforms to build for. Raises InputError for what cannot be built."""
    here = Platform.here()
    platforms = spec.platforms or (here,)
    if len(set(platforms)) != len(platforms):
        raise InputError("a platform is named twice", where=spec.name)
    if not spec.workdir.startswith("/") or ".." in spec.workdir.split("/"):
        raise InputError(f"workdir {spec.workdir!r} is not an absolute path", where=spec.name)
    if spec.index and (spec.wheels or spec.wheels_from or spec.find_links):
        raise InputError(
            "`index` stands in place of `wheels`, `wheels_from` and `find_links`",
            where=spec.name,
            do="Name folders and artifacts as indexes of the kinds `folder` and `wheels`",
        )
    check_environment(spec.environment)
    check_settings(spec)
    writable_entries(spec)
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


@dataclass(frozen=True)
class Ingredients:
    """What one platform's image is made of, resolved and read; whether it fits together is not looked at yet."""

    platform: Platform
    base: BaseImage | None
    target: WheelTarget
    scheme: Scheme
    byte_code: bool
    wheels: tuple[StoredWheel, ...]
    inventories: tuple[Inventory, ...]
    """Of the wheels, then the application's."""
    below: tuple[LayerJob, ...]
    """Layers of the interpreter base; none where the base is an image."""
    above: tuple[LayerJob, ...]
    """Layers above those of wheels."""
    opened: dict[Path, Wheel]
    """Wheels that were read anyway, by path; a layer that is made takes its own out."""


def gather(
    spec: BuildSpec,
    platform: Platform,
    application: Sequence[LayerEntry] | None,
    *,
    store: WheelStore,
    cache: BuildCache,
    open_place: OpenPlace,
    fetched: Callable[[int], object],
    packages: Sources | None = None,
) -> Ingredients:
    """Resolve and read everything for one platform. application: its entries, None without one. fetched, packages: see
    :func:`~registry_pipelines.build.resolving.resolve`.

    Raises RequirementsInvalid, WheelInvalid, InputError, and for a base image LayerInvalid, DigestMismatch and the
    RegistryError family.
    """
    base = None if spec.base in INTERPRETER_BASES else open_base(spec.base, platform, open_place)
    target = target_of(spec, platform, base, cache)
    python = target.python
    byte_code = python == RUNNING_PYTHON and sys.implementation.name == "cpython"
    scheme = (
        interpreter_scheme()
        if base is None
        else Scheme.of(python, site_packages=spec.site_packages, interpreter=spec.interpreter)
    )
    with Pool(1, "base") as pool:
        # Beside pip, which works in a process of its own.
        below = pool.submit(_base_jobs) if base is None else None
        opened: dict[Path, Wheel] = {}
        wheels = tuple(
            resolve(
                *(spec, target),
                store=store,
                cache=cache,
                look=lambda wheel: _read_inventory(wheel, scheme, cache, opened),
                fetched=fetched,
                packages=packages,
            )
        )
    inventories = [_inventory(wheel, scheme, store, cache, opened) for wheel in wheels]
    above = []
    if application:  # an empty layer would keep GKE from streaming the image
        above.append(content_job("application", application, byte_code=byte_code))
    if application is not None:
        inventories.append(application_inventory(application, inventories))
    if folders := writable_entries(spec):
        above.append(content_job("writable folders", folders, byte_code=False))
    jobs = below.result() if below else ()
    return Ingredients(
        platform, base, target, scheme, byte_code, wheels, tuple(inventories), jobs, tuple(above), opened
    )


def plan_platforms(spec: BuildSpec, platforms: Sequence[Ingredients], store: WheelStore) -> list[PlatformPlan]:
    """One plan for each platform. Raises PathConflict, and InputError for rules that settle nothing on any."""
    check_rules(
        spec.conflicts, [(ingredients.scheme.site_packages, ingredients.inventories) for ingredients in platforms]
    )
    return [_plan_platform(spec, ingredients, store) for ingredients in platforms]


def _plan_platform(spec: BuildSpec, given: Ingredients, store: WheelStore) -> PlatformPlan:
    settled = settle(given.inventories, spec.conflicts, site_packages=given.scheme.site_packages)
    jobs = list(given.below)
    base_layers = len(given.base.manifest.layers) if given.base else len(jobs)
    files = {wheel.locked.sha256: wheel for wheel in given.wheels}
    modules = {
        inventory.owner: sum(path.endswith(".py") for path in inventory.paths) for inventory in given.inventories
    }
    lock = tuple(wheel.locked for wheel in given.wheels)
    for members in group(lock, base_layers=base_layers):
        chosen = [(files[member.sha256], left_out(settled, member.name)) for member in members]
        job = _wheel_job(chosen, given.scheme, store, given.opened, byte_code=given.byte_code)
        jobs.append(replace(job, modules=sum(modules[member.name] for member in members) if given.byte_code else 0))
    jobs += given.above
    return PlatformPlan(given.platform, given.base, given.target, tuple(jobs), lock, given.inventories, tuple(settled))


def left_out(settled: Sequence[Settled], owner: str) -> tuple[str, ...]:
    """Paths where another owner's file stands, sorted."""
    return tuple(sorted(conflict.path for conflict in settled if owner in conflict.losers))


def settled_conflicts(plan: PlatformPlan) -> list[SettledConflict]:
    """Whose files the image has where several bring one path, with package URLs."""
    names = {APPLICATION: APPLICATION, **{wheel.name: wheel.purl for wheel in plan.lock}}
    return [
        SettledConflict(
            platform=str(plan.platform),
            path=f"/{conflict.path}",
            winner=names[conflict.winner],
            losers=tuple(names[loser] for loser in conflict.losers),
        )
        for conflict in plan.settled
    ]


def wheel_notes(plans: Sequence[PlatformPlan]) -> dict[str, tuple[str, ...]]:
    """By file name, what was let pass or left out of a wheel; without wheels of which nothing is to be said."""
    return {inventory.label: inventory.notes for plan in plans for inventory in plan.inventories if inventory.notes}


def _base_jobs() -> tuple[LayerJob, ...]:
    system, python = interpreter_entries()
    return content_job("system", system, byte_code=False), content_job("python", python, byte_code=True)


def _inventory(
    wheel: StoredWheel, scheme: Scheme, store: WheelStore, cache: BuildCache, opened: dict[Path, Wheel]
) -> Inventory:
    """What the wheel brings, remembered by its hash; a stored file that was touched since is hashed again.

    Raises WheelInvalid, also when the wheel is another version than the one that was chosen (an index may tell its
    metadata apart from the file, PEP 658).
    """
    locked = wheel.locked
    store.verify(wheel.path, locked.sha256)
    known = _read_inventory(wheel, scheme, cache, opened)
    if Version(known["version"]) != Version(locked.version):
        raise WheelInvalid(
            f"its METADATA has version {known['version']}, the index said {locked.version}",
            where=locked.filename,
            do=DO_NOT_USE,
        )
    paths, notes = known["paths"], (*wheel.notes, *known["notes"])
    return Inventory(locked.name, locked.filename, paths, version=known["version"], notes=notes)


def _read_inventory(wheel: StoredWheel, scheme: Scheme, cache: BuildCache, opened: dict[Path, Wheel]) -> dict[str, Any]:
    """``paths``, ``version`` and ``notes``, from the cache or the file. Raises WheelInvalid."""
    locked = wheel.locked
    key = f"inventory {WHEEL_FORMAT} {locked.sha256} {locked.filename} {_scheme_identity(scheme)}"
    known = cache.fact(key)
    if not isinstance(known, dict):
        read = opened[wheel.path] = open_wheel(wheel.path)
        inventory = take_inventory(read, scheme)
        known = {"paths": dict(inventory.paths), "version": inventory.version, "notes": inventory.notes}
        cache.remember_fact(key, known)
    return known


def _scheme_identity(scheme: Scheme) -> str:
    return f"{scheme.prefix} {scheme.site_packages} {scheme.python} {scheme.interpreter}"


def _wheel_job(
    wheels: Sequence[tuple[StoredWheel, tuple[str, ...]]],
    scheme: Scheme,
    store: WheelStore,
    opened: dict[Path, Wheel],
    *,
    byte_code: bool,
) -> LayerJob:
    """One layer of wheels, each with the paths that are left out of it. Layers are shared between images by key, so the
    key says what is missing."""
    identity = [
        *("wheels", WHEEL_FORMAT, CODEC, compiling.IDENTITY if byte_code else "", _scheme_identity(scheme)),
        *(wheel.locked.sha256 for wheel, _ in wheels),
        *(["without", wheel.locked.sha256, *missing] for wheel, missing in wheels if missing),
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
        layer = WheelLayer(writer, scheme, byte_code=byte_code, advance=advance)
        with Pool(1, "verify") as pool:
            # The file's own hash is checked beside the work; a wrong one fails the layer before it is committed.
            checks = [pool.submit(store.verify, wheel.path, wheel.locked.sha256) for wheel, _ in wheels]
            for wheel, missing in wheels:
                read = opened.pop(wheel.path, None)
                layer.add(read or open_wheel(wheel.path), left_out=missing)
            for check in checks:
                check.result()

    contents = ", ".join(f"{wheel.locked.name} {wheel.locked.version}" for wheel, _ in wheels)
    return LayerJob(key, contents, sum(wheel.locked.size for wheel, _ in wheels), write)
