"""Tags that a person sets by hand: never one that stands for a release, or that only a promotion moves."""

from __future__ import annotations

from registry_pipelines.chain.collect import retention_rules
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.releases import names_origin, names_release
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import matches
from registry_pipelines.errors import ContentError, Refused, TagImmutable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import check_tag
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest


def tag_image(source: Located, tag: str, *, move: bool, session: Session | None) -> StageResult:
    """Make a tag name the image, by digest, in the image's own repository.

    move: also where it names another image so far. session: of the configuration, whose channels and releases are not
    touched. Raises TagImmutable for those and for tags named after digests, Refused for a tag that is to stay,
    ReferenceInvalid, RegistryError.
    """
    place = source.place
    check_tag(tag)
    _check_free(place, tag, session)
    top = place.registry.get_manifest(place.repository, source.selector)
    before = digest_at(place, tag)
    if before not in (None, top.digest) and not move:
        raise Refused(
            f"the tag names {before} already",
            where=f"{place}:{tag}",
            do="Choose another tag, or give --move to move it",
        )
    if before != top.digest:
        put_tag(place, top, tag)
    return StageResult(
        stage="tag",
        subject=f"{place}:{tag}",
        action="unchanged" if before == top.digest else f"moved from {before.short}" if before else "names it now",
        digest=top.digest,
        changed=before != top.digest,
        facts={"tag": tag, "from_digest": before or ""},
    )


def untag(place: Place, tag: str, digest: Digest, *, session: Session | None, dry_run: bool = False) -> StageResult:
    """Take a tag away from an image that has others, and make sure that the image is still there.

    dry_run: only say what would be done. Raises TagImmutable as :func:`tag_image`, also for a tag that a retention rule
    protects; ContentError where the image went, too; Unsupported, RegistryError.
    """
    _check_free(place, tag, session)
    for rule in retention_rules(session, place):
        if rule.covers(place.repository) and matches(tag, rule.protect):
            raise TagImmutable("a retention rule protects the tag", where=f"{place}:{tag}")
    if not dry_run:
        _delete_tag(place, tag)
        if digest_at(place, digest) is None:
            raise ContentError(
                "the registry deleted the image with the tag, though it had others",
                where=f"{place}@{digest}",
                do="Push or copy it again; take no tags away in this registry",
            )
    return StageResult(
        stage="delete",
        subject=f"{place}:{tag}",
        action="the tag would go, the image stays" if dry_run else "the tag is gone, the image stays",
        digest=digest,
        changed=not dry_run,
        facts={"tag": tag, "deleted": 0},
    )


def _delete_tag(place: Place, tag: str) -> None:
    try:
        place.registry.delete_tag(place.repository, tag)
    except Unsupported as error:
        do = "Leave the tag, move it, or delete the image by its digest, with all its tags"
        raise Unsupported(error.what, where=error.where, do=do, status=error.status, code=error.code) from error


def _check_free(place: Place, tag: str, session: Session | None) -> None:
    """Raise TagImmutable for a tag that means something: nobody sets it or takes it away by hand."""
    where = f"{place}:{tag}"
    if is_named_after_digest(tag):
        raise TagImmutable("tags named after digests hold signatures and lists of referrers", where=where)
    for image in session.config.images.values() if session else ():
        if not session or str(place) not in map(str, session.places_of(image)):
            continue
        if tag in {each.name for each in image.order}:
            raise TagImmutable(
                f"the tag is a channel of {image.name}, which only a promotion moves",
                where=where,
                do=f"Run `registry-pipelines promote {image.name}:TAG`",
            )
        if names_release(image, tag) or names_origin(image, tag):
            raise TagImmutable(
                f"the tag stands for a release of {image.name}; those never move, and are built or pushed",
                where=where,
                do="Choose a word, or push the release under this tag",
            )
