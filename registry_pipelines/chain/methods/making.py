"""What makes a release and says what is in it: builds, derived forms, scans, advisories, wheels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import StageResult
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.anatomy.rechunk.section import Rechunk
    from registry_pipelines.build.dockerfile.context import Context
    from registry_pipelines.build.dockerfile.ignore_proposal import Proposal
    from registry_pipelines.chain.image_advice import Advised
    from registry_pipelines.chain.wheels import Asked as AskedWheels
    from registry_pipelines.stream.model import Stream


class Making(Base):
    """The stages up to the evidence: build, stream, scan."""

    def build(self, image: str) -> StageResult:
        """Build an image and push it; ``facts["release"]`` is the release's key. Raises InputError."""
        from registry_pipelines.chain import build

        return build.build(self._session, image)

    def propose_ignore(self, image: str) -> tuple[Context, Proposal]:
        """What a build from a Dockerfile would send, and lines for a ``.dockerignore``; nothing is built. Raises
        InputError."""
        from registry_pipelines.chain.dockerfile import proposed_ignore

        return proposed_ignore(self._session, self._session.image(image))

    def make_release(self, image: str) -> list[StageResult]:
        """Build an image, and where its releases are derived (``rechunk``, ``stream``) derive this one: a result for
        each, and ``facts["release"]`` of the last is the release's key. Raises InputError."""
        from registry_pipelines.chain import build

        built, settings = build.build(self._session, image), self._session.image(image)
        return [built, *(self.derive(image, settings.made_here.version) if settings.made_here else ())]

    def derive(self, image: str, tag: str) -> list[StageResult]:
        """Derive a release of the image that was built or pushed as ``tag``, in every form that the configuration says,
        one after the other: a result for each (stages ``rechunk``, ``convert``), and ``facts["release"]`` of the last
        is the release's key. None for an image whose pushed ones are the releases. Raises InputError, NotFound."""
        settings, made = self._session.image(image), list[StageResult]()
        if settings.rechunk is not None:
            made.append(self.rechunk(image, tag))
        if settings.stream is not None and settings.stream.derives:
            made.append(self.convert(image, tag))
        return made

    def rechunk(self, image: str, tag: str, wanted: Rechunk | None = None) -> StageResult:
        """Put the files of the image that was pushed as ``tag`` into layers of a package each, as the configuration
        says, or ``wanted``; ``facts["release"]`` is the release's key where nothing else is to be done to it. Raises
        InputError, NotFound."""
        from registry_pipelines.chain import rechunk

        return rechunk.rechunk(self._session, image, tag, wanted)

    def verify_rechunked(self, image: str, tag: str = "") -> StageResult:
        """Read the newest image of a name that was rechunked, or that of a tag, and what it was made of again, and hold
        both against each other; read only. Raises InputError, EvidenceMissing, NotFound."""
        from registry_pipelines.chain import rechunk_check

        return rechunk_check.verify(self._session, image, tag)

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

    def image_advice(self, release: Release) -> StageResult:
        """What is inside the release and need not be there, attached as signed advice where the scanner's key is here;
        after :meth:`sbom`, whose pass over the layers it uses, and before :meth:`judge`, where a policy asks for it.
        ``reasons``: what the policy does not let pass."""
        return self.pictured_advice(release).result

    def pictured_advice(self, release: Release) -> Advised:
        """The same with a picture (PNG) of the first platform's image."""
        from registry_pipelines.chain import image_advice

        return image_advice.image_advice(self._session, release)

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

    def rescan_buckets(
        self, buckets: Sequence[str], *, since: datetime | None = None
    ) -> Iterator[tuple[str, StageResult | None]]:
        """:meth:`rescan` of some buckets, each with its result as it is done; None for one that another process has.
        since: buckets that were wholly rescanned from then on with the same advisories are passed over."""
        from registry_pipelines.chain import rescan

        return rescan.rescan_buckets(self._session, buckets, since=since, tell=self.notify)

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

    def list_packages(self) -> StageResult:
        """The package indexes of the configuration; nothing is asked."""
        from registry_pipelines.chain import packages

        return packages.listed(self._session)

    def check_packages(self, projects: Sequence[str] = (), indexes: Sequence[str] = ()) -> StageResult:
        """Whether package indexes answer, and from which one projects would come; not ``ok`` where one does not answer
        or a project is nowhere. Raises InputError."""
        from registry_pipelines.chain import packages

        return packages.checked(self._session, projects, indexes)

    def publish_packages(self, places: Sequence[Path], to: str) -> StageResult:
        """Publish wheels, or all of folders, to an index. Raises InputError, WheelInvalid, RegistryError."""
        from registry_pipelines.chain import packages

        return packages.published(self._session, places, to)

    def make_package(self, name: str) -> StageResult:
        """Build the wheel of a package of ours and publish it; ``rows`` has it with its sha256. Raises InputError,
        RequirementsInvalid, RegistryError."""
        from registry_pipelines.chain import packages

        return packages.package_made(self._session, name)

    def check_package(self, name: str, made: StageResult) -> StageResult:
        """Whether the index has the wheel that :meth:`make_package` made. Raises InputError."""
        from registry_pipelines.chain import packages

        return packages.package_stands(self._session, name, made)

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
