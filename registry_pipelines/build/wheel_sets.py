"""The wheels that some requirements mean, as a set that another machine builds from: behind a gap no index answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from registry_pipelines.build.bases import OpenPlace, open_base
from registry_pipelines.build.builder import INTERPRETER_BASES, BuildSpec, LockedWheel
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.planning import check_spec
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.target import WheelTarget, target_of
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import ManifestInvalid, RequirementsInvalid
from registry_pipelines.oci.manifests import decode_json, encode_json

LOCK_NAME = "requirements.txt"
"""In the folder with the wheels: each one pinned with its hash, as ``pip install --require-hashes -r`` takes it."""


class SetWheel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wheel of a set; ``sha256`` has 64 hex digits."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int


class WheelSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in a set of wheels."""

    schema: int = 1
    requirements: tuple[str, ...]
    """What was asked for, without passwords."""
    targets: tuple[str, ...]
    """What the wheels were chosen for: platform, Python and C library, for people."""
    wheels: tuple[SetWheel, ...]
    """By name, each once."""

    def encode(self) -> bytes:
        """Deterministic JSON."""
        return encode_json(self)

    @classmethod
    def decode(cls, raw: bytes, *, where: str) -> WheelSet:
        """Read the JSON form. Raises ManifestInvalid."""
        found = decode_json(raw, cls, where=where, what="description of a set of wheels")
        if found.schema != 1:
            raise ManifestInvalid("this set of wheels is of a newer build", where=where, do="Update this program")
        if any(not wheel.filename.endswith(".whl") for wheel in found.wheels):
            raise ManifestInvalid("it names files that are no wheels", where=where)
        return found

    def lock(self) -> str:
        """The wheels as pip's lines with hashes; several files of one version (platforms) are one line."""
        hashes: dict[str, list[str]] = {}
        for wheel in self.wheels:
            hashes.setdefault(f"{wheel.name}=={wheel.version}", []).append(f"--hash=sha256:{wheel.sha256}")
        several = {name for name in hashes if sum(each.split("==")[0] == name.split("==")[0] for each in hashes) > 1}
        lines = [f"{name} {' '.join(each)}" for name, each in sorted(hashes.items()) if name not in several]
        # Two versions of a project are of two platforms: pip takes one of them, by what it runs on.
        notes = [f"# {name} is for one of the targets alone: {' '.join(hashes[name])}" for name in sorted(several)]
        return "\n".join([*(f"# for {each}" for each in self.targets), *notes, *lines, ""])


def gather_wheels(
    spec: BuildSpec,
    targets: Sequence[WheelTarget],
    *,
    store: WheelStore,
    cache: BuildCache,
    fetched: Callable[[int], object],
) -> list[StoredWheel]:
    """The wheels of all targets, each file once, by name. Raises RequirementsInvalid also where there is nothing to
    choose; else as :func:`~registry_pipelines.build.resolving.resolve`."""
    found: dict[str, StoredWheel] = {}
    for target in targets:
        for wheel in resolve(spec, target, store=store, cache=cache, fetched=fetched):
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


def set_row(wheel: LockedWheel) -> SetWheel:
    """A pinned wheel as a set names it."""
    return SetWheel(
        name=wheel.name, version=wheel.version, filename=wheel.filename, sha256=wheel.sha256, size=wheel.size
    )


__all__ = ["LOCK_NAME", "SetWheel", "WheelSet", "gather_wheels", "set_row", "targets_of"]
