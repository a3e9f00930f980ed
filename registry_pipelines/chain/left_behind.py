"""After a channel moved back to an earlier release: which replicas still have the other one, and what moves them.

A release that goes forward is no business of this: its copies come next anyway. One that went to a replica before is
there already, so nothing looks missing, and only the channel tag tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from registry_pipelines.chain.next_steps import typed
from registry_pipelines.chain.release_keys import ReleaseKeys
from registry_pipelines.chain.result import short_digest
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.order import Channel
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.threads import Pool

THREADS = 8
"""Places asked at once, with two small requests each: one that is down is tried again for some seconds."""


def left_behind(session: Session, release: Release, channel: Channel) -> list[str]:
    """One sentence for each target and mirror of a channel that has the release and whose channel names another one,
    with the command to run there; and for each that cannot be asked."""
    places = list(_places(session, release, channel))
    with Pool(THREADS, "left-behind") as pool:
        said = pool.map(partial(_said, session, release, channel.name), *zip(*places, strict=True)) if places else ()
        return [sentence for sentence in said if sentence]


def _places(session: Session, release: Release, channel: Channel) -> Iterator[tuple[str, Place, str]]:
    """Name, place and command of everywhere a release goes that was promoted to a channel; of a mirror, which takes
    those of the last, its private end."""
    image = session.image(release.image)
    name = f"{release.image}:{release.tag}"
    again = typed(session.config, "replicate", name)
    for target in channel.targets or ():
        yield target, session.places.target(image, target), again
    for mirror, settings in session.config.mirrors.items():
        if image.name in settings.images and channel.name == image.channel:
            place = session.stops(settings, image.repository)[-1]
            yield mirror, place, typed(session.config, "mirror", mirror, "--release", name)


def _said(session: Session, release: Release, channel: str, name: str, place: Place, command: str) -> str:
    try:
        there = digest_at(place, channel)
        if there in (None, release.digest) or digest_at(place, release.digest) is None:
            return ""
    except RegistryPipelinesError as error:
        return f"{name} cannot be asked which release {channel} names there ({error.what}); run: {command}"
    return f"{name} still has {_called(session, release, there)} as {channel}; run: {command}"


def _called(session: Session, release: Release, digest: Digest | None) -> str:
    """A digest as a release of the same image, where the state folder knows it."""
    known = ReleaseKeys.of(session.config).every().values()
    tags = [each.tag for each in known if each.image == release.image and each.digest == digest]
    return tags[0] if tags else short_digest(str(digest))
