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
    "armel": "arm",
    "i386": "386",
    "i686": "386",
}
_PLAIN = (("amd64", "v1"), ("arm64", "v8"), ("arm64", "8"))
"""Variants that mean the same as none."""
_PART = re.compile(r"[A-Za-z0-9_.-]+\Z")
_UNNAMED = "unnamed"
"""In words, of an image whose config names no platform."""


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
    def written(cls, text: str) -> Platform:
        """Read what ``str`` wrote, also of an image whose config names no platform or the system alone. Raises
        PlatformInvalid."""
        if "/" in text:
            return cls.parse(text)
        return cls(os="" if text == _UNNAMED else text, architecture="")

    @classmethod
    def here(cls) -> Platform:
        """The platform of this machine."""
        return cls.parse(f"{_machine.system().lower()}/{_machine.machine().lower()}")

    @property
    def normal(self) -> Platform:
        """The same with Go's names, as containerd's ``platforms.Normalize`` reads what indexes say (2026-11-28):
        Docker and containerd start an ``x86_64`` entry where linux/amd64 is asked for."""
        system, named = self.os.lower(), self.architecture.lower()
        architecture, variant = _ARCHITECTURES.get(named, named), self.variant.lower()
        if (architecture, variant) in _PLAIN:
            variant = ""
        if architecture == "arm" and variant in ("", "7"):
            variant = "v6" if named == "armel" else "v7"
        return Platform(
            os="darwin" if system == "macos" else system,
            architecture=architecture,
            variant=variant,
            os_version=self.os_version,
            os_features=self.os_features,
        )

    @property
    def unknown(self) -> bool:
        """Whether it is the platform that BuildKit gives attestations: one that no client asks for."""
        return (self.os, self.architecture) == ("unknown", "unknown")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part) or _UNNAMED

    def matches(self, other: Platform) -> bool:
        """Whether an image for ``other`` could be started where this one is asked for; an empty variant here matches
        any, because clients differ in which variant they take."""
        mine, theirs = self.normal, other.normal
        same = (mine.os, mine.architecture) == (theirs.os, theirs.architecture)
        return same and (not self.variant or mine.variant == theirs.variant)
