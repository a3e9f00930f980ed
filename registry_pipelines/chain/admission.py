"""Clusters over one configuration: where its images are, and what the gate says of a digest of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry_pipelines.chain.places import address, one_name
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.signed_releases import signed_releases
from registry_pipelines.config import Image
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference
from registry_pipelines.promote.admission.judging import THREADS, Judge, Site
from registry_pipelines.promote.admission.rulings import Ruling, ruling_of
from registry_pipelines.promote.admission.webhook import Told, Webhook, server_of
from registry_pipelines.promote.order import Channel
from registry_pipelines.registry.embedded.http_server import HttpServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool


class ConfiguredSites:
    """The places of every image, by host and repository; see :class:`~registry_pipelines.promote.admission.judging.
    Sites`. Safe to use from many threads. Raises InputError for keys that cannot be read."""

    def __init__(self, session: Session, *, channel: str | None = None, policy: str | None = None) -> None:
        """channel: that a release must have been promoted to, of images that have it; ``admission.channel`` unless
        told. policy: whose verdict counts for every image; that of its channel unless told."""
        self._session, self._policy = session, policy
        self._wanted = channel or session.config.admission.channel
        session.verifier()  # one that cannot be read is said at the start
        hosts = {name: address(settings) for name, settings in session.config.registries.items()}
        self._sites: dict[tuple[str, str], Site] = {}
        for image in session.config.images.values():
            for registry, place in _places(session, image):
                if host := hosts[registry]:  # a folder is no place that nodes pull from
                    self._sites[one_name(host), place.repository] = self._site(image, place)

    def find(self, reference: Reference) -> Site | None:
        """See Sites."""
        return self._sites.get((one_name(reference.registry), reference.repository))

    def place(self, reference: Reference) -> Place:
        """See Sites."""
        return Place(self._session.places.host(reference.registry), reference.repository)

    def ruling(self, image: str, digest: Digest) -> Ruling:
        """See Sites."""
        settings = self._session.image(image)
        channel = _channel(self._wanted, settings)
        named = self._session.named_policy(self._policy) if self._policy else None
        return ruling_of(
            self._session.places.source(settings),
            digest,
            named or self._session.policy_of(settings, channel),
            self._session.verifier(),
            image=image,
            channel=channel.name,
            now=self._session.now(),
        )

    def names(self) -> dict[str, Site]:
        """Every place as ``host/repository``."""
        return {str(site.place): site for site in self._sites.values()}

    def startable(self) -> dict[str, list[Ruling]]:
        """What may start now, by the names of :meth:`names`. Every digest that somebody signed for is asked about.
        Raises RegistryError."""
        found: dict[str, list[Ruling]] = {}
        for image in {site.image for site in self._sites.values()}:
            digests = {each.digest for each in signed_releases(self._session, image)}
            with Pool(THREADS, "startable") as pool:
                rulings = pool.map(lambda digest, image=image: self.ruling(image, digest), sorted(digests))
                found[image] = [each for each in rulings if each.allowed]
        return {name: found[site.image] for name, site in self.names().items()}

    def _site(self, image: Image, place: Place) -> Site:
        places, nearest = self._session.places, self._session.config.admission.nearest
        replicas = tuple(places.target(image, name) for name in nearest if name in image.targets)
        return Site(image.name, place, places.source(image), replicas)


@contextmanager
def webhook(session: Session, told: Told | None = None) -> Iterator[HttpServer]:
    """The webhook of a configuration, not started. told: hears of each object that was judged. Raises InputError:
    without a certificate, or keys that are believed."""
    settings = session.config.admission
    pool = Pool(THREADS, "admission")
    try:
        yield server_of(settings, Webhook(Judge(settings, ConfiguredSites(session), pool), settings, told))
    finally:
        pool.stop()


def _channel(wanted: str | None, image: Image) -> Channel:
    """The channel that a release must have been promoted to: the one told, of an image that has it, else its last."""
    return next((each for each in image.order if each.name == wanted), image.order[-1])


def _places(session: Session, image: Image) -> Iterator[tuple[str, Place]]:
    """Everywhere an image may be pulled from, each with the name of its registry in the configuration."""
    config = session.config
    yield image.registry, session.places.source(image)
    for target in image.targets:
        yield config.targets[target].registry, session.places.target(image, target)
    for mirror in config.mirrors.values():
        if image.name in mirror.images:
            yield from zip(mirror.stops, session.stops(mirror, image.repository), strict=True)
