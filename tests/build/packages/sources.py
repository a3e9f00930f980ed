"""Indexes of doubles, opened as a configuration would, and pip asked through them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.packages.model import FolderIndex, PackageIndex, SimpleIndex
from registry_pipelines.build.packages.opening import Opener
from registry_pipelines.build.packages.sources import Sources
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.settings import Secret
from tests.doubles.package_index import PackageIndex as Double

AT_ONCE = Retries(attempts=3, sleep=lambda _: None)


class Asking:
    """A state folder, and what is asked with it. ``ask(lines, *indexes)`` gives the wheels; ``said`` what was told."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cache = BuildCache(state / "cache.sqlite")
        self.store = WheelStore(state / "wheels", self.cache)
        self.said: list[str] = []

    def sources(self, *indexes: PackageIndex, roots: Callable[[], Any] | None = None) -> Sources:
        self.said = []
        opener = Opener(self.state, self.store, said=self.said.append, retries=AT_ONCE)
        return Sources([opener.open(each) for each in indexes], state=opener.documents, roots=roots)

    def __call__(self, lines: str, *indexes: PackageIndex, roots: Callable[[], Any] | None = None) -> list[StoredWheel]:
        spec = BuildSpec(name="x", requirements=tuple(lines.split("\n")), index=tuple(each.name for each in indexes))
        sources = self.sources(*indexes, roots=roots)
        try:
            target = WheelTarget(Platform.here(), RUNNING_PYTHON)
            return resolve(spec, target, store=self.store, cache=self.cache, packages=sources)
        finally:
            sources.close()

    def one(
        self, pin: str, *indexes: PackageIndex, roots: Callable[[], Any] | None = None
    ) -> tuple[Path, dict[str, str], list[str]]:
        """The wheel that a pin (or a name, for its newest one) means, without pip: where it is, what is written of it
        and what is told."""
        name, _, version = pin.partition("==")
        sources = self.sources(*indexes, roots=roots)
        try:
            found = sources.project(name)
            assert found, name
            [*_, filename] = sorted(file.filename for file in found.project.files if version in file.filename)
            sources.metadata(name, filename, self.store)
            sha256, path = sources.take(name, filename, self.store)
            return path, *sources.judge(name, filename, sha256)
        finally:
            sources.close()


def simple(double: Double, name: str = "ours", **settings: Any) -> SimpleIndex:
    if double.user and "username" not in settings:
        username, _, password = double.user.partition(":")
        settings |= {"username": username, "password": Secret(password)}
    return SimpleIndex(name=name, kind="simple", url=double.url, upload=double.upload, **settings)


def folder(path: Path, name: str = "wheelhouse", **settings: Any) -> FolderIndex:
    return FolderIndex(name=name, kind="folder", folder=path, **settings)


def versions(wheels: list[StoredWheel]) -> dict[str, str]:
    return {wheel.locked.name: wheel.locked.version for wheel in wheels}


def origins(wheels: list[StoredWheel]) -> dict[str, str]:
    return {wheel.locked.name: dict(wheel.locked.origin)["index"] for wheel in wheels}
