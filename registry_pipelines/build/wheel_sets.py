"""What is in a set of wheels that another machine builds from, behind a gap. ``wheel_choice`` chooses them."""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.build.builder import LockedWheel
from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.manifests import decode_json, encode_json

LOCK_NAME = "requirements.txt"
"""In the folder with the wheels: each one pinned with its hash, as ``pip install --require-hashes -r`` takes it."""


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._!+-]*")
"""Names and versions of packages: a line of a requirements file that holds one holds nothing else."""


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
        odd = [wheel.filename for wheel in found.wheels if not _is_plain(wheel)]
        if odd or not all(each.isprintable() for each in found.targets):
            raise ManifestInvalid(f"it names what is no wheel: {odd[:3]}", where=where)
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


def _is_plain(wheel: SetWheel) -> bool:
    fields = wheel.name, wheel.version, wheel.filename
    hashed = re.fullmatch("[0-9a-f]{64}", wheel.sha256)
    return all(map(_PLAIN.fullmatch, fields)) and wheel.filename.endswith(".whl") and hashed is not None


def set_row(wheel: LockedWheel) -> SetWheel:
    """A pinned wheel as a set names it."""
    return SetWheel(
        name=wheel.name, version=wheel.version, filename=wheel.filename, sha256=wheel.sha256, size=wheel.size
    )


__all__ = ["LOCK_NAME", "SetWheel", "WheelSet", "set_row"]
