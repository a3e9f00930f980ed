"""What the gate last said of each digest, on this node's disk: for when the registry cannot be asked, also after the
agent began anew.

An answer is of one image, digest, policy and channel, so what was said by other settings counts for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from registry_pipelines.errors import ContentError, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.stream.lazy.kept import KeptFiles

MAX_BYTES = 16 << 20
"""Of all answers; one takes 200 bytes, so those of 80,000 digests."""

MAX_AHEAD_S = 300.0
"""An answer that is from later than now by more than this is none: the clock was set back, and its age is not known."""


class LastAnswer(msgspec.Struct, frozen=True):
    """What was said, and when: seconds since 1970."""

    key: str
    allowed: bool
    at: float


class _Release(msgspec.Struct, frozen=True):
    """Of which release a manifest was."""

    key: str
    digest: str


_Kind = TypeVar("_Kind", LastAnswer, _Release)


class LastAnswers:
    """For many threads, and for other processes over the same folder. What the disk does not take is asked anew."""

    def __init__(self, folder: Path) -> None:
        """Raises LocalError: others can write to the folder, who would allow there what nobody allowed."""
        self._files = KeptFiles(folder, max_bytes=MAX_BYTES)
        self._outdated: set[str] = set()
        """Files that say what is not so any more, and that a disk which takes no writes has still."""

    def put(self, key: str, allowed: bool, at: float) -> None:
        """Remember an answer, in place of the one before. Where the disk takes no writes at all this process goes by
        none, and one that begins later by what stands there."""
        name = _name(key)
        try:
            self._files.put(name, encode_json(LastAnswer(key, allowed, at)))
            self._outdated.discard(name)
        except LocalError:
            try:
                self._files.path(name).unlink(missing_ok=True)
            except OSError:
                self._outdated.add(name)

    def allowed(self, key: str, *, now: float, max_age_s: float) -> float | None:
        """How long ago in seconds it was last allowed; None where it was not, or too long ago."""
        last = self._read(key, LastAnswer)
        if last is None or not last.allowed or not -MAX_AHEAD_S <= now - last.at <= max_age_s:
            return None
        return max(0.0, now - last.at)

    def put_release(self, key: str, digest: Digest) -> None:
        """Remember of which release a manifest is: the index that has it, or itself."""
        with suppress(LocalError):
            self._files.put(_name(key), encode_json(_Release(key, digest)))

    def release(self, key: str) -> Digest | None:
        """The last one of :meth:`put_release`."""
        found = self._read(key, _Release)
        return Digest(found.digest) if found is not None else None

    def _read(self, key: str, kind: type[_Kind]) -> _Kind | None:
        name = _name(key)
        path = self._files.find(name) if name not in self._outdated else None
        with suppress(OSError, ContentError):
            found = decode_json(path.read_bytes(), kind) if path is not None else None
            return found if found is not None and found.key == key else None
        return None


def _name(key: str) -> str:
    return Digest.of(key.encode()).hex


__all__ = ["LastAnswers"]
