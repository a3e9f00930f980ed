"""The stages of a configuration, as one class that the command line and Dagster call.

Here stands what finds releases and places; the stages themselves are in ``methods``, a module for each kind of work.

Each stage is loaded when it is called: a promotion needs no builder and no scanner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods.clouds import Clouds
from registry_pipelines.chain.methods.judging import Judging
from registry_pipelines.chain.methods.keeping import Keeping
from registry_pipelines.chain.methods.making import Making
from registry_pipelines.chain.methods.moving import Moving
from registry_pipelines.chain.methods.seeing import Seeing
from registry_pipelines.chain.methods.trying import Trying
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.result import StageResult
from registry_pipelines.errors import EvidenceError, NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.chain.ship import Shipment, Stage
    from registry_pipelines.chain.status import Status


class Chain(Making, Judging, Moving, Keeping, Clouds, Seeing, Trying):
    """The stages of one configuration. Safe to use from many threads.

    All methods raise the errors of ``errors.py``; those that judge raise EvidenceError for "no" where going on would
    ship something, and return ``ok=False`` where only a question was asked.
    """

    def with_progress(self, progress: Progress) -> Chain:
        """The same chain, open registries and limits included, with its progress told to ``progress``."""
        chain = copy(self)
        chain._session = self._session.with_progress(progress)
        return chain

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

    def find_release(self, text: str) -> Release:
        """A release by key (whole or short), ``image:tag``, ``image@digest``, or ``image`` that has one. Raises
        InputError, NotFound."""
        from registry_pipelines.chain import releases

        return releases.find_release(self._session, text)

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

        return ReleaseKeys.of(self.config).name(wanted)

    def known_keys(self) -> dict[str, Release]:
        """Every short key that the state folder has, and its release."""
        from registry_pipelines.chain.release_keys import ReleaseKeys

        return ReleaseKeys.of(self.config).every()

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

    def ship(self, release: str, *, until: Stage = "mirror") -> Shipment:
        """One release through all of these stages, built first where it is this configuration's and not there. Raises
        InputError, NotFound, RegistryError when it cannot be found; what ended a stage is in the answer."""
        from registry_pipelines.chain import ship

        return ship.ship(self._session, release, until=until, tell=self.notify)


__all__ = ["Chain", "StageResult"]
