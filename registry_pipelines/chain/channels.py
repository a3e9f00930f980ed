"""The channels of an image in this configuration: which one a release comes to next, which it has come to."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import PromotionRecord
from registry_pipelines.promote.order import Channel
from registry_pipelines.promote.standing import latest_record, records
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.settings import unknown


def policies_of(session: Session, image: Image) -> dict[str, list[Channel]]:
    """The policies of an image's channels by name, in their order, each with those that it is for."""
    found: dict[str, list[Channel]] = {}
    for channel in image.order:
        found.setdefault(channel.policy or image.policy, []).append(channel)
    return found


def channel_of(image: Image, name: str) -> Channel:
    """A channel by name. Raises InputError with the closest one."""
    for channel in image.order:
        if channel.name == name:
            return channel
    names = [each.name for each in image.order]
    raise InputError(unknown(name, names, f"channel of {image.name}"), do=f"Name one of: {', '.join(names)}")


def channel_for(session: Session, release: Release, name: str = "") -> Channel:
    """The channel that somebody means who promotes a release: of an image with several it must be said, so that a
    command that is typed twice goes no further than once. Raises InputError, RegistryError."""
    image = session.image(release.image)
    if name or len(image.order) == 1:
        return channel_of(image, name or image.channel)
    coming = next_channel(session, release)
    told = f"; the next one that {release.tag} comes to" if coming else ", for example, where it goes back"
    raise InputError(
        f"{release.image} has several channels: {', '.join(each.name for each in image.order)}",
        do=f"Say which: --channel {(coming or image.order[-1]).name}{told}. In Dagster: `channel` of `promotion`",
    )


def next_channel(session: Session, release: Release) -> Channel | None:
    """The first channel in order that a release did not come to; None where it came to all. The one channel of an image
    that has one is always the next. Raises RegistryError."""
    image, place, verifier = session.image(release.image), session.source(release), session.keys.trusted_if_any()
    if len(image.order) == 1 or verifier is None:
        return image.order[0]
    known = read_attestations(place, release.digest, verifier)
    own = [record for record, _ in records(place, release.digest, verifier, known=known)]
    coming = (each for each in image.order if not _came_to(place, release, each.name, own, verifier))
    return next(coming, None)


def reached(session: Session, release: Release) -> list[Channel]:
    """The channels that signed records say a release was put under, in order. Raises InputError (no trusted key),
    RegistryError."""
    place, image = session.source(release), session.image(release.image)
    put = {
        record.channel for record, _ in records(place, release.digest, session.verifier()) if record.image == image.name
    }
    return [each for each in image.order if each.name in put]


def targets_of(session: Session, release: Release) -> list[str]:
    """The targets that a release reaches as far as it came: those of the channels that it was put under. Of an image
    with one channel all of its targets. Raises InputError, RegistryError."""
    image = session.image(release.image)
    if len(image.order) == 1:
        return list(image.targets)
    return list(dict.fromkeys(target for each in reached(session, release) for target in each.targets or ()))


def going_to(channels: Sequence[Channel], target: str) -> list[Channel]:
    """Those whose releases reach a target."""
    return [each for each in channels if target in (each.targets or ())]


def _came_to(place: Place, release: Release, channel: str, own: Sequence[PromotionRecord], verifier: Verifier) -> bool:
    """Whether a channel names it by a signed record, or a later release after it. Of a promotion that a kill ended
    there is a record, and the channel names what it did before: then there is something left to do."""
    mine = [each for each in own if (each.image, each.channel) == (release.image, channel)]
    if not mine:
        return False
    named = digest_at(place, channel)
    return named == release.digest or _is_later(place, named, mine[-1], verifier)


def _is_later(place: Place, named: Digest | None, own: PromotionRecord, verifier: Verifier) -> bool:
    if named is None:
        return False
    found = latest_record(place, named, verifier, channel=own.channel, image=own.image)
    return found is not None and found[0].time > own.time
