"""Record what a start of a release reads, and cut its hot packs.

That runs the image, so it is asked for after an allowing verdict alone, and in a sandbox: without network and
credentials, within the limits of ``stream.record``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from registry_pipelines.chain.measure import measured_where_missing
from registry_pipelines.chain.origins import platform_origins
from registry_pipelines.chain.promote import require_allowed
from registry_pipelines.chain.recordings import taken_of
from registry_pipelines.chain.releases import find_tags
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.start_process import run_start
from registry_pipelines.errors import ContentError, InputError, LocalError, NotFound, StartFailed
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.starts import read_start
from registry_pipelines.registry.platforms import Entry, read_images
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.stream.model import Record

if TYPE_CHECKING:  # what cuts is loaded by what does
    from registry_pipelines.stream.hot.packs import FoundPack, PackNote
    from registry_pipelines.stream.hot.recording import Recording

LEAST_FOUND = 0.9
"""Of an earlier release's recording, the share of pages whose files the new one has, too, from which on it is taken
over and nothing is run. A wheel that changed leaves more than that."""
EARLIER = 5
"""Releases of the image, the newest before this one first, that are asked for a recording."""

How = Literal["recorded", "taken over", "merged", "unchanged", "skipped"]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What became of one platform's image."""

    platform: str
    how: How
    why: str = ""
    """Why nothing is there, or what it was taken over from."""
    pages: int = 0
    pages_found: int = 0
    pack: str = ""
    pack_bytes: int = 0
    bytes_sent: int = 0
    changed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the recorded pages, those that the pack has."""
        return self.pages_found / self.pages if self.pages else 0.0

    def plain(self) -> dict[str, Scalar]:
        return {
            "platform": self.platform,
            "how": self.how,
            "pages": self.pages,
            "percent": round(100 * self.share, 1),
            "pack_bytes": self.pack_bytes,
            "bytes_sent": self.bytes_sent,
            "why": self.why,
        }


def record(session: Session, release: Release, wanted: Record | None = None) -> StageResult:
    """Have the hot pack of each platform of an allowed release beside it.

    wanted: how the start is recorded here in any case; the image's ``stream.record`` unless told, which runs nothing
    where the pack can be had without: it is there; a recording is, of which it can be cut; or the release before read
    mostly files that this one has, too. A platform that this machine cannot start is left out, with the reason. What
    the policy wants measured is measured, too. Before that what nodes recorded is taken out of the inbox of
    ``node.record``; where there is one, an image without ``stream.record`` has packs by that alone.
    ``facts["platforms_covered"]``, and a row for each platform. ``ok``: no program failed to start. Raises
    PromotionDenied (the verdict is not allow), InputError (the indexer's key is not here), LayerInvalid, RegistryError.
    """
    started = time.monotonic()
    image = session.image(release.image)
    settings = wanted or (image.stream.record if image.stream else None)
    if settings is None and session.config.node.record is None:
        return StageResult(
            stage="record",
            subject=release.key,
            action=f"not recorded: images.{image.name} has no `stream.record`",
            digest=release.digest,
            facts={"release": release.key},
        )
    require_allowed(session, release)
    work = _Work(session, release, settings, again=wanted is not None)
    place = session.source(release)
    images = read_images(place, place.registry.get_manifest(place.repository, release.digest))
    failures: list[str] = []
    taken = taken_of(session, place, [entry.digest for entry in images])
    rows = [work.covered(entry, failures) for entry in images]
    notes = [*taken, *(note for row in rows for note in row.notes)]
    if session.policy(release).max_start_time is not None and not failures:
        try:
            notes += measured_where_missing(session, release, images)
        except StartFailed as error:
            failures.append(f"{error.what}. {error.do}")
    there = [row for row in rows if row.pack]
    return StageResult(
        stage="record",
        subject=release.key,
        action=_action(rows, failures),
        digest=there[0].pack if there else "",
        changed=any(row.changed for row in rows),
        bytes_moved=sum(row.bytes_sent for row in rows),
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "platforms": len(rows),
            "platforms_covered": len(there),
            "recorded": sum(row.how == "recorded" for row in rows),
            "pack_bytes": sum(row.pack_bytes for row in rows),
            "pages": sum(row.pages for row in rows),
            "percent_covered": round(100 * min((row.share for row in there), default=0.0), 1),
        },
        rows=[row.plain() for row in rows],
        tables={"platform_bytes": [_bytes(row) for row in there]} if there else {},
        reasons=failures,
        notes=list(dict.fromkeys([*notes, *(f"{row.platform}: {row.why}" for row in rows if row.how == "skipped")])),
        ok=not failures,
        exit_code=StartFailed.exit_code if failures else 0,
    )


def _unchanged(entry: Entry, pack: FoundPack) -> _Row:
    return _Row(
        platform=str(entry.platform),
        how="unchanged",
        pages=pack.note.pages,
        pages_found=pack.note.pages_found,
        pack=pack.descriptor.digest,
        pack_bytes=pack.note.stored_bytes,
    )


def _bytes(row: _Row) -> dict[str, Scalar]:
    sent = min(row.bytes_sent, row.pack_bytes)
    return {"platform": row.platform, "there_bytes": row.pack_bytes - sent, "sent_bytes": sent}


def _action(rows: Sequence[_Row], failures: Sequence[str]) -> str:
    if failures:
        return "the start failed"
    there = [row for row in rows if row.pack]
    if not there:
        return f"not recorded: {rows[0].why}" if rows else "not recorded: it has no image"
    if not any(row.changed for row in there):
        return "unchanged"
    hows = ", ".join(dict.fromkeys(row.how for row in there if row.changed))
    return f"{hows}: {size_text(sum(row.pack_bytes for row in there))}"


class _Work:
    """The packs of one release."""

    def __init__(self, session: Session, release: Release, settings: Record | None, *, again: bool) -> None:
        """settings: None where nothing is run here. again: a start is recorded in any case."""
        self._session, self._release, self._again = session, release, again
        self._settings, self._runs = settings or Record(), settings is not None
        self._place = session.source(release)
        self._signer, self._verifier = session.keys.signer("indexer"), session.verifier()
        self._earlier: list[Release] | None = None

    def covered(self, entry: Entry, failures: list[str]) -> _Row:
        """One platform. failures: gets why a program did not start."""
        from registry_pipelines.stream.hot.recordings import find_recordings

        told = find_recordings(self._place, entry.digest, self._verifier).merged
        if not self._again:
            there = read_start(self._place, entry.digest, self._verifier).pack
            if there is not None and (told is None or self._is_of(there.note, told)):
                return _unchanged(entry, there)
            if told is not None:
                return self._cut(entry, told, "merged")
            if (row := self._taken_over(entry, LEAST_FOUND)) is not None:
                return row
        why = self._cannot_start(entry) if self._runs else "no node has recorded a start of it yet"
        if not why:
            try:
                return self._cut(entry, self._recorded(entry), "recorded")
            except StartFailed as error:
                failures.append(f"{entry.platform}: {error.what}. {error.do}")
                return _Row(platform=str(entry.platform), how="skipped", why="it did not start")
            except (LocalError, InputError) as error:
                why = f"{error.what}. {error.do}" if error.do else error.what
        row = self._taken_over(entry, 0.0) if not self._again else None
        return row or _Row(platform=str(entry.platform), how="skipped", why=why)

    def _is_of(self, note: PackNote, told: Recording) -> bool:
        """Whether a pack was cut of all that was recorded."""
        return (note.recorded, note.pages) == (told.image, told.pages) and note.gpu >= told.gpu

    def _cannot_start(self, entry: Entry) -> str:
        here = Platform.here()
        return "" if here.matches(entry.platform) else f"it is for {entry.platform}, and this machine is {here}"

    def _recorded(self, entry: Entry) -> Recording:
        """Run it, and attach what it read. Raises StartFailed, LocalError, InputError."""
        from registry_pipelines.stream.hot.contents import known_contents
        from registry_pipelines.stream.hot.recording import decode
        from registry_pipelines.stream.hot.recordings import publish_recording

        session, state = self._session, self._session.config.state
        task = f"record {entry.platform}"
        session.progress.begin(task)
        told = run_start(session, self._release.image, entry.digest, self._settings, state, cold=False)
        session.progress.end(task)
        recording = known_contents(self._place, decode(told.recording), state=state)
        return publish_recording(self._place, entry.descriptor, recording, self._signer).recording

    def _taken_over(self, entry: Entry, least: float) -> _Row | None:
        """Cut of what an earlier release read; None where there is none, or too little of its files are here."""
        from registry_pipelines.stream.hot.recordings import find_recordings

        for before, why in self._before(entry):
            recording = find_recordings(self._place, before, self._verifier).merged
            if recording is not None and (not least or self._is_wanted(recording)):
                row = self._cut(entry, recording, "taken over", least=least, earlier=[before])
                return replace(row, why=why) if row.pack else None
        return None

    def _before(self, entry: Entry) -> Iterator[tuple[Digest, str]]:
        """Images whose recordings may be this one's, too, each with whose it is: of what this one was derived of, which
        has the same files, then of the releases before."""
        for digest in platform_origins(self._session, self._release, entry.digest):
            yield digest, "of what it was made of"
        for release in self._releases_before():
            for before in self._images_of(release):
                if before.platform == entry.platform and before.digest != entry.digest:
                    yield before.digest, f"of {release.tag}"

    def _is_wanted(self, recording: Recording) -> bool:
        """Whether it was recorded as the configuration says now; of a command as far as that says one."""
        command = self._settings.command
        same = not command or recording.command[-len(command) :] == command
        return same and recording.until == self._settings.until

    def _releases_before(self) -> list[Release]:
        """The newest ones that are older than this one, what the channel names first."""
        if self._earlier is None:
            image, name = self._session.image(self._release.image), self._release.image
            own = order_key(self._release.tag)
            older = sorted((tag for tag in find_tags(self._session, image) if order_key(tag) < own), key=order_key)
            tags = [*(each.name for each in reversed(image.order)), *older[: -EARLIER - 1 : -1]]
            named = [Release(name, tag, digest) for tag in tags if (digest := digest_at(self._place, tag))]
            self._earlier = list({each.digest: each for each in named if each.digest != self._release.digest}.values())
        return self._earlier

    def _images_of(self, release: Release) -> Sequence[Entry]:
        """Empty for one that cannot be read: it lends nothing."""
        try:
            top = self._place.registry.get_manifest(self._place.repository, release.digest)
            return read_images(self._place, top)
        except (ContentError, NotFound):
            return ()

    def _cut(
        self, entry: Entry, recording: Recording, how: How, *, least: float = 0.0, earlier: Sequence[Digest] = ()
    ) -> _Row:
        from registry_pipelines.oci.layer.store import LayerStore
        from registry_pipelines.stream.hot.cutting import make_pack

        state, notes = self._session.config.state, list[str]()
        lending = [
            *earlier,
            *(each.digest for release in self._releases_before()[:1] for each in self._images_of(release)),
        ]
        made = make_pack(
            self._place,
            entry.digest,
            recording,
            state=state,
            store=LayerStore(state / "layers"),
            signer=self._signer,
            earlier=lending,
            least_found=least,
            engine=self._session.engine(receipts=False),
            progress=self._session.progress,
            log=notes.append,
        )
        if made.pages_left_out:
            notes.append(f"{count_text(made.pages_left_out, 'page')} at the end of the start are too much for one pack")
        return _Row(
            platform=str(entry.platform),
            how=how,
            why="" if made.pack else "the image has none of the files that were read",
            pages=made.pages,
            pages_found=made.pages_found,
            pack=made.pack.digest if made.pack else "",
            pack_bytes=made.stored_bytes,
            bytes_sent=made.bytes_sent,
            changed=made.changed,
            notes=tuple(f"{entry.platform}: {note}" for note in notes),
        )
