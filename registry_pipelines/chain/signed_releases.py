"""The release of a key; and what signed records say about releases, when the state folder with their keys is lost."""

from __future__ import annotations

from registry_pipelines.chain.release_keys import SHORT_KEY, ReleaseKeys
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.standing import records
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

LOOKUP_THREADS = 8
"""Releases whose signed records are read at once: each is a few small requests."""


def release_of_key(session: Session, key: str, digest: str = "") -> Release:
    """The release of a key, short or with the whole digest; read strictly.

    digest: of the release, as whoever asks was told with the key (a run's tag, from a machine with another state
    folder). It counts only where the state does not know the key, when it makes exactly this key, and when the tag
    names it in the source registry.

    A short key that the state does not know is looked for in the registry once: every digest of the image about which a
    trusted key signed a verdict or a promotion gets its key again, as it did when it was found. Raises InputError for a
    text that is no key, for an unknown key and for one that several releases would have; RegistryError.
    """
    short = SHORT_KEY.match(key)
    if short is None:
        return Release.parse(key)
    keys = ReleaseKeys.of(session.config)
    if found := keys.find(key):
        return found
    image, tag, digits = short.groups()
    if digest and Digest.parse(digest).hex.startswith(digits):
        told = Release(image, tag, Digest.parse(digest))
        there = digest_at(session.places.source(session.image(image)), tag) == told.digest
        if there and keys.name([told])[told] == key:
            return told
    rebuild_keys(session, image)
    if found := keys.find(key):
        return found
    place = session.places.source(session.image(image))
    if several := keys.like(key):
        raise InputError(f"{key!r} could be {' or '.join(several)}", where=str(place), do="Write one of these")
    raise InputError(
        f"the release {key!r} is not known: this state folder has no such key, and nothing signed gives it one",
        where=str(place),
        do=f"Write {image}:{tag}, or the whole digest; `registry-pipelines releases {image}` lists them",
    )


def rebuild_keys(session: Session, image: str) -> None:
    """Give every signed release of an image its key, where the state folder has none. Raises InputError,
    RegistryError."""
    ReleaseKeys.of(session.config).name(signed_releases(session, image))


def signed_releases(session: Session, image: str) -> list[Release]:
    """The releases of an image about which a trusted key signed a verdict or a promotion: under the tags that promotion
    records say, and those that name the digest now. Raises InputError, RegistryError."""

    place = session.places.source(session.image(image))
    channels = {each.name for image in session.config.images.values() for each in image.order}
    try:
        tags = sorted(tag for tag in list_tags(place, ALL).every if not is_named_after_digest(tag))
    except NotFound:
        return []
    with Pool(LOOKUP_THREADS, "keys") as pool:
        named: dict[Digest, list[str]] = {}
        for tag, digest in zip(tags, pool.map(lambda tag: digest_at(place, tag), tags), strict=True):
            if digest is not None:
                named.setdefault(digest, []).extend([] if tag in channels else [tag])
        signed = pool.map(lambda pair: _signed(session, image, *pair), named.items())
        return [each for of_digest in signed for each in of_digest]


def _signed(session: Session, image: str, digest: Digest, tags: list[str]) -> list[Release]:
    place, verifier = session.places.source(session.image(image)), session.verifier()
    known = read_attestations(place, digest, verifier)
    promoted = [record.version for record, _ in records(place, digest, verifier, known=known) if record.image == image]
    judged = read_verdicts(place, digest, verifier, known=known).latest(image) is not None
    return [Release(image, tag, digest) for tag in dict.fromkeys([*promoted, *(tags if judged or promoted else [])])]


__all__ = ["rebuild_keys", "release_of_key", "signed_releases"]
