"""Digests (OCI image-spec 1.1, descriptor.md, section "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from registry_pipelines.errors import DigestInvalid, DigestMismatch

HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_SHAPE = re.compile(r"(sha256|sha512):([0-9a-f]+)\Z")


class Digest(str):
    """``algorithm:hex``, checked when made with :meth:`parse`; a plain ``str`` everywhere else (JSON, paths, keys)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check and wrap a digest. Raises DigestInvalid."""
        match = _SHAPE.match(text)
        if not match or len(match[2]) != HEX_LENGTHS[match[1]]:
            raise DigestInvalid(
                f"{text[:140]!r} is not a digest",
                do="A digest is sha256: and 64, or sha512: and 128 lower-case hexadecimal digits",
            )
        return cls(text)

    @classmethod
    def of(cls, content: bytes | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of bytes in memory."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hexadecimal part."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """``sha256:`` and 12 digits, for people."""
        return f"{self.algorithm}:{self.hex[:12]}"

    @property
    def fallback_tag(self) -> str:
        """The referrers fallback tag, ``alg-hex``, cut to 32 and 64 characters (distribution-spec 1.1, "Referrers Tag
        Schema")."""
        return f"{self.algorithm[:32]}-{self.hex[:64]}"

    def hasher(self) -> Any:
        """A new ``hashlib`` object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def check(self, content: bytes | memoryview, *, where: str = "") -> None:
        """Raise DigestMismatch unless ``content`` hashes to this digest."""
        actual = Digest.of(content, self.algorithm)
        if actual != self:
            raise DigestMismatch(
                f"content hashes to {actual}, expected {self}",
                where=where,
                do="The copy at this place is damaged or was replaced; fetch it from another place",
            )
