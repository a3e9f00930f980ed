"""Find releases in source registries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import matches
from registry_pipelines.config import Image
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.oci.references import check_tag
from registry_pipelines.oci.tags import order_key, read_version
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release, is_version_tag
from registry_pipelines.stream.model import MADE_FORMS, RECHUNKED
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


def releases_of(
    session: Session, image: Image, *, known: Collection[Release] = (), images: Collection[Digest] = ()
) -> list[Release]:
    """The releases of one image: digests of images (or indexes of them) under a tag of :func:`names_release`.

    Channel tags, ``latest``, fallback tags, cosign's tags and artifacts are skipped. Of several tags on one digest one
    stands in the key, whatever is added later: the version that the configuration builds, then dotted versions, then
    others, each by name. A repository that does not exist yet has none. Raises RegistryError.

    known: releases found earlier. Version tags do not move, so theirs are taken as they were, without a request each: a
    look at 1,000 releases then costs the list of tags. Look without ``known`` now and then: people do move tags.
    images: digests that were found to be images' earlier, which need not be read to tell.
    """
    return _releases_of_tags(session, image, find_tags(session, image), known, images)


def releases_named(session: Session, image: Image, tags: Collection[str]) -> list[Release]:
    """Those of :func:`releases_of` that some tags name now: for who was told of them, and lists nothing. Each is asked
    for, whatever it was told to be. Raises RegistryError."""
    skipped = _skipped(session)
    named = [tag for tag in dict.fromkeys(tags) if tag not in skipped and names_release(image, tag)]
    return _releases_of_tags(session, image, named, ())


def _releases_of_tags(
    session: Session, image: Image, tags: list[str], known: Collection[Release], images: Collection[Digest] = ()
) -> list[Release]:
    place = session.places.source(image)
    named = {each.tag: each.digest for each in known if each.image == image.name}
    seen = {*named.values(), *images}
    version = built_tag(image)
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
    skipped = _skipped(session)
    try:
        listed = list_tags(session.places.source(image), ALL).every
    except NotFound:
        return []
    return [tag for tag in listed if tag not in skipped and names_release(image, tag)]


def _skipped(session: Session) -> frozenset[str]:
    return FLOATING_TAGS | {each.name for image in session.config.images.values() for each in image.order}


def names_release(image: Image, tag: str) -> bool:
    """Whether a tag in an image's repository stands for a release: the version that is built here, what the image's
    ``tags`` match, or, where it has none, a version tag. Never one that we or cosign attach (``sha256-...``). Where
    releases are derived (``rechunk``, ``stream``), what is derived of such a tag, and not what it is derived of."""
    return _reads_as_release(image, image.origin_of(tag) if image.forms else tag)


def no_release_note(image: Image, tag: str) -> str:
    """What to know of a tag that was shipped by name and stands for no release; empty for one that does."""
    if names_release(image, tag):
        return ""
    takes = f"takes {', '.join(image.tags)}" if image.tags else "is not there, so version tags are releases"
    return (
        f"{tag} is no release of {image.name}: `images.{image.name}.tags` {takes}. Sensors and lists of releases pass "
        "over it; write a pattern for it there if it is one"
    )


def names_origin(image: Image, tag: str) -> bool:
    """Whether a tag stands for an image that releases are derived of (``rechunk``, ``stream``)."""
    return bool(image.forms) and not _is_derived(tag) and _reads_as_release(image, tag)


def _between(image: Image, tag: str) -> str:
    """The tag of the image of which was made what has this tag and is no release yet, as more is made of it; empty for
    any other tag."""
    suffix = f"-{RECHUNKED}"
    origin = tag.removesuffix(suffix) if len(image.forms) > 1 and tag.endswith(suffix) else ""
    return origin if names_origin(image, origin) else ""


def derived_by(image: Image) -> str:
    """What the configuration says of how an image's releases are derived, in words for people."""
    return " and ".join("`rechunk`" if form == RECHUNKED else f"stream.format {form}" for form in image.forms)


def deriving(image: Image, tag: str) -> str:
    """The command that derives a release of the image with this tag."""
    verb = "rechunk" if RECHUNKED in image.forms else "stream convert"
    return f"registry-pipelines {verb} {image.name}:{tag}"


def built_tag(image: Image) -> str:
    """The tag of the release of what is built here; empty where nothing is."""
    version = image.made_here.version if image.made_here else ""
    return image.released_tag(version) if version else version


def origins(session: Session, image: Image) -> dict[str, bool]:
    """Tags that releases of an image are derived of, the newest first, and whether that was done. Raises
    RegistryError."""
    if not image.forms:
        return {}
    try:
        listed = list_tags(session.places.source(image), ALL).every
    except NotFound:
        return {}
    skipped, there = _skipped(session), set(listed)
    tags = sorted((tag for tag in listed if tag not in skipped and names_origin(image, tag)), key=order_key)
    return {tag: image.released_tag(tag) in there for tag in reversed(tags)}


def _is_derived(tag: str) -> bool:
    return tag.endswith(tuple(f"-{each}" for each in MADE_FORMS))


def _reads_as_release(image: Image, tag: str) -> bool:
    if not tag or is_named_after_digest(tag):
        return False
    if image.made_here and tag == image.made_here.version:
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
    if tag and (origin := tag if names_origin(image, tag) else _between(image, tag)):
        raise InputError(
            f"{tag} is no release of {name}: those are derived of such images, by {derived_by(image)}",
            do=f"Name {name}:{image.released_tag(origin)}, which `{deriving(image, origin)}` makes; "
            f"what only reads takes {session.places.source(image)}:{tag}, too",
        )
    if tag:
        place = session.places.source(image)
        return Release(name, check_tag(tag), place.registry.resolve(place.repository, tag).digest)
    matching = [each for each in releases_of(session, image) if not at or each.digest == digest]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        todo = [each for each, done in origins(session, image).items() if not done]
        where = str(session.places.source(image))
        raise NotFound(f"there is no release {text!r}", where=where, do=_make_first(image, todo))
    listed = ", ".join(sorted(each.tag for each in matching)[:20])
    raise InputError(f"{text!r} names {count_text(len(matching), 'release')}: {listed}", do="Write image:tag")


def _make_first(image: Image, todo: Sequence[str]) -> str:
    return f"Run `{deriving(image, todo[0])}`" if todo else "Build or push it first"
