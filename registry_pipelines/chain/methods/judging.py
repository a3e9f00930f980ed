"""What decides about a release: signatures, verdicts, people, channels, and what takes it back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.chain.recordings import InboxLook
    from registry_pipelines.config.notify import NotifyEvent
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.node.counts import Counts
    from registry_pipelines.node.gate import NodeGate
    from registry_pipelines.node.model import Gate
    from registry_pipelines.promote.admission.model import Form
    from registry_pipelines.promote.admission.webhook import Told
    from registry_pipelines.promote.person import Person
    from registry_pipelines.registry.embedded.http_server import HttpServer
    from registry_pipelines.stream.model import Record


class Judging(Base):
    """The stages that decide: sign, judge, promote, revoke."""

    def sign(self, release: Release) -> StageResult:
        """Sign the release and attest its evidence; after the scan, before :meth:`judge`."""
        from registry_pipelines.chain import sign

        return sign.sign(self._session, release)

    def verify(self, release: Release) -> StageResult:
        """Check the signatures, as anybody may who has the public keys. Raises EvidenceMissing, SignatureInvalid."""
        from registry_pipelines.chain import sign

        return sign.verify(self._session, release)

    def judge(self, release: Release) -> StageResult:
        """The verdict, published as signed evidence, which :meth:`promote` asks for; ``ok`` when it is allow. A new
        deny is told, see :meth:`notify`."""
        from registry_pipelines.chain import promote

        result = promote.judge(self._session, release)
        if result.ok or not result.changed:  # what was said before is told no second time
            return result
        problems = self.notify("denied", release, stage="judge", what=result.action, reasons=result.reasons)
        return replace(result, notes=[*result.notes, *problems])

    def record(self, release: Release, wanted: Record | None = None) -> StageResult:
        """The hot pack of each platform of an allowed release: of a start that is recorded here, of what the release
        before it read, or of what nodes sent; after :meth:`judge`, before :meth:`promote`. Nothing where the image has
        no ``stream.record``, unless ``wanted`` or nodes record. ``facts["platforms_covered"]``. Raises PromotionDenied:
        it may not be run."""
        from registry_pipelines.chain import record

        return record.record(self._session, release, wanted)

    def recorded_by_nodes(self) -> InboxLook:
        """What nodes recorded since the last time, and of which releases; read only. Raises InputError: no inbox is
        configured; RegistryError."""
        from registry_pipelines.chain import recordings

        return recordings.look(self._session)

    def collect_recordings(self, releases: Collection[Release] = ()) -> list[StageResult]:
        """Take what nodes recorded out of the inbox, of all releases unless told, and cut their packs anew."""
        from registry_pipelines.chain import recordings

        return recordings.collect(self._session, releases)

    def sweep_recordings(self) -> StageResult:
        """Delete from the inbox what nodes sent of images that are no release's."""
        from registry_pipelines.chain import recordings

        return recordings.sweep(self._session)

    def measure(self, release: Release) -> StageResult:
        """Start an allowed release on this machine with nothing of it here, and attach how long that took, where that
        is news. ``facts["started_s"]``, ``facts["result_s"]``. Raises PromotionDenied: it may not be run."""
        from registry_pipelines.chain import measure

        return measure.measure(self._session, release)

    def approve(
        self,
        release: Release,
        capacity: str,
        by: Person | None = None,
        *,
        note: str = "",
        lasts: timedelta | None = None,
        withdraw: bool = False,
        signer: Signer | None = None,
    ) -> StageResult:
        """Attach what a person says about a release, signed with their key (the configuration's of the person unless
        told); before :meth:`judge` where its policy asks for it. Raises InputError when that key does not count."""
        from registry_pipelines.chain import approve

        return approve.approve(
            self._session, release, capacity, by, note=note, lasts=lasts, withdraw=withdraw, signer=signer
        )

    def approvals(self, release: Release) -> StageResult:
        """What people said about a release, and whether it counts now."""
        from registry_pipelines.chain import approve

        return approve.approvals(self._session, release)

    def promote(self, release: Release, by: Person | None = None, *, channel: str = "") -> StageResult:
        """Move a channel tag to an allowed release, also back to an earlier one, because somebody asks. by: who; the
        account of this process unless told. channel: which, of an image with several. Raises PromotionDenied, which is
        told, see :meth:`notify`, and InputError."""
        from registry_pipelines.chain import promote

        with self._telling_denials(release):
            return promote.promote(self._session, release, by, channel=channel)

    def break_glass(
        self, release: Release, by: Person | None = None, *, reason: str, lasts: timedelta, channel: str = ""
    ) -> StageResult:
        """Let a release come to a channel (the last of its image unless told) against its policy, for a time; before
        :meth:`promote`. Told, and listed until :meth:`close_break_glass`. Raises InputError."""
        from registry_pipelines.chain import intervene

        result = intervene.open_glass(self._session, release, by, reason=reason, lasts=lasts, channel=channel)
        what = f"{result.facts['channel']} may name it until {result.facts['expires']}: {reason}"
        problems = self.notify("break-glass", release, stage="break-glass", what=what, reasons=result.notes)
        return replace(result, notes=[*result.notes, *problems])

    def close_break_glass(self, release: Release, by: Person | None = None, *, reason: str = "") -> StageResult:
        """End every break-glass of a release. Raises InputError where there is none."""
        from registry_pipelines.chain import intervene

        return intervene.close_glasses(self._session, release, by, reason=reason)

    def break_glasses(self, images: Sequence[str] = ()) -> StageResult:
        """Every break-glass of images (all unless named) that nobody closed; ``rows``."""
        from registry_pipelines.chain import intervene

        return intervene.glasses(self._session, images)

    def revoke(
        self, release: Release, by: Person | None = None, *, reason: str, back_to: Release | None = None
    ) -> StageResult:
        """Deny a release that turned out bad, take its channels back to the last good one, and tell every place that
        has it; not ``ok`` while something is left, and the same call does the rest. Told, and listed until
        :meth:`close_revocation`. Raises InputError, RegistryError of the source."""
        from registry_pipelines.chain import revoke

        result = revoke.revoke(self._session, release, by, reason=reason, back_to=back_to)
        what = f"{result.action}: {result.facts['reason']}"
        problems = self.notify("revoked", release, stage="revoke", what=what, reasons=result.reasons)
        return replace(result, notes=[*result.notes, *problems])

    def close_revocation(
        self, release: Release, by: Person | None = None, *, reason: str = "", lift: bool = False
    ) -> StageResult:
        """Take a revocation off the list, where all is done; it goes on denying, unless it is lifted. Raises
        InputError."""
        from registry_pipelines.chain import revoke

        return revoke.close(self._session, release, by, reason=reason, lift=lift)

    def revocations(self, images: Sequence[str] = ()) -> StageResult:
        """Every revocation of images (all unless named) that nobody closed; ``rows``."""
        from registry_pipelines.chain import intervene

        return intervene.revocations(self._session, images)

    def interventions(self, images: Sequence[str] = ()) -> StageResult:
        """Both lists in one, with the commands that end them."""
        from registry_pipelines.chain import intervene

        return intervene.interventions(self._session, images)

    def promote_automatically(self, release: Release) -> StageResult:
        """The same for a run that nobody asked to promote: only where the image says so, and never back. Elsewhere an
        allowed release waits for a person: ``facts["waits"]``, and it is told, as a denial is."""
        from registry_pipelines.chain import promote

        with self._telling_denials(release):
            result = promote.promote_automatically(self._session, release)
        if not result.facts.get("waits"):
            return result
        reasons = [*result.notes, *result.next_steps]
        problems = self.notify("held", release, stage="promote", what=result.action, reasons=reasons)
        return replace(result, notes=[*result.notes, *problems])

    def channel_rows(self, release: Release) -> list[dict[str, Scalar]]:
        """How a release stands with each channel of its image, in order and plain words: a row for each. Read only.
        Raises RegistryError."""
        from registry_pipelines.chain import promote

        return [
            {"channel": each.name, "state": each.state, "why": "; ".join(each.why)}
            for each in promote.standings(self._session, release)
        ]

    def goes_on(self, release: Release) -> str:
        """The channel that a release may come to by itself now: the next one, where that is ``promote: auto`` and the
        gate lets it; empty for none. Read only. Raises RegistryError."""
        from registry_pipelines.chain import promote

        return promote.goes_on(self._session, release)

    def start_problems(self, release: Release) -> list[str]:
        """What keeps a release that is allowed from being promoted by the way it starts: no hot pack, no measurement,
        one that is too large or too slow. Empty where its policy asks nothing; read only."""
        from registry_pipelines.chain import promote

        return promote.start_problems(self._session, release)

    @contextmanager
    def _telling_denials(self, release: Release) -> Iterator[None]:
        try:
            yield
        except PromotionDenied as error:
            event: NotifyEvent = "held" if isinstance(error, PromotionHeld) else "denied"
            what = error.what.partition("\n")[0]
            told = self.notify(event, release, stage="promote", what=what, reasons=error.reasons)
            for problem in told:
                error.add_note(problem)
            raise

    def require_promoted(self, release: Release, *, target: str = "") -> list[str]:
        """Raise PromotionDenied unless signed evidence lets the release leave its source, to a target where one is
        told; what the verdict accepted."""
        from registry_pipelines.chain import promote

        return promote.require_promoted(self._session, release, target=target)

    def channels_reached(self, release: Release) -> list[str]:
        """Names of the channels that signed records say a release was put under, in order; read only."""
        from registry_pipelines.chain import channels

        return [each.name for each in channels.reached(self._session, release)]

    def admission_webhook(self, told: Told | None = None) -> AbstractContextManager[HttpServer]:
        """The webhook that API servers ask what may start, not started. told: hears of each object that was judged.
        Raises InputError."""
        from registry_pipelines.chain import admission

        return admission.webhook(self._session, told)

    def node_gate(
        self,
        settings: Gate,
        folder: Path,
        log: Callable[[str], object],
        counts: Counts | None = None,
        hosts: Sequence[Path] = (),
    ) -> AbstractContextManager[NodeGate]:
        """What the agent of a node asks before an image comes or starts. folder: for the last answers. hosts: see
        ``node_gate.node_gate``. Raises InputError, LocalError."""
        from registry_pipelines.chain import node_gate

        return node_gate.node_gate(self._session, settings, folder, log, counts, hosts)

    def admission_files(self, form: Form) -> dict[str, bytes]:
        """The rules of the webhook in another program's form: content by path below a folder. Raises InputError,
        RegistryError."""
        from registry_pipelines.chain import admission_files

        return admission_files.generated(self._session, form)
