"""What a scan looks for in a layer, collected while the layer is read or made for another reason."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import DiskFull, LayerInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.pushed import PushedTar
from registry_pipelines.oci.layer.walk import LayerWalk, open_tar
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.kept import Kept
from registry_pipelines.threads import Pool


def collect_read(walk: LayerWalk, *, state: Path) -> LayerContent:
    """Of a layer that is walked for its record (``LayerStore``, ``collect``): walk it to its end, and keep what a scan
    would ask; of one that a scan would refuse, nothing is kept. The walk must verify both digests. Returns what was
    found. Raises LayerInvalid, DigestMismatch, DiskFull, LocalError."""
    content = read_layer(walk)
    facts = walk.finish()
    if facts.digest and facts.diff_id and walk.unsafe is None:
        Kept(state).keep_layer(facts.diff_id, facts.digest, content)
    return content


class MadeLayer:
    """Of a layer that is being made: give :meth:`write` the tar as it passes, and :meth:`keep` its digests at the end.

    A context manager; what was not kept by its end is forgotten. A thread of its own reads the tar, up to 5 MiB behind.
    Nothing here fails the making: a tar that a scan would refuse, or that has no room to be looked into, is left to the
    scan.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._tar = PushedTar()
        self._pool = Pool(1, "collect-layer")
        self._content: Future[LayerContent | None] = self._pool.submit(self._read)

    def __enter__(self) -> MadeLayer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()
        self._pool.__exit__(kind, error, trace)

    def write(self, piece: bytes | memoryview) -> None:
        """The next bytes of the tar, which are copied."""
        self._tar.write(piece)

    def keep(self, diff_id: Digest, digest: Digest) -> None:
        """The tar is whole and hashes to ``diff_id``, the layer made of it to ``digest``.

        Raises DiskFull, LocalError.
        """
        self._tar.close()
        content = self._content.result()
        if content is not None:
            Kept(self._state).keep_layer(diff_id, digest, content)

    def _read(self) -> LayerContent | None:
        try:
            return read_layer(open_tar(self._tar))
        except (LayerInvalid, DiskFull, LocalError):
            return None
        finally:
            self._tar.abandon()
