"""The stages of a configuration, as one class that the command line and Dagster call.

Each stage is loaded when it is called: a promotion needs no builder and no scanner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.notify import Notifier
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config
from registry_pipelines.errors import EvidenceError, NotFound, PromotionDenied, PromotionHeld, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.chain.bundle_inbox import Inbox
    from registry_pipelines.chain.events import Heard
    from registry_pipelines.chain.ship import Shipment, Stage
    from registry_pipelines.chain.status import Status
    from registry_pipelines.chain.wheels import Asked as AskedWheels
    from registry_pipelines.collect.plan import RetentionPlan
    from registry_pipelines.config.model import NotifyEvent
    from registry_pipelines.events.told import Fact
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.infra.plan import Plan as InfraPlan
    from registry_pipelines.infra.terraform.aws import AwsVersion
    from registry_pipelines.infra.terraform.writing import Written as Terraform
    from registry_pipelines.inventory.from_ecr import Manifests
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.lifecycle.ecr_policy import EcrPolicy
    from registry_pipelines.mirror.model import ClusterForm
    from registry_pipelines.promote.admission.model import Form
    from registry_pipelines.promote.admission.webhook import Told
    from registry_pipelines.promote.person import Person
    from registry_pipelines.registry.embedded.http_server import HttpServer
    from registry_pipelines.settings import Size
    from registry_pipelines.stream.model import Record, Stream
    from registry_pipelines.transfer.sync import SyncResult
    from registry_pipelines.transfer.verify import Comparison


class Chain:
    """The stages of one configuration. Safe to use from many threads.

    All methods raise the errors of ``errors.py``; those that judge raise EvidenceError for "no" where going on would
    ship something, and return ``ok=False`` where only a question was asked.
    """

    def __init__(self, config: Config, *, progress: Progress | None = None) -> None:
        self.config = config
        self._session = Session(config, progress or Silent())
        self._notifier = Notifier(config)

    def with_progress(self, progress: Progress) -> Chain:
        """The same chain, open registries and limits included, with its progress told to ``progress``."""
        chain = copy(self)
        chain._session = self._session.with_progress(progress)
        return chain

    def registry(self, name: str) -> Registry:
        """A registry of the configuration, opened once; for what no stage does. Raises InputError."""
        return self._session.places.registry(name)

    def place(self, image: str) -> Place:
        """Where an image's releases appear. Raises InputError."""
        return self._session.places.source(self._session.image(image))

    def on_channels(self, image: str) -> dict[str, Digest | None]:
        """The digest that each channel tag of an image names now, whoever moved it; None where there is none."""
        place = self.place(image)
        return {each.name: digest_at(place, each.name) for each in self._session.image(image).order}

    def target_place(self, image: str, target: str) -> Place:
        """Where an image is at a target. Raises InputError."""
        return self._session.places.target(self._session.image(image), target)

    def targets(self, image: str) -> list[str]:
        """Names of the targets an image's releases must reach: what :meth:`replicate` takes. Raises InputError."""
        return list(self._session.image(image).targets)

    def targets_of(self, release: Release) -> list[str]:
        """Those of them that a release reaches as far as it was promoted; all, of an image with one channel. Raises
        InputError, RegistryError."""
        from registry_pipelines.chain import channels

        return channels.targets_of(self._session, release)

    def mirrors(self, image: str) -> list[str]:
        """Names of the mirrors that take an image's releases: what :meth:`mirror_release` takes. Raises InputError."""
        self._session.image(image)
        return [name for name, mirror in self.config.mirrors.items() if image in mirror.images]

    def mirror_places(self, image: str, mirror: str) -> list[Place]:
        """The places an image's releases go through in a mirror, the private one last. Raises InputError."""
        return self._session.stops(self._session.mirror(mirror), self._session.image(image).repository)

    def releases(self, images: Collection[str] | None = None, *, known: Collection[Release] = ()) -> Iterator[Release]:
        """Every release in the source registries, or those of some images; one per digest.

        known: releases found earlier, whose tags are not asked for again.
        """
        from registry_pipelines.chain import releases

        return releases.releases(self._session, images, known=known)

    def releases_named(self, image: str, tags: Collection[str]) -> list[Release]:
        """Those of an image's releases that some tags name now; the registry is asked for each, and lists nothing."""
        from registry_pipelines.chain import releases

        return releases.releases_named(self._session, self._session.image(image), tags)

    def is_there(self, release: Release) -> bool:
        """Whether its source registry still has a release's digest, under whatever tag. Raises RegistryError."""
        place = self._session.source(release)
        try:
            place.registry.resolve(place.repository, release.digest)
        except NotFound:
            return False
        return True

    def platform_digests(self, release: Release) -> list[Digest]:
        """Digests of a release's images, one for each platform. Raises RegistryError."""
        from registry_pipelines.registry.platforms import images_of, read_entries

        place = self._session.source(release)
        top = place.registry.get_manifest(place.repository, release.digest)
        return [entry.digest for entry in images_of(read_entries(place, top, configs=False))]

    def hear(self, registry: str, *, most: int, hold_s: int) -> Heard:
        """What a registry's events tell, up to so many messages; each is held for ``hold_s`` seconds, and comes again
        unless :meth:`acknowledge` drops it. What cannot be read is kept aside, what is no hint is kept for
        :meth:`told`. Raises InputError for a registry without events."""
        from registry_pipelines.chain import events

        return events.hear(self._session, registry, most=most, hold_s=hold_s)

    def acknowledge(self, registry: str, receipts: Sequence[str]) -> int:
        """Drop messages that were acted on; how many could not be dropped, and come again."""
        from registry_pipelines.chain import events

        return events.source_of(self._session, registry).acknowledge(receipts)

    def check_events(self, registries: Collection[str] = ()) -> StageResult:
        """Whether the queues of registries answer, and what they told last. Raises InputError where none has one."""
        from registry_pipelines.chain import event_looks

        return event_looks.check_events(self._session, registries)

    def show_events(self, registry: str, *, most: int = 10) -> StageResult:
        """What waits in a registry's queue; it stays there."""
        from registry_pipelines.chain import event_looks

        return event_looks.show_events(self._session, registry, most=most)

    def told(self, registry: str) -> list[Fact]:
        """What events told last about a registry's scans, replications and caches, the newest first."""
        from registry_pipelines.chain import events

        return events.told(self._session, registry)

    def find_release(self, text: str) -> Release:
        """A release by key (whole or short), ``image:tag``, ``image@digest``, or ``image`` that has one. Raises
        InputError, NotFound."""
        from registry_pipelines.chain import releases

        return releases.find_release(self._session, text)

    def notify(
        self, event: NotifyEvent, release: Release, *, stage: str, what: str, reasons: Sequence[str] = ()
    ) -> list[str]:
        """Tell whom the configuration names in ``notify``, each thing once; what went wrong with that, one sentence
        each. :meth:`judge` and :meth:`promote` tell of denials by themselves."""
        return self._notifier.tell(event, release, stage=stage, what=what, reasons=reasons)

    def notify_failed(self, release: Release, stage: str, error: RegistryPipelinesError) -> None:
        """Tell that an error ended a stage for good; for whoever does not try it again. What went wrong with that is
        noted on the error. A denial is no failure, and is told where it is decided."""
        if not isinstance(error, EvidenceError):
            for problem in self.notify("failed", release, stage=stage, what=str(error)):
                error.add_note(problem)

    def locate(self, text: str, *, default_tag: str = "latest") -> Located:
        """A release as :meth:`find_release` reads it where ``text`` begins with an image of the configuration, else any
        reference; see :meth:`~registry_pipelines.chain.places.Places.locate`. Raises InputError, NotFound (a
        release)."""
        if text.partition("@")[0].partition(":")[0] in self.config.images:
            release = self.find_release(text)
            return Located(self.place(release.image), release.tag, release.digest)
        return self._session.places.locate(text, default_tag=default_tag)

    def keys_of(self, wanted: Iterable[Release]) -> dict[Release, str]:
        """The short key of each release, ``image:tag@<12 hex>``; the state folder has it when this returns."""
        from registry_pipelines.chain.release_keys import ReleaseKeys

        return ReleaseKeys(self.config.state).name(wanted)

    def known_keys(self) -> dict[str, Release]:
        """Every short key that the state folder has, and its release."""
        from registry_pipelines.chain.release_keys import ReleaseKeys

        return ReleaseKeys(self.config.state).every()

    def admission_webhook(self, told: Told | None = None) -> AbstractContextManager[HttpServer]:
        """The webhook that API servers ask what may start, not started. told: hears of each object that was judged.
        Raises InputError."""
        from registry_pipelines.chain import admission

        return admission.webhook(self._session, told)

    def admission_files(self, form: Form) -> dict[str, bytes]:
        """The rules of the webhook in another program's form: content by path below a folder. Raises InputError,
        RegistryError."""
        from registry_pipelines.chain import admission_files

        return admission_files.generated(self._session, form)

    def rebuild_keys(self, image: str) -> None:
        """Give every release of an image that signed records name its short key, after a state folder was lost."""
        from registry_pipelines.chain import signed_releases

        signed_releases.rebuild_keys(self._session, image)

    def release_of_key(self, key: str, digest: str = "") -> Release:
        """The release of a key, whole or short, and of nothing else; unknown and ambiguous ones raise InputError.

        digest: that whoever asks was told with the key; for a state folder that does not know the key."""
        from registry_pipelines.chain import signed_releases

        return signed_releases.release_of_key(self._session, key, digest)

    def statuses(self, images: Sequence[str] = ()) -> list[Status]:
        """Where the channels of images (all unless named) stand; asks only. A registry that is down is told in the
        answers. Raises InputError."""
        from registry_pipelines.chain import status

        return status.statuses(self._session, images)

    def release_statuses(self, releases: Sequence[Release]) -> list[Status]:
        """Where releases stand, each by its version tag; asks only. Raises InputError, RegistryError of a source."""
        from registry_pipelines.chain import status

        return status.release_statuses(self._session, releases)

    def page(self, release: Release) -> StageResult:
        """Whether a release ships and why, where it is, and what changed since the one before it; read only. Raises
        InputError, RegistryError of its source."""
        from registry_pipelines.chain import page

        return page.page(self._session, release)

    def build(self, image: str) -> StageResult:
        """Build an image and push it; ``facts["release"]`` is the release's key. Raises InputError."""
        from registry_pipelines.chain import build

        return build.build(self._session, image)

    def make_release(self, image: str) -> list[StageResult]:
        """Build an image, and where its releases are derived (``stream``) derive this one: a result for each, and
        ``facts["release"]`` of the last is the release's key. Raises InputError."""
        from registry_pipelines.chain import build, releases

        built, settings = build.build(self._session, image), self._session.image(image)
        if settings.build is None or releases.derivation(settings) is None:
            return [built]
        return [built, self.convert(image, settings.build.version)]

    def convert(self, image: str, tag: str, wanted: Stream | None = None) -> StageResult:
        """Derive a release of the image that was pushed as ``tag``, in the form that the configuration says, or
        ``wanted``; ``facts["release"]`` is its key. Raises InputError, NotFound."""
        from registry_pipelines.chain import stream

        return stream.convert(self._session, image, tag, wanted)

    def origins(self, image: str) -> dict[str, bool]:
        """Tags that an image's releases are derived of, the newest first, and whether that was done; empty for an image
        whose pushed ones are the releases. Raises InputError, RegistryError."""
        from registry_pipelines.chain import releases

        return releases.origins(self._session, self._session.image(image))

    def provenance(self, release: Release) -> StageResult:
        """How the release was made, as its builder says; read only, any time after the push."""
        from registry_pipelines.chain import build

        return build.provenance(self._session, release)

    def index(self, release: Release, wanted: Stream | None = None) -> StageResult:
        """Indexes beside the release, from which nodes start it before they have fetched it whole; before
        :meth:`sbom`, so that layers are read once. Nothing where the image has no ``stream``, unless ``wanted``."""
        from registry_pipelines.chain import stream

        return stream.index(self._session, release, wanted)

    def check_stream(self, release: Release, *, every_span: bool = False) -> StageResult:
        """What keeps a release from starting before it is fetched whole; read only, any time. every_span: read layers
        whole through their indexes, in place of a sample."""
        from registry_pipelines.chain import stream

        return stream.check(
            self.place(release.image),
            release.digest,
            subject=release.key,
            verifier=self._session.keys.trusted_if_any(),
            stream=self._session.image(release.image).stream,
            every_span=every_span,
        )

    def sbom(self, release: Release) -> StageResult:
        """What is in the release, attached as CycloneDX. First of the scan: the other two read what it attached."""
        from registry_pipelines.chain import scan

        return scan.sbom(self._session, release)

    def attest_spdx(self, release: Release) -> StageResult:
        """The same as signed SPDX 2.3 documents, for who reads no CycloneDX; after :meth:`sbom`. Raises
        EvidenceMissing, InputError."""
        from registry_pipelines.chain import scan

        return scan.attest_spdx(self._session, release)

    def vulnerabilities(self, release: Release) -> StageResult:
        """What is known against it, attached as a report; ``ok`` when the policy's limits hold. Needs :meth:`sbom`;
        call it again whenever advisories are newer."""
        from registry_pipelines.chain import scan

        return scan.vulnerabilities(self._session, release)

    def sarif(self, release: Release) -> bytes:
        """The findings of a scanned release as SARIF 2.1.0; read only. Raises EvidenceMissing."""
        from registry_pipelines.chain import findings

        return findings.sarif(self._session, release)

    def openvex(self, release: Release, *, author: str = "") -> bytes:
        """The same as an OpenVEX document. author: the account of this process unless told. Raises EvidenceMissing."""
        from registry_pipelines.chain import findings

        return findings.openvex(self._session, release, author=author)

    def attest_openvex(self, release: Release, document: bytes = b"", *, author: str = "") -> StageResult:
        """Sign that document as the person, and attach it; made now where none is given."""
        from registry_pipelines.chain import findings

        written = document or findings.openvex(self._session, release, author=author)
        return findings.attest_openvex(self._session, release, written)

    def rescan(self, images: Collection[str] = (), *, bucket: str = "", everything: bool = False) -> StageResult:
        """New advisories against the stored SBOMs of all releases, or those of some images or of one bucket; no layer
        is read. A promoted release that became vulnerable is told, see :meth:`notify`; ``reasons`` name each. Raises
        InputError, AdvisoriesMissing, StateLocked."""
        from registry_pipelines.chain import rescan

        return rescan.rescan(self._session, images, bucket=bucket, everything=everything, tell=self.notify)

    def bases(self, names: Collection[str] = ()) -> StageResult:
        """The approved bases (all unless named): what their tags name now, which images stand on which one, what is to
        be built again, and what one base for all would save. Raises InputError."""
        from registry_pipelines.chain import bases

        return bases.bases(self._session, names)

    def current_base(self, name: str) -> Digest | None:
        """What the tag of a base names now; for who looks often. Raises InputError, RegistryError."""
        from registry_pipelines.chain import bases

        return bases.current_digest(self._session, name)

    def to_build_on(self, base: str) -> list[str]:
        """Images on an older one of a base, whose configured version is not there yet: a build makes it now. Raises
        InputError, RegistryError."""
        from registry_pipelines.chain import bases

        return bases.to_build(self._session, base)

    def update_advisories(self, ecosystems: Collection[str] = ()) -> StageResult:
        """Fetch the advisories that are new, for what stored SBOMs name and for ``ecosystems``; before
        :meth:`vulnerabilities`. Raises RegistryError with the files to fetch by hand, InputError, AdvisoriesMissing."""
        from registry_pipelines.chain import advisory_sets

        return advisory_sets.updated(self._session, ecosystems)

    def push_advisories(self, reference: str) -> StageResult:
        """Store the advisory set in use at a reference, signed by the scanner, for the other side of a gap. Raises
        AdvisoriesMissing, InputError, RegistryError."""
        from registry_pipelines.chain import advisory_artifacts

        return advisory_artifacts.pushed(self._session, reference)

    def pull_advisories(self, reference: str) -> StageResult:
        """Use the advisory set at a reference, once a believed scanner vouches for it. Raises EvidenceMissing,
        DigestMismatch, AdvisoriesMissing, InputError, RegistryError; nothing changes then."""
        from registry_pipelines.chain import advisory_artifacts

        return advisory_artifacts.pulled(self._session, reference)

    def push_wheels(self, reference: str, asked: AskedWheels) -> StageResult:
        """Choose wheels as a build would, and store them at a reference, signed by the builder. Raises InputError,
        RequirementsInvalid, RegistryError."""
        from registry_pipelines.chain import wheel_pushing

        return wheel_pushing.pushed(self._session, reference, asked)

    def pull_wheels(self, reference: str, folder: Path) -> StageResult:
        """Bring the wheels of a reference into a folder for ``pip install --no-index --find-links``. Raises
        EvidenceMissing, DigestMismatch, InputError, RegistryError."""
        from registry_pipelines.chain import wheels

        return wheels.pulled(self._session, reference, folder)

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
        """The hot pack of each platform of an allowed release: of a start that is recorded here, or of what the release
        before it read; after :meth:`judge`, before :meth:`promote`. Nothing where the image has no ``stream.record``,
        unless ``wanted``. ``facts["platforms_covered"]``. Raises PromotionDenied: it may not be run."""
        from registry_pipelines.chain import record

        return record.record(self._session, release, wanted)

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

    def ship(self, release: str, *, until: Stage = "mirror") -> Shipment:
        """One release through all of these stages, built first where it is this configuration's and not there. Raises
        InputError, NotFound, RegistryError when it cannot be found; what ended a stage is in the answer."""
        from registry_pipelines.chain import ship

        return ship.ship(self._session, release, until=until, tell=self.notify)

    def require_promoted(self, release: Release, *, target: str = "") -> list[str]:
        """Raise PromotionDenied unless signed evidence lets the release leave its source, to a target where one is
        told; what the verdict accepted."""
        from registry_pipelines.chain import promote

        return promote.require_promoted(self._session, release, target=target)

    def channels_reached(self, release: Release) -> list[str]:
        """Names of the channels that signed records say a release was put under, in order; read only."""
        from registry_pipelines.chain import channels

        return [each.name for each in channels.reached(self._session, release)]

    def replicate(self, release: Release, target: str) -> StageResult:
        """Copy a promoted release to one target; for several see :meth:`replicate_to`. Raises PromotionDenied, and what
        ended the copy."""
        from registry_pipelines.chain import replicate

        return replicate.replicate(self._session, release, target)

    def replicate_to(self, release: Release, targets: Sequence[str]) -> dict[str, StageResult | RegistryPipelinesError]:
        """Copy a promoted release to several targets, each blob read once; by target its result, or what ended it.
        Raises PromotionDenied, InputError, LocalError."""
        from registry_pipelines.chain import replicate

        return replicate.replicate_to(self._session, release, targets)

    def compare_replica(self, release: Release, target: str) -> Comparison:
        """What differs at a target, and what was not compared; read only, also long after a copy."""
        from registry_pipelines.chain import replicate

        return replicate.compare_replica(self._session, release, target)

    def mirror_release(self, release: Release, name: str) -> StageResult:
        """Copy a promoted release through the DMZ, to the private registry of a mirror. Raises PromotionDenied."""
        from registry_pipelines.chain import mirror_release

        return mirror_release.mirror_release(self._session, release, name)

    def mirror(self, name: str, *, upstream: str = "", dry_run: bool = False) -> StageResult:
        """Bring a mirror's foreign images up to date; meant for every night. upstream: only this one. dry_run: only say
        what would be done, and what it takes of the upstreams' quotas."""
        from registry_pipelines.chain import mirror

        return mirror.mirror(self._session, name, upstream=upstream, dry_run=dry_run)

    def lock_mirror(self, name: str, *, dry_run: bool = False, check: bool = False) -> StageResult:
        """Write what a mirror takes into its lock, by digest. dry_run: only say what would change. check: and not
        ``ok`` where anything would. Raises InputError for a mirror without ``lock``, LocalError."""
        from registry_pipelines.chain import mirror_lock

        return mirror_lock.lock(self._session, name, dry_run=dry_run, check=check)

    def mirror_age(self, name: str, *, upstream: str = "") -> StageResult:
        """How long ago each upstream of a mirror was last brought whole, by what the registry knows. Read only."""
        from registry_pipelines.chain import mirror_record

        return mirror_record.age(self._session, name, upstream=upstream)

    def compare_mirror(self, name: str, *, upstream: str = "") -> StageResult:
        """Whether a mirror's private registry holds what its DMZ does, digest for digest. Read only."""
        from registry_pipelines.chain import mirror_compare

        return mirror_compare.same_everywhere(self._session, name, upstream=upstream)

    def clusters(self, name: str, form: ClusterForm, folder: Path) -> StageResult:
        """Write the files by which clusters find what a mirror brought. Raises InputError with all that the form cannot
        say."""
        from registry_pipelines.chain import clusters

        return clusters.clusters(self._session, name, form, folder)

    def create_bundle(
        self,
        name: str,
        folders: Sequence[Path],
        *,
        part_size: Size | None = None,
        full: bool = False,
        with_tool: bool = False,
        receipts: Sequence[Path] = (),
        restart: bool = False,
        only_new: bool = False,
    ) -> StageResult:
        """Write a mirror's next bundle into folders, or the rest of a half made one; see
        :class:`~registry_pipelines.chain.bundle_create.Creating`. Raises DiskFull, ContentError, RegistryError,
        InputError."""
        self._session.mirror(name)  # before anything heavy is loaded
        from registry_pipelines.chain.bundle_create import Creating, create

        asked = Creating(
            folders=folders,
            part_size=part_size,
            full=full,
            with_tool=with_tool,
            receipts=receipts,
            restart=restart,
            only_new=only_new,
        )
        return create(self._session, name, asked)

    def bundle_in_folder(self, name: str) -> StageResult:
        """Make a mirror's next bundle in its ``bundle.folder``, where there is something new; receipts that lie there
        are taken in first. Raises as :meth:`create_bundle`."""
        self._session.mirror(name)
        from registry_pipelines.chain import bundle_create

        return bundle_create.create_in_folder(self._session, name)

    def bundle_again(
        self, name: str, number: int, parts: Sequence[int], folder: Path, *, line: str = ""
    ) -> StageResult:
        """Make some parts of a finished bundle once more, byte for byte. line: of the bundle, by a request; not asked
        unless told. Raises InputError, ContentError."""
        from registry_pipelines.chain.bundle_create import create_again

        return create_again(self._session, name, number, parts, folder, line=line)

    def bundles(self, name: str, *, receipts: Sequence[Path] = ()) -> StageResult:
        """The bundles that were made of a mirror here, and what far sides confirmed. receipts: taken in first. Raises
        SignatureInvalid, InputError."""
        from registry_pipelines.chain import bundle_list

        return bundle_list.listed(self._session, name, receipts)

    def load_bundles(
        self,
        name: str,
        folders: Sequence[Path],
        *,
        numbers: Collection[int] = (),
        move_back: bool = False,
        receipt: Path | None = None,
    ) -> StageResult:
        """Load the bundles of a mirror that are on media into its private registry; all is verified before anything is
        written. Raises ContentError, SignatureInvalid, InputError."""
        from registry_pipelines.chain import bundle_load

        return bundle_load.load(self._session, name, folders, numbers=numbers, move_back=move_back, receipt=receipt)

    def inbox(self, name: str) -> Inbox:
        """What lies in a mirror's inbox and was not loaded before; nothing is read but documents."""
        from registry_pipelines.chain import bundle_inbox

        return bundle_inbox.look_into(self._session, name)

    def load_inbox(self, name: str) -> StageResult:
        """Load what is new in a mirror's inbox, each bundle that is whole, and write the receipt beside them."""
        from registry_pipelines.chain import bundle_inbox

        return bundle_inbox.load_inbox(self._session, name)

    def bundle_receipt(self, name: str, to: Path) -> StageResult:
        """Read back all that bundles of a mirror brought, and write the signed receipt for the near side."""
        from registry_pipelines.chain import bundle_load

        return bundle_load.write_receipt(self._session, name, to)

    def sync(self, name: str, *, dry_run: bool = False) -> StageResult:
        """Bring many repositories to many targets in one plan; with ``dry_run`` only the plan's table. Raises
        InputError, RegistryError when the source cannot be listed."""
        from registry_pipelines.chain import sync

        return sync.sync(self._session, name, dry_run=dry_run)

    def syncs(self, names: Sequence[str], *, dry_run: bool = False) -> dict[str, StageResult]:
        """Several syncs in one plan; by name what became of each. Raises as :meth:`sync`."""
        from registry_pipelines.chain import sync

        return sync.syncs(self._session, names, dry_run=dry_run)

    def plan_syncs(self, names: Sequence[str]) -> dict[str, SyncResult]:
        """What :meth:`syncs` would do now, as plans to read and store, and what cannot be read at the sources."""
        from registry_pipelines.chain import sync

        return sync.run(self._session, names, dry_run=True)

    def inventory(
        self, registries: Sequence[str] = (), *, repositories: Sequence[str] = (), manifests: Manifests = "indexes"
    ) -> tuple[Inventory, StageResult]:
        """What registries hold (all of the configuration unless named), as one table, and that as a result; what could
        not be read stands in both. repositories: patterns. manifests: of ECR, which are read beside its lists. Raises
        InputError, ToolMissing."""
        from registry_pipelines.chain import inventory

        return inventory.taken(self._session, registries, repositories=repositories, manifests=manifests)

    def keep_inventory(self, registry: str) -> StageResult:
        """Read what one registry holds, and keep the table in the state folder. Raises InputError, LocalError."""
        from registry_pipelines.chain import inventory

        return inventory.keep(self._session, registry)

    def usage(self, sources: Sequence[str] = (), *, save: Path | None = None) -> StageResult:
        """Who runs what, by the sources of `usage` (all unless named). save: a file to keep it in. Raises InputError,
        LocalError."""
        from registry_pipelines.chain import usage

        return usage.told(self._session, sources, save=save)

    def preview_lifecycle(self, policy: EcrPolicy, registry: str, repositories: Sequence[str] = ()) -> StageResult:
        """A lifecycle policy on a registry of ECR beside AWS's own preview of it. Raises InputError, RegistryError."""
        from registry_pipelines.chain import lifecycle

        return lifecycle.previewed(self._session, policy, registry, repositories)

    def registries_with_rules(self) -> list[str]:
        """Registries that retention rules are about: what :meth:`plan_retention` takes."""
        from registry_pipelines.chain import collect

        return list(collect.registries_with_rules(self._session))

    def plan_retention(self, registry: str) -> RetentionPlan:
        """What a registry can let go, as a plan to read, store, approve and apply. Raises InputError."""
        from registry_pipelines.chain import collect

        return collect.plan(self._session, registry)

    def retention_plan(self, registry: str, *, save: Path | None = None, inventory: Path | None = None) -> StageResult:
        """The same plan as a result, to show: counts, a table, the plan's digest; signed, and kept in the state folder.
        Nothing is deleted. save: a further file for it. inventory: a stored one, in place of the registry."""
        from registry_pipelines.chain import collect

        return collect.planned(self._session, registry, save=save, inventory=inventory)

    def plan_deletion(self, place: Place, digest: Digest) -> RetentionPlan:
        """A plan of one entry: an image that a person wants gone, with its evidence; the entry has reasons where
        something needs it."""
        from registry_pipelines.chain import collect

        return collect.plan_deletion(place, digest, self._session)

    def delete(self, place: Place, plan: RetentionPlan) -> StageResult:
        """Apply a plan of :meth:`plan_deletion`, where nothing changed since."""
        from registry_pipelines.chain import collect

        return collect.delete(place, plan, self._session)

    def untag(self, place: Place, tag: str, digest: Digest, *, dry_run: bool = False) -> StageResult:
        """Take a tag away from an image that has others; see :func:`~registry_pipelines.chain.tagging.untag`."""
        from registry_pipelines.chain import tagging

        return tagging.untag(place, tag, digest, session=self._session, dry_run=dry_run)

    def tag(self, source: Located, tag: str, *, move: bool = False) -> StageResult:
        """Give an image one more tag in its repository; see :func:`~registry_pipelines.chain.tagging.tag_image`."""
        from registry_pipelines.chain import tagging

        return tagging.tag_image(source, tag, move=move, session=self._session)

    def collect(self, registry: str, plan: RetentionPlan) -> StageResult:
        """Apply a plan of :meth:`plan_retention` that nobody else touched, where nothing changed since. Raises
        InputError."""
        from registry_pipelines.chain import collect

        return collect.apply(self._session, registry, plan)

    def collect_approved(self, registry: str, plan: str) -> StageResult:
        """Apply a stored plan, named by digest or file, where its signature, the rules and the world still agree.
        Raises InputError, SignatureInvalid."""
        from registry_pipelines.chain import collect

        return collect.apply_approved(self._session, registry, plan)

    def garbage(self, registry: str, *, dry_run: bool = False, grace_s: float | None = None) -> StageResult:
        """Free unreferenced blobs of a registry whose files are here; of others, say who does. Raises InputError."""
        from registry_pipelines.chain import garbage

        return garbage.garbage(self._session, registry, dry_run=dry_run, grace_s=grace_s)

    def check_garbage(self, registry: str, text: str) -> StageResult:
        """Whether what a registry's own collector says it would delete is needed. Raises InputError, RegistryError."""
        from registry_pipelines.chain import garbage

        return garbage.checked(self._session, registry, text)

    def quarantined(self, registry: str) -> StageResult:
        """What plans set aside in a registry, and until when."""
        from registry_pipelines.chain import quarantine

        return quarantine.quarantined(self._session, registry)

    def undo_collect(self, registry: str, references: Sequence[str], *, plan: str = "") -> StageResult:
        """Bring back what was set aside: images by ``repository:tag`` or ``repository@digest``, or all of a plan."""
        from registry_pipelines.chain import quarantine

        return quarantine.undo(self._session, registry, references, plan=plan)

    def purge(self, registry: str, *, dry_run: bool = False) -> StageResult:
        """Delete for good what was set aside and whose time is over."""
        from registry_pipelines.chain import quarantine

        return quarantine.purge(self._session, registry, dry_run=dry_run)

    def registries_with_settings(self) -> list[str]:
        """Registries in clouds whose settings are declared: what :meth:`plan_infra` takes."""
        from registry_pipelines.chain import infra

        return list(infra.registries(self._session))

    def check_infra(self, registries: Sequence[str] = ()) -> None:
        """Read all that is declared of registries (all unless named). Raises ConfigInvalid with everything that is
        wrong, InputError; asks nothing."""
        from registry_pipelines.chain import infra

        infra.declared(self._session, registries)

    def plan_infra(self, registry: str) -> InfraPlan:
        """What a registry's settings need to be as declared, as a plan to read, store, approve and apply. Raises
        InputError, ConfigInvalid, RegistryError."""
        from registry_pipelines.chain import infra

        return infra.plan(self._session, registry)

    def drift(self, registry: str) -> StageResult:
        """Whether a registry's settings are as declared; ``reasons`` name each field that is not. Changes nothing."""
        from registry_pipelines.chain import infra

        return infra.drift(self._session, registry)

    def apply_infra(self, registry: str, plan: InfraPlan | None = None) -> StageResult:
        """Make a registry's settings as declared, by a plan of :meth:`plan_infra` that was approved, else by one of
        now. Raises InputError, ConfigInvalid, RegistryError."""
        from registry_pipelines.chain import infra

        return infra.apply(self._session, registry, plan)

    def import_infra(
        self, registry: str, *, folder: str = "", terraform: Mapping[str, bytes] | None = None
    ) -> tuple[str, dict[str, bytes], list[str]]:
        """What is there of a registry, as it would be declared: YAML, policy files by path, what is left out.
        terraform: files of Terraform by name, which are read in the cloud's place. Raises InputError, RegistryError."""
        from registry_pipelines.chain import infra, infra_terraform

        if terraform:
            return infra_terraform.imported(self._session, registry, terraform, folder=folder)
        return infra.imported(self._session, registry, folder=folder)

    def terraform(self, registries: Sequence[str] = (), *, aws: AwsVersion = 6, take_over: bool = False) -> Terraform:
        """What is declared of registries (all unless named) as files of Terraform; see
        :func:`~registry_pipelines.infra.terraform.writing.write`. Asks nothing. Raises InputError, ConfigInvalid."""
        from registry_pipelines.chain import infra_terraform

        return infra_terraform.written(self._session, registries, aws=aws, take_over=take_over)

    def ways(self, images: Sequence[str] = ()) -> StageResult:
        """Which way each image (all unless named) takes to each target, by ECR itself or by our copies, and why."""
        from registry_pipelines.chain import ways

        return ways.described(self._session, images)

    def replication_lag(self, images: Sequence[str] = ()) -> StageResult:
        """How far each target is behind what the channels name at the source; ``facts["lag_s SOURCE -> TARGET"]``."""
        from registry_pipelines.chain import ways

        return ways.replication_lag(self._session, images)


__all__ = ["Chain", "StageResult"]
