"""Find releases in source registries."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import matches
from registry_pipelines.config import Image
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.oci.references import check_tag
from registry_pipelines.oci.tags import read_version
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release, is_version_tag
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

FLOATING_TAGS = frozenset({"latest"})
"""Moves with every push by convention, so it names no version."""

LOOKUP_THREADS = 8
"""Tags looked at at once: each is one small request, so latency counts; registries limit requests by the second."""


def releases(
    session: Session, images: Collection[str] | None = None, *, known: Collection[Release] = ()
) -> Iterator[Release]:
    """Every release of every image, or of some images, one per digest; see :func:`releases_of`."""
    for image in session.config.images.values():
        if images is None or image.name in images:
            yield from releases_of(session, image, known=known)


def releases_of(session: Session, image: Image, *, known: Collection[Release] = ()) -> list[Release]:
    """The releases of one image: digests of images (or indexes of them) under a tag of :func:`names_release`.

    Channel tags, ``latest``, fallback tags, cosign's tags and artifacts are skipped. Of several tags on one digest one
    stands in the key, whatever is added later: the version that the configuration builds, then dotted versions, then
    others, each by name. A repository that does not exist yet has none. Raises RegistryError.

    known: releases found earlier. Version tags do not move, so theirs are taken as they were, without a request each: a
    look at 1,000 releases then costs the list of tags. Look without ``known`` now and then: people do move tags.
    """
    place = session.places.source(image)
    tags = find_tags(session, image)
    named = {each.tag: each.digest for each in known if each.image == image.name}
    seen = set(named.values())
    version = image.build.version if image.build else ""
    tags.sort(key=lambda tag: (tag != version, not _is_dotted(tag), tag))
    tag_of: dict[Digest, str] = {}
    with Pool(LOOKUP_THREADS, "releases") as pool:
        for tag, digest in zip(tags, pool.map(lambda tag: named.get(tag) or digest_at(place, tag), tags), strict=True):
            if digest is not None:
                tag_of.setdefault(digest, tag)
        kinds = list(pool.map(lambda digest: digest in seen or is_image(place, digest), tag_of))
    return [Release(image.name, tag, digest) for (digest, tag), kind in zip(tag_of.items(), kinds, strict=True) if kind]


def find_tags(session: Session, image: Image) -> list[str]:
    """The tags of an image that stand for releases, in the registry's order. Raises RegistryError."""
    skipped = FLOATING_TAGS | {each.channel for each in session.config.images.values()}
    try:
        listed = list_tags(session.places.source(image), ALL).every
    except NotFound:
        return []
    return [tag for tag in listed if tag not in skipped and names_release(image, tag)]


def names_release(image: Image, tag: str) -> bool:
    """Whether a tag in an image's repository stands for a release: the version that is built here, what the image's
    ``tags`` match, or, where it has none, a version tag. Never one that we or cosign attach (``sha256-...``)."""
    if is_named_after_digest(tag):
        return False
    if image.build and tag == image.build.version:
        return True
    return matches(tag, image.tags) if image.tags else is_version_tag(tag)


def _is_dotted(tag: str) -> bool:
    return "." in tag and read_version(tag) is not None


def is_image(place: Place, digest: Digest) -> bool:
    """Whether it could be a release: an image or an index of them. Raises RegistryError."""
    try:
        content = place.registry.get_manifest(place.repository, digest).content()
    except (NotFound, ContentError):
        return False  # gone, or nothing that a runtime could start; a stage that is asked for it says what it is
    return not content.artifact_type if isinstance(content, Index) else content.is_image


def find_release(session: Session, text: str) -> Release:
    """Read what a person writes for a release: its key (with the whole digest, or short), ``image:tag``,
    ``image@digest``, or ``image`` when only one release of it is there. Raises InputError, NotFound (no such tag)."""
    written, at, digest = text.partition("@")
    name, colon, tag = written.partition(":")
    image = session.image(name)
    if (colon and not tag) or (at and not digest):  # an empty variable behind it: nobody asks for the only release so
        raise InputError(f"{text!r} ends where a tag or a digest should stand", do="Write image:tag, or image alone")
    if tag and at:
        from registry_pipelines.chain.signed_releases import release_of_key

        return release_of_key(session, text)
    if tag:
        place = session.places.source(image)
        return Release(name, check_tag(tag), place.registry.resolve(place.repository, tag).digest)
    matching = [each for each in releases_of(session, image) if not at or each.digest == digest]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        where = str(session.places.source(image))
        raise NotFound(f"there is no release {text!r}", where=where, do="Build or push it first")
    listed = ", ".join(sorted(each.tag for each in matching)[:20])
    raise InputError(f"{text!r} names {count_text(len(matching), 'release')}: {listed}", do="Write image:tag")
