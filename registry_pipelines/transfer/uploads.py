"""Single blobs to one place: those that another place has, as a copy would bring them, and those that are made here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from msgspec.structs import replace

from registry_pipelines.errors import LocalError, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.fanout import load_of, move_blob
from registry_pipelines.transfer.blob.mounting import mount
from registry_pipelines.transfer.blob.produced import Produce, Write, produce_blob
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.delivery.acts import TRANSFER_THREADS
from registry_pipelines.transfer.flow.health import left_to_us
from registry_pipelines.transfer.flow.schedule import Schedule
from registry_pipelines.transfer.state import State

How = Literal["present", "mounted", "copied"]


class UploadsStopped(LocalError):
    """Another of the uploads failed; its error is the one to be told."""


@dataclass(frozen=True)
class Wanted:
    """A blob that another place has. label: its name in progress. mount_from: repositories of the target's registry
    that are believed to have it, too. into: a repository of the target's registry, instead of the target's own."""

    source: Place
    descriptor: Descriptor
    label: str
    mount_from: tuple[str, ...] = ()
    into: str = ""


@dataclass
class Brought:
    """How a blob came to its target. bytes_sent: by this run."""

    how: How = "copied"
    bytes_sent: int = 0


class Uploads:
    """Uploads to one place, with an open state. Safe for many threads.

    What fails is tried again as in copies, with what is known of each registry shared by all uploads.
    """

    def __init__(self, state: State, target: Place, progress: Progress | None = None) -> None:
        self.target = left_to_us(target)
        self._state, self._progress = state, progress or Silent()
        self._tools = state.blob_tools()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what is under way at its next bytes with UploadsStopped: another part of the whole failed."""
        self._stopped.set()

    def find(self, digest: Digest, size: int, mount_from: Sequence[str] = ()) -> How | None:
        """How the target has the blob now without its being sent; None when it must be, also where it has one of
        another size under this digest. mount_from: see Wanted.

        Raises Unavailable and the like once the patience ended.
        """
        if self._present(self.target, digest, size):
            return "present"
        return "mounted" if self._mount(self.target, digest, size, mount_from) else None

    def _present(self, target: Place, digest: Digest, size: int) -> bool:
        self._go_on()
        look = partial(target.registry.blob_size, target.repository, digest)
        return self._tools.health.persist(target, "mount", look) == size

    def _mount(self, target: Place, digest: Digest, size: int, repositories: Sequence[str]) -> bool:
        others = [name for name in dict.fromkeys(repositories) if name != target.repository]
        return any(mount(target, digest, size, name, self._tools.health) for name in others)

    def _goal(self, wanted: Wanted) -> Place:
        return replace(self.target, repository=wanted.into) if wanted.into else self.target

    def bring(self, wanted: Sequence[Wanted]) -> list[Brought]:
        """Have blobs at the target: there already, mounted, or copied, several at once; how, in their order.

        Raises the first error, of the RegistryError, ContentError or LocalError family, once what is under way came to
        rest; a later run goes on from there.
        """
        brought = [Brought() for _ in wanted]
        with Pool(TRANSFER_THREADS, "look") as pool:
            left = self._settle("present", list(zip(wanted, brought, strict=True)), pool, self._has)
            if left:
                name, digests = self.target.registry.name, [each.descriptor.digest for each, _ in left]
                held = self._state.holders(name, digests)
                left = self._settle("mounted", left, pool, partial(self._take_over, held))
        errors: list[RegistryPipelinesError] = []
        schedule = Schedule(self._tools.aside)
        for each, how in left:
            load = load_of(each.source, each.descriptor, [self.target])
            schedule.add(partial(self._copy, each, how, errors), rank=(0, -each.descriptor.size), load=load)
        schedule.run(TRANSFER_THREADS)
        if errors:
            raise errors[0]
        return brought

    def _settle(
        self, how: How, left: list[tuple[Wanted, Brought]], pool: Pool, ask: Callable[[Wanted], bool]
    ) -> list[tuple[Wanted, Brought]]:
        """Ask for each whether it is there by now; those that are not."""
        answers = list(pool.map(ask, [each for each, _ in left]))
        for there, (each, brought) in zip(answers, left, strict=True):
            if there:
                brought.how = how
                self._progress.end(each.label, note=how)
        return [pair for there, pair in zip(answers, left, strict=True) if not there]

    def _has(self, wanted: Wanted) -> bool:
        return self._present(self._goal(wanted), wanted.descriptor.digest, wanted.descriptor.size)

    def _take_over(self, held: Mapping[Digest, str], wanted: Wanted) -> bool:
        digest = wanted.descriptor.digest
        others = [*wanted.mount_from, *([held[digest]] if digest in held else [])]
        return self._mount(self._goal(wanted), digest, wanted.descriptor.size, others)

    def _copy(self, wanted: Wanted, brought: Brought, errors: list[RegistryPipelinesError]) -> None:
        def moved(_position: int, byte_count: int) -> None:
            brought.bytes_sent += byte_count
            self._progress.advance(wanted.label, byte_count)
            self._go_on()

        def resumed(_position: int, byte_count: int) -> None:
            self._progress.begin(wanted.label, total_bytes=wanted.descriptor.size - byte_count)

        if errors:
            return
        self._progress.begin(wanted.label, total_bytes=wanted.descriptor.size)
        source, descriptor = left_to_us(wanted.source), wanted.descriptor
        goal = self._goal(wanted)
        [outcome] = move_blob(source, descriptor, [goal], self._recording(), moved, resumed=resumed)
        self._progress.end(wanted.label, note="failed" if outcome else brought.how)
        if outcome is not None:
            errors.append(outcome)
            self.stop()

    def produce(self, name: str, produce: Produce, *, resumed: Callable[[int], None] | None = None) -> Descriptor:
        """Make a blob and store it. See :func:`~registry_pipelines.transfer.blob.produced.produce_blob`."""

        def guarded(write: Write) -> Descriptor:
            def checked(piece: memoryview | bytes) -> None:
                self._go_on()
                write(piece)

            return produce(checked)

        return produce_blob(self.target, name, guarded, self._recording(), resumed=resumed)

    def _recording(self) -> BlobTools:
        """With the journal, which is opened when something is sent."""
        self._tools.journal = self._state.open_journal()
        return self._tools

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise UploadsStopped("another upload failed", where=str(self.target), do="Its error says what to do")
