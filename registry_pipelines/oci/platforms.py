"""Platforms (OCI image-spec 1.1, image-index.md, "platform")."""

from __future__ import annotations

import platform as _machine
import re

import msgspec

from registry_pipelines.errors import PlatformInvalid

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "i386": "386",
    "i686": "386",
}
_PART = re.compile(r"[A-Za-z0-9_.-]+\Z")


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an image runs on; Go's names (``linux``, ``amd64``)."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture[/variant]``; aliases (x86_64, aarch64) become Go's names. Raises PlatformInvalid."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(_PART.match(part) for part in parts):
            raise PlatformInvalid(f"{text!r} is not a platform", do="Write os/architecture, for example linux/amd64")
        architecture = _ARCHITECTURES.get(parts[1].lower(), parts[1].lower())
        variant = parts[2] if len(parts) == 3 else ""
        if architecture == "arm64" and variant == "v8":
            variant = ""
        return cls(os=parts[0].lower(), architecture=architecture, variant=variant)

    @classmethod
    def here(cls) -> Platform:
        """The platform of this machine."""
        return cls.parse(f"{_machine.system().lower()}/{_machine.machine().lower()}")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def matches(self, other: Platform) -> bool:
        """Whether an image for ``other`` serves where this one is asked for; an empty variant here matches any."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        wanted = "" if self.architecture == "arm64" and self.variant == "v8" else self.variant
        return same and wanted in ("", other.variant)
