"""Images that a node knows before they are pulled, for a containerd that does not say which image a layer is of.

It asks for a layer by its chain ID alone then, so an image must have been announced: where its tag points, and which of
its layers can be served before they are fetched. Tags are looked at again, since they move; a registry that cannot be
reached is asked again, and what was known before is known meanwhile, also by the next process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from registry_pipelines.errors import ContentError, DiskFull, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.progress import count_text
from registry_pipelines.stream.lazy.kept import make_own

AGAIN_S = 600.0
"""Between two looks at where a tag points, unless told."""
RETRY_S = 5.0
"""After a look that failed; twice as long after each further one, up to the time between two looks."""
WOKEN_S = 30.0
"""A layer that nobody announced may be of a tag that has moved since: then all are looked at, at most so often, and of
many images less often: a registry gets one question a second."""


class Looked(NamedTuple):
    """What a reference points to, and what of it can be served before it is fetched."""

    digest: Digest
    """Of the manifest for this platform."""
    layers: tuple[str, ...]
    """Chain IDs of those that can, lowest first."""
    of: int
    """All layers."""
    left_out: str = ""
    """Why others cannot."""


class _Image(msgspec.Struct, frozen=True):
    """An announced image."""

    digest: str
    """Of its manifest for this platform."""
    layers: tuple[str, ...] = ()
    """Chain IDs of those that can be served, lowest first; none: it is pulled as usual."""


class _Kept(msgspec.Struct, frozen=True):
    """What a new process knows at once."""

    images: dict[str, _Image] = {}
    """By reference."""


class _Look:
    """When a reference is looked at next."""

    def __init__(self, again_s: float) -> None:
        self._again_s, self._wait_s = again_s, min(RETRY_S, again_s)
        self.due = 0.0
        self.failed = ""

    def done(self, now: float) -> None:
        """It was looked at."""
        self.failed, self._wait_s = "", min(RETRY_S, self._again_s)
        self.due = now + self._again_s

    def not_done(self, now: float, why: str) -> bool:
        """It could not be. Whether that is new."""
        new, self.failed = why != self.failed, why
        self.due = now + self._wait_s
        self._wait_s = min(self._wait_s * 2, self._again_s)
        return new


class Announcing:
    """Looks at images by themselves, in one thread, as a context. For many threads."""

    def __init__(
        self,
        references: Sequence[str],
        look: Callable[[str], Looked],
        *,
        state: Path,
        log: Callable[[str], object],
        again_s: float = AGAIN_S,
    ) -> None:
        """references: as in a pod, or by a configuration's names. look: raises RegistryPipelinesError. state: the
        folder with what this node keeps. log: is told in one line what becomes of each. again_s: between two looks at a
        tag. Raises LocalError."""
        self._look, self._log, self._again_s = look, log, again_s
        make_own(state / "lazy")
        self._file = state / "lazy" / "announced.json"
        self._lock = threading.Lock()
        self._images: dict[str, _Image] = {}
        self._looks = {reference: _Look(again_s) for reference in dict.fromkeys(references)}
        self._woken, self._ended, self._woken_at = threading.Event(), threading.Event(), float("-inf")
        with suppress(OSError, ContentError):
            kept = decode_json(self._file.read_bytes(), _Kept, what="list of announced images")
            self._images = {name: image for name, image in kept.images.items() if name in self._looks}
        self._thread = threading.Thread(target=self._run, name="announcing", daemon=True)

    def __enter__(self) -> Announcing:
        if self._looks:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._woken.set()

    @property
    def images(self) -> Mapping[str, tuple[str, int]]:
        """By reference the digest that it has, and how many layers can be served; those that were found."""
        with self._lock:
            return {name: (image.digest, len(image.layers)) for name, image in self._images.items()}

    def having(self, chain_id: str) -> list[tuple[str, str]]:
        """Reference and digest of the images that can serve a layer, those first that serve the most. Asked for one
        that none has, tags are looked at soon: the layers above it may be of an image that came since."""
        with self._lock:
            found = [
                (len(image.layers), name, image.digest)
                for name, image in self._images.items()
                if chain_id in image.layers
            ]
        if not found:
            self._wake()
        return [(name, digest) for _, name, digest in sorted(found, reverse=True)]

    def _wake(self) -> None:
        with self._lock:
            at = max(time.monotonic(), self._woken_at + max(WOKEN_S, len(self._looks)))
            sooner = [look for look in self._looks.values() if look.due > at]
            if not sooner:
                return
            self._woken_at = at
            for look in sooner:
                look.due = at
        self._woken.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            now = time.monotonic()
            with self._lock:
                due = [name for name, look in self._looks.items() if look.due <= now]
                next_s = min(look.due for look in self._looks.values()) - now
            if not due:
                self._woken.wait(max(next_s, 0.0))
                self._woken.clear()
                continue
            for reference in due:
                if self._ended.is_set():
                    return
                self._one(reference)

    def _one(self, reference: str) -> None:
        try:
            found = self._look(reference)
        except RegistryPipelinesError as error:
            why = str(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        else:
            with self._lock:
                self._looks[reference].done(time.monotonic())
            self._found(reference, found)
            return
        with self._lock:
            new = self._looks[reference].not_done(time.monotonic(), why)
            known = self._images.get(reference)
        if new:
            so_long = (
                f"{known.digest} is served under that name meanwhile" if known else "it is pulled as usual so long"
            )
            self._log(f"{reference} cannot be looked at, and will be again; {so_long}: {why}")

    def _found(self, reference: str, found: Looked) -> None:
        image = _Image(found.digest, found.layers)
        with self._lock:
            before = self._images.get(reference)
            if image == before:
                return
            self._images[reference] = image
            content = encode_json(_Kept(dict(self._images)))
        with suppress(DiskFull), local_errors(self._file.parent):
            write_file(self._file, content, mode=0o600)
        self._log(_told(reference, found))


def _told(reference: str, found: Looked) -> str:
    name = f"{reference}@{found.digest}"
    if not found.layers:
        return f"{name} is announced, and pulled as usual: {found.left_out or 'it has no layers'}"
    if len(found.layers) < found.of:
        return f"{name} is announced: {len(found.layers)} of {count_text(found.of, 'layer')}, {found.left_out}"
    return f"{name} is announced: its layers are served before they are fetched"


__all__ = ["AGAIN_S", "Announcing", "Looked"]
