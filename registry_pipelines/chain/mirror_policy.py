"""Ask a policy about foreign images before they come to the private registry, with the stages that releases go through.

What came to the DMZ is scanned and judged there, and SBOM, report and verdict are written there as for a release; they
cross with the image. An SBOM that is there is not made again, so that newer advisories need no pull. Where there is no
DMZ the source is read, and the evidence lies in the state folder until it crosses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry_pipelines.chain.advisories import advisory_source
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought
from registry_pipelines.config import Mirror
from registry_pipelines.errors import EvidenceMissing, PromotionDenied
from registry_pipelines.mirror.upstreams import Admit, PinnedTag
from registry_pipelines.mirror.views import only_platforms, with_evidence_aside
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import Policy, Verdict
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.remembered import remembered
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.scan.match import Matcher
    from registry_pipelines.scan.publish import Published
    from registry_pipelines.scan.report import PlatformPackages, Report


@contextmanager
def admission(session: Session, mirror: Mirror) -> Iterator[Admit]:
    """What :func:`~registry_pipelines.mirror.upstreams.apply_mirror` asks of each tag. The advisories that are there
    now are open meanwhile."""
    examiner = Examiner(session, mirror)
    try:
        yield examiner.admit
    finally:
        examiner.close()


class Examiner:
    """Scans and judges foreign images of one mirror; safe to use from many threads."""

    def __init__(self, session: Session, mirror: Mirror) -> None:
        self._session, self._mirror = session, mirror
        self._lock = threading.Lock()
        self._matcher: Matcher | None = None
        self._aside: Registry | None = None

    def close(self) -> None:
        """Close the advisories."""
        if self._matcher is not None:
            self._matcher.store.close()

    def admit(self, pinned: PinnedTag, place: Place, digest: Digest) -> Place:
        """See :data:`~registry_pipelines.mirror.upstreams.Admit`. Raises PromotionDenied, AdvisoriesMissing, InputError
        (no key that verdicts are signed with), RegistryError."""
        names = self._policies(pinned)
        if not names:
            return place
        own = place if self._mirror.via or pinned.kept_at else with_evidence_aside(place, self._beside())
        settings = pinned.upstream.settings
        seen = Place(remembered(own.registry), own.repository)  # each stage reads the same evidence anew
        seen = only_platforms(seen, digest, settings.platforms) if settings.selection == "sparse" else seen
        for name in names:
            verdict = self._judged(seen, pinned, digest, self._session.named_policy(name))
            if not verdict.allow:
                raise PromotionDenied(
                    f"held by policy {name}",
                    reasons=verdict.reasons,
                    steps=verdict.steps,
                    where=f"{pinned.upstream.source}:{pinned.tag}",
                    do="It comes when its publisher mends it, or the policy accepts it; what was there before stays",
                )
        return own

    def _policies(self, pinned: PinnedTag) -> list[str]:
        """By name, its own first. An image may be written twice, with other tags and another policy: a tag that both
        take is one tag at the private registry, so what one of them holds must not come by the other."""
        config, mirror, upstream = self._session.config, self._mirror, pinned.upstream
        others = [
            each.policy or mirror.policy
            for each in mirror.upstreams
            if config.mirrored_repository(mirror, each) == upstream.repository and each.selector.select([pinned.tag])
        ]
        return [name for name in dict.fromkeys([upstream.settings.policy or mirror.policy, *others]) if name]

    def _judged(self, place: Place, pinned: PinnedTag, digest: Digest, policy: Policy) -> Verdict:
        from registry_pipelines.promote import verdicts
        from registry_pipelines.promote.judge import judge
        from registry_pipelines.scan.publish import not_vouched_for, publish_report

        session = self._session
        signer, verifier = session.keys.signer("promoter"), session.verifier()
        subject = place.registry.resolve(place.repository, digest)
        scanner = session.keys.at_hand("scanner")
        sboms = self._sboms(place, digest, policy)
        report = self._report(place, Release(pinned.upstream.name, pinned.tag, digest), sboms)
        unsigned = not_vouched_for(sboms) if scanner else ""
        publish_report(place, subject, report, signer=None if unsigned else scanner)
        verdict = judge(place, subject, policy, verifier, image=pinned.upstream.name, now=session.now())
        verdicts.publish(place, subject, verdict, signer, verifier)
        return verdict

    def _sboms(self, place: Place, digest: Digest, policy: Policy) -> list[tuple[Published, PlatformPackages]]:
        """Those that are there and cover each image, else made now: layers are read then, and only then."""
        from registry_pipelines.evidence.attestations import read_attestations
        from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE
        from registry_pipelines.registry.platforms import platform_images
        from registry_pipelines.scan.publish import publish_sboms, read_sboms
        from registry_pipelines.scan.sbom import scan_image

        session, scanner = self._session, self._session.keys.at_hand("scanner")
        trusted = session.verifier().under(policy.attestor_names)

        def there() -> list[tuple[Published, PlatformPackages]]:
            known = read_attestations(place, digest, trusted, predicate_type=CYCLONEDX_TYPE) if scanner else None
            return read_sboms(place, digest, known=known)

        images = platform_images(place, place.registry.get_manifest(place.repository, digest))
        try:
            found = there()
            vouched = all(published.trusted for published, _ in found) or scanner is None
            if vouched and images.keys() <= {packages.manifest.digest for _, packages in found}:
                return found
        except EvidenceMissing:
            pass
        subject = place.registry.resolve(place.repository, digest)
        packages = scan_image(place, subject, state=session.config.state, progress=session.progress)
        publish_sboms(place, subject, packages, signer=scanner)
        return there()

    def _report(self, place: Place, release: Release, sboms: list[tuple[Published, PlatformPackages]]) -> Report:
        packages = [of_platform for _, of_platform in sboms]
        config = self._session.config
        report = self._matching().report(packages, now=self._session.now())
        if not config.scanners:
            return report
        from registry_pipelines.chain.other_scanners import opinions
        from registry_pipelines.scan.other_scanners import with_opinions

        said = opinions(place, release, packages, config)
        return with_opinions(report, packages, said)

    def _matching(self) -> Matcher:
        with self._lock:
            if self._matcher is None:
                from registry_pipelines.scan.advisories import AdvisoryStore
                from registry_pipelines.scan.match import Matcher

                config = self._session.config
                brought(config)
                source = advisory_source(config.state, config.advisories.source)
                self._matcher = Matcher(AdvisoryStore.load(source, config.state))
            return self._matcher

    def _beside(self) -> Registry:
        with self._lock:
            if self._aside is None:
                from registry_pipelines.registry.layout import LayoutRegistry

                root = self._session.config.state / "mirror" / "evidence"
                root.mkdir(parents=True, exist_ok=True)
                self._aside = LayoutRegistry(root)
            return self._aside
