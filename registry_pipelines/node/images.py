"""The images that this node serves before they are fetched, found by what containerd says of a layer.

An image is opened once, by the digest of its manifest, with the rooms of ``stream.lazy``: what is served chains to that
digest, or to a signature that is believed. What it was served by is kept, so that a new process serves it again. An
image or a layer that cannot be read by pieces is left to the normal pull, and why is said once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from functools import partial
from pathlib import Path

from registry_pipelines.errors import ContentError, RegistryPipelinesError
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.node.announcing import Looked
from registry_pipelines.node.counts import Counts, Reason, reason_of
from registry_pipelines.node.freeing import Freeing, Store
from registry_pipelines.node.image_notes import ImageNote, ImageNotes
from registry_pipelines.node.lately import Lately
from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL
from registry_pipelines.node.opening import Opening, selector_of
from registry_pipelines.node.recording import StartRecorder
from registry_pipelines.node.served import Around, Found, Left, ServedImage, left_by_fanotify, left_by_fuse
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import MAX_BYTES, BlockStore, layer_usage
from registry_pipelines.stream.lazy.carriers import KEPT, Kind
from registry_pipelines.stream.lazy.guard import take_all
from registry_pipelines.stream.lazy.keeping import PATIENCE_S, Keeping
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.kept_registry import Beside
from registry_pipelines.stream.lazy.mounting import end_mount
from registry_pipelines.stream.lazy.vouching import NotBelieved

WAIT_S = 10.0
"""How long a pull waits for what an image is served by; then it goes on as usual, and what comes late is for the next
layer."""

RESUME_AGAIN_S = 5.0
"""An image that containers use, and that cannot be served on, is tried again after that."""

AGAIN_S = 60.0
"""For so long an image that could not be served is not looked at again: a pull asks once for each layer."""


class NodeImages:
    """See the module, and ``lazy_images.LazyImages``. Close it with the process."""

    def __init__(
        self,
        locate: Callable[[str], Place],
        *,
        state: Path,
        verifier: Verifier | None,
        log: Callable[[str], object],
        use_pack: bool = True,
        fill: bool = True,
        wait_s: float = WAIT_S,
        end_mounts: bool = True,
        patience_s: float = PATIENCE_S,
        counts: Counts | None = None,
        recorder: StartRecorder | None = None,
        unproven: bool = False,
        carrier: Kind = "fuse",
        store_bytes: int = MAX_BYTES,
        fault: str = "",
        beside: Beside | None = None,
    ) -> None:
        """locate: the repository of an image reference, with this machine's credentials. state: the folder with what
        this node keeps. verifier: whose indexes and hot packs are believed; None for nobody's. log: is told in one line
        what a person must know. fill: see ``served.ServedImage``. end_mounts: at the end what is mounted goes; else it
        stays for the next process, for which readers wait so long (patience_s, in seconds). counts: is told what was
        served, and what was not and why. carrier: of what is mounted from now on; what a former agent left keeps its
        own. recorder: of starts. unproven: serve layers of eStargz also where no believed
        indexer says that they are what the config claims; see ``proving``. store_bytes: what layers may take
        of the disk; more is fetched only while it is read. fault: why nothing can be mounted here
        (``carrier.fault_of``): then all images are left to the normal pull. beside: what the runtime has fetched
        (``runtime_content``).

        Raises LocalError, StateLocked: another process serves what is mounted there.
        """
        self._state, self._log, self._fill, self._wait_s = state, log, fill, wait_s
        self._end_mounts = self._ends_anyway = end_mounts
        self._recorder = recorder
        self._counts, self._fault = counts or Counts(), fault
        self._folder = state / "lazy" / "node"
        make_own(self._folder)
        self._notes = ImageNotes(self._folder)
        self._lock = threading.Lock()
        self._found: dict[str, Future[ServedImage | None]] = {}
        self._not_before: dict[str, float] = {}
        """By digest, in monotonic seconds."""
        self._slow = Lately()
        """Digests whose registry a pull waited for in vain: its other layers do not wait, too."""
        self._freeing = Freeing(lambda: BlockStore(state / "lazy" / "blocks"), self._needed)
        self._freeing_files = Freeing(self._files_store, self._needed_files)
        self._announced: Callable[[str], Sequence[tuple[str, str]]] = lambda chain_id: ()
        self._closed = threading.Event()
        self._keeping = Keeping(state / "lazy" / "keeper", patience_s=patience_s, log=log)
        self._around = Around(state / "lazy" / "mounts", log, self._keeping, set(), carrier)
        self._opening = Opening(
            locate,
            state=state,
            verifier=verifier,
            log=log,
            use_pack=use_pack,
            unproven=unproven,
            as_erofs=carrier != "fuse",
            store_bytes=store_bytes,
            beside=beside,
        )
        self._resuming: set[str] = set()
        """Digests of images that a former agent has mounted, and this one does not serve yet."""
        self._unwanted: set[str] = set()
        """Those of them that were removed meanwhile."""
        self._resume_all()
        threading.Thread(target=_load, args=(verifier is not None,), name="node_load", daemon=True).start()

    def __enter__(self) -> NodeImages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.close()
        self._freeing.close()
        self._freeing_files.close()
        with self._lock:
            self._closed.set()
            found, self._found = list(self._found.values()), {}
        if not self._end_mounts:
            for mounted in list(self._around.mounted):
                mounted.leave()
        for each in found:
            if each.done() and (image := each.result()) is not None:
                image.close() if self._end_mounts else image.leave()
        if self._end_mounts:  # of those that are left the name is gone
            for mounted in list(self._around.mounted):
                mounted.abandon()
        self._keeping.close(end=self._end_mounts)

    def find(self, labels: Mapping[str, str], chain_id: str) -> ServedImage | None:
        """See LazyImages."""
        reference, digest = labels.get(IMAGE_LABEL, ""), labels.get(MANIFEST_LABEL, "")
        if self._fault:
            if reference and digest:
                self._counts.fall_back(f"{reference}@{digest}", "this-machine", self._fault)
            return None
        if reference and digest:
            image = self._image(reference, digest)
            if image is not None:
                image.asked(chain_id)
            return image if image is not None and chain_id in image.layers else None
        for kept in self._notes.all():
            if chain_id in kept.layers and (image := self._image(kept.reference, kept.digest)) is not None:
                return image
        for reference, digest in self._announced(chain_id):
            image = self._image(reference, digest)
            if image is not None and chain_id in image.layers:
                return image
        return None

    def release(self, image: str) -> None:
        """See LazyImages."""
        self._release_digest(image.rpartition("@")[2])

    def _release_digest(self, digest: str) -> None:
        with self._lock:
            found = self._found.get(digest)
        if found is None:
            self._forget(digest)
        elif found.done():
            self._release(digest, found)
        else:  # it is looked for, or served on, just now
            threading.Thread(target=self._release, args=(digest, found), name="release", daemon=True).start()

    def _release(self, digest: str, found: Future[ServedImage | None]) -> None:
        if (image := found.result()) is not None:
            image.release()
            return
        with self._lock:
            if digest in self._resuming:
                self._unwanted.add(digest)
        self._forget(digest)

    def retain(self, images: Collection[str]) -> None:
        """See LazyImages."""
        wanted = {image.rpartition("@")[2] for image in images}
        for digest in {*(kept.digest for kept in self._notes.all()), *self._resuming} - wanted:
            self._release_digest(digest)

    def drain(self, *, wanted: bool, done: bool) -> None:
        """See LazyImages."""
        with self._lock:
            self._end_mounts = self._ends_anyway or done
            found = [each.result() for each in self._found.values() if each.done()] if wanted else []
        for image in found:
            if image is not None:
                image.fill()

    def _image(self, reference: str, digest: str) -> ServedImage | None:
        with self._lock:
            if self._closed.is_set():
                return None
            found = self._found.get(digest)
            if found is not None and found.done() and found.result() is None:
                found = None if time.monotonic() >= self._not_before[digest] else found
            if found is None and (digest in self._resuming or self._notes.is_unfit(digest)):
                return None
            if found is None:
                found = self._found[digest] = Future()
                threading.Thread(
                    target=self._open, args=(reference, digest, found), name="node_image", daemon=True
                ).start()
        try:
            return found.result(0.0 if self._slow.has(digest) else self._wait_s)
        except TooLate:
            if self._slow.first(digest, AGAIN_S):
                self._as_usual(f"{reference}@{digest}", "slow", f"its registry takes longer than {self._wait_s:g} s")
            return None

    def _as_usual(self, image: str, reason: Reason, why: str) -> None:
        """An image is left to the normal pull: said, and counted."""
        self._counts.fall_back(image, reason, why)
        self._log(f"{image} is pulled as usual: {why}")

    def _open(self, reference: str, digest: str, found: Future[ServedImage | None]) -> None:
        """In a thread. A pull is answered as soon as it is known which layers are served; what says how they are read
        is fetched and merged then."""
        name = f"{reference}@{digest}"
        image: ServedImage | None = None
        try:
            image = self._made(reference, Digest.parse(digest))
            image.open(partial(self._answer, image, found), partial(self._keep, image))
            if not image.layers and not found.done():
                self._as_usual(image.name, _reason(image), image.left_out or "it has no layers")
                image.close()
                image = None
        except RegistryPipelinesError as error:
            self._failed(name, image, found, reason_of(error), str(error))
            image = None
        except Exception as error:
            self._failed(name, image, found, "other", f"{type(error).__name__}: {error}")
            image = None
        if not found.done():
            self._answer(image, found, digest)

    def _failed(
        self, name: str, image: ServedImage | None, found: Future[ServedImage | None], reason: Reason, why: str
    ) -> None:
        if not found.done():
            self._as_usual(name, reason, why)
        elif image is not None and not self._closed.is_set():
            self._log(f"{name} cannot be mounted yet, and containers that start try again: {why}")

    def _answer(self, image: ServedImage | None, found: Future[ServedImage | None], digest: str = "") -> None:
        """What pulls wait for."""
        if image is not None:
            self._log(image.told)
            if image.left_out:
                self._counts.fall_back(image.name, _reason(image), image.told)
            if image.layers:
                self._note(image)
        self._counts.count("images", served="none" if image is None else "part" if image.left_out else "all")
        with self._lock:
            closed = self._closed.is_set()
            self._not_before[image.digest if image is not None else digest] = time.monotonic() + AGAIN_S
        if image is not None and closed:
            image.close()
            image = None
        found.set_result(image)

    def _opened(self, reference: str, digest: Digest, *, keep: bool = True) -> ServedImage:
        """keep: a new process is to serve it again."""
        image = self._made(reference, digest)
        image.open(None, partial(self._keep, image) if keep else lambda: None)
        return image

    def _made(self, reference: str, digest: Digest) -> ServedImage:
        """Not open yet."""
        kept = self._notes.read(digest)
        if kept is not None:  # one name for one image, under however many references it is pulled
            reference = kept.reference
        return ServedImage(
            reference,
            digest,
            partial(self._opening.layers, self._opening.place(reference), selector_of(reference), digest),
            folder=self._folder,
            around=self._around,
            fill=self._fill,
            ended=self._end,
            unfit=self._is_unfit,
            recorder=self._recorder,
            before=len(kept.layers) if kept is not None else 0,
        )

    def _keep(self, image: ServedImage) -> None:
        """It is open: a new process serves it again, and what outlives this one is there before its mount."""
        if image.layers:
            self._note(image)
            if self._around.carrier == "fuse":  # what fanotify mounts has holders of its own
                self._keeping.begin()

    def _is_unfit(self, image: ServedImage, error: ContentError) -> None:
        """What was promised of an image cannot be mounted: pulled again, it is pulled as usual."""
        self._notes.mark_unfit(image.digest, str(error))
        self._counts.fall_back(image.name, reason_of(error), str(error))
        self._log(f"{image.name} cannot be served, though that was promised; remove it and pull it again: {error}")
        self._end(image)

    def usage(self, image: str, chain_id: str) -> tuple[int, int]:
        """See LazyImages."""
        kept = self._notes.read(image.rpartition("@")[2])
        found = dict(zip(kept.layers, kept.folders, strict=False)) if kept is not None else {}
        return layer_usage(Path(found[chain_id])) if chain_id in found else (0, 0)

    def look(self, reference: str) -> Looked:
        """See ``Opening.look``."""
        return self._opening.look(reference)

    def know(self, announced: Callable[[str], Sequence[tuple[str, str]]]) -> None:
        """Images are found by the chain ID of a layer from now on, too. announced: see ``Announcing.having``."""
        self._announced = announced

    def _note(self, image: ServedImage) -> None:
        self._notes.write(ImageNote(image.reference, image.digest, image.layers, image.folders))

    def _end(self, image: ServedImage) -> None:
        self._forget(image.digest, image.folders)
        self._freeing_files.free(image.files)

    def _forget(self, digest: str, folders: Sequence[str] = ()) -> None:
        with self._lock:
            self._found.pop(digest, None)
        kept = self._notes.forget(digest)
        self._freeing.free(kept.folders if kept is not None else folders)

    def _needed(self) -> set[str]:
        return {folder for kept in self._notes.all() for folder in kept.folders}

    def _files_store(self) -> Store:
        from registry_pipelines.stream.lazy.backing import BackingStore  # FUSE needs none

        return BackingStore((self._state / "lazy" / "backing").resolve())

    def _needed_files(self) -> set[str]:
        with self._lock:
            found = [each.result() for each in self._found.values() if each.done()]
        return {file for image in found if image is not None for file in image.files}

    def _resume_all(self) -> None:
        """Serve on what a former agent left mounted, and take away what nobody can serve."""
        left: dict[str, list[tuple[Found, Left]]] = {}
        taken = take_all(self._state / "lazy" / KEPT)
        for found in (*map(left_by_fuse, self._keeping.left), *map(left_by_fanotify, taken)):
            if found.left is None:
                self._give_up(found, "another version of this program mounted it")
            else:
                left.setdefault(found.left.digest, []).append((found, found.left))
        stays = {told.folder for each in left.values() for found, told in each if not found.ended}
        for folder in self._folder.iterdir():
            if not folder.suffix and str(folder) not in stays:
                end_mount(folder)
                with suppress(OSError):
                    folder.rmdir()
        for digest, each in left.items():
            answer: Future[ServedImage | None] = Future()
            if any(not found.ended for found, _ in each):
                self._resuming.add(digest)
                self._found[digest] = answer
            threading.Thread(target=self._resume, args=(digest, each, answer), name="resume", daemon=True).start()

    def _resume(self, digest: str, left: list[tuple[Found, Left]], found: Future[ServedImage | None]) -> None:
        """In a thread: until it is served. Who reads waits meanwhile, and then gets errors (``stream.lazy.keeper``)."""
        lasts = any(not each.ended for each, _ in left)
        image: ServedImage | None = None
        until = time.monotonic() + self._keeping.patience_s
        while not self._closed.is_set():
            try:
                image = image or self._opened(left[0][1].reference, Digest.parse(digest), keep=lasts)
                while left:
                    each, told = left[0]
                    if image.resume(each, told):
                        self._counts.count("taken_over")
                    else:
                        self._give_up(each, "its tree is another one now")
                    left.pop(0)
            except Exception as error:
                self._log(f"{left[0][1].reference}@{digest}, of which containers run, cannot be served on yet: {error}")
                if not found.done():
                    self._not_before[digest] = time.monotonic() + AGAIN_S
                    found.set_result(None)
                self._look_at_left(digest, left, is_late=time.monotonic() > until)
                if left:
                    self._closed.wait(RESUME_AGAIN_S)
                    continue
                with self._lock:
                    self._resuming.discard(digest)
                if image is not None:
                    image.let_go()
                return
            self._resumed(digest, image, found, lasts=lasts)
            return

    def _look_at_left(self, digest: str, left: list[tuple[Found, Left]], *, is_late: bool) -> None:
        """What cannot be served on yet may have no users any more. Readers of a watched file wait for this process
        alone, which must not be for ever; those of others get errors from the keeper meanwhile."""
        for each, told in list(left):
            if digest in self._unwanted and not each.ended:
                end_mount(Path(told.folder))
                with suppress(OSError):
                    Path(told.folder).rmdir()
            if each.is_over:
                each.drop(self._keeping)
                left.remove((each, told))
            elif is_late and each.taken is not None:
                self._give_up(each, "it cannot be opened")
                left.remove((each, told))

    def _resumed(self, digest: str, image: ServedImage, found: Future[ServedImage | None], *, lasts: bool) -> None:
        with self._lock:
            self._resuming.discard(digest)
            if found.done():
                found = Future()
            if lasts and not self._closed.is_set():
                self._found[digest] = found
            unwanted = digest in self._unwanted
            self._unwanted.discard(digest)
        found.set_result(image)
        self._log(f"{image.name} is served on")
        if unwanted:
            image.release()
        if not lasts:
            image.let_go()

    def _give_up(self, found: Found, why: str) -> None:
        """Have reads of a mount fail: with another tree they would give what is wrong. New containers get a new
        mount."""
        left, named = found.left, found.left is not None and not found.ended
        if found.kept is not None:
            self._keeping.fail(found.kept.name)
        if left is not None and named:
            end_mount(Path(left.folder))
        if found.taken is not None:
            found.taken.end(None)
        name = f"{left.reference}@{left.digest}" if left is not None else "an image"
        self._counts.count("lost")
        self._log(f"{name} is not served on: {why}; containers that run get errors for what they did not read yet")


def _reason(image: ServedImage) -> Reason:
    """Why not all of its layers are served."""
    return "not-trusted" if isinstance(image.left_out, NotBelieved) else "not-indexed"


def _load(verifies: bool) -> None:
    """What looks for indexes and hot packs: else the first pull would wait for it (0.1 s)."""
    import registry_pipelines.oci.layer.store
    import registry_pipelines.stream.hot.using
    import registry_pipelines.stream.lazy.tables  # noqa: F401

    if verifies:  # which cryptography loads with the first signature
        import cryptography.hazmat.backends.openssl.backend  # noqa: F401

    "".encode("idna")  # a first connection to a host loads that, too


__all__ = ["NodeImages"]
