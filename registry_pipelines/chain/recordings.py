"""What nodes recorded of real starts: taken out of the inbox (``node.record``), for hot packs.

The inbox is the only thing that nodes write, so what is in it is looked at with care (``stream.hot.taking``), and
recordings of no release of ours are deleted. Cutting follows in :mod:`~registry_pipelines.chain.record`, as with what
was recorded here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import (
    ContentError,
    InputError,
    LocalError,
    NotFound,
    PromotionDenied,
    RegistryError,
    RegistryPipelinesError,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.stream.hot.inbox import Listed, Waiting, of_images, waiting
from registry_pipelines.threads import Pool

if TYPE_CHECKING:
    from registry_pipelines.chain.stream import Tools
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.stream.hot.taking import Taken

MOST_IMAGES = 500
"""That one look asks the registries for, those with the most recordings first: anybody who may write to the inbox may
name any image."""
MOST_RELEASES = 100
"""Of one image, the newest first, that are opened to find out which has a platform's image."""
LOOKUPS = 8
"""At once."""


@dataclass(frozen=True)
class InboxLook:
    """What lies in an inbox."""

    releases: Mapping[Release, tuple[Waiting, ...]] = field(default_factory=dict)
    """Ours with recordings of nodes, and these."""
    unknown: tuple[Waiting, ...] = ()
    """Recordings of images that no release has."""
    other: tuple[str, ...] = ()
    """Tags that no node makes: left to a person, for somebody may have named a repository that has other things."""
    problems: tuple[str, ...] = ()
    """Why nobody knows which recordings are of an image's releases; then none counts as ``unknown``."""
    count: int = 0
    more: bool = False
    """Whether there is more than was looked at."""


def inbox_of(session: Session) -> Place | None:
    """The configured inbox; None where there is none."""
    record = session.config.node.record
    return session.places.place(record.inbox) if record else None


def look(session: Session) -> InboxLook:
    """Which releases nodes recorded since the last time; read only. Raises InputError where no inbox is configured,
    RegistryError of the inbox."""
    inbox = inbox_of(session)
    if inbox is None:
        raise InputError(
            "no inbox for recordings of nodes is configured", do="Write `node: {record: <registry>/<repository>}`"
        )
    listed = _listed(inbox)
    groups = sorted(of_images(listed), key=lambda group: -len(group[1]))
    wanted = dict(groups[:MOST_IMAGES])
    found: dict[Release, tuple[Waiting, ...]] = {}
    known: set[Digest] = set()
    problems: list[str] = []
    for image in session.config.images.values():
        try:
            releases = _releases_with(session, image, wanted)
        except (RegistryError, ContentError) as error:
            problems.append(f"it is not known what nodes recorded of {image.name}: {error}")
            continue
        for release, digests in releases.items():
            found[release] = tuple(each for digest in digests for each in wanted[digest])
            known |= {*digests}
    strange = [] if problems else [messages for image, messages in wanted.items() if image not in known]
    return InboxLook(
        releases=found,
        unknown=tuple(each for messages in strange for each in messages),
        other=listed.other,
        problems=tuple(problems),
        count=len(listed.waiting),
        more=listed.more or len(groups) > MOST_IMAGES,
    )


def _listed(inbox: Place) -> Listed:
    try:
        return waiting(inbox)
    except NotFound:  # nobody ever sent anything
        return Listed((), (), more=False)


def _releases_with(session: Session, image: Image, wanted: Collection[Digest]) -> dict[Release, tuple[Digest, ...]]:
    """Releases of an image with the platform manifests of them that are wanted."""
    place = session.places.source(image)
    with Pool(LOOKUPS, "recorded") as pool:
        there = {digest for digest, is_there in zip(wanted, pool.map(_is_at(place), wanted), strict=True) if is_there}
    found: dict[Release, tuple[Digest, ...]] = {}
    if not there:
        return found
    newest = sorted(releases_of(session, image), key=lambda release: order_key(release.tag), reverse=True)
    for release in newest[:MOST_RELEASES]:
        own = tuple(digest for digest in _below(place, release.digest) if digest in there)
        if own:
            found[release] = own
            there -= {*own}
        if not there:
            break
    return found


def _is_at(place: Place) -> Callable[[Digest], bool]:
    def is_there(digest: Digest) -> bool:
        try:
            place.registry.resolve(place.repository, digest)
        except NotFound:
            return False
        return True

    return is_there


def _below(place: Place, digest: Digest) -> tuple[Digest, ...]:
    """A manifest, and those that it names where it is an index."""
    try:
        content = place.registry.get_manifest(place.repository, digest).content()
    except (NotFound, ContentError):
        return ()
    return (digest, *(each.digest for each in content.manifests)) if isinstance(content, Index) else (digest,)


def taken_of(session: Session, place: Place, descriptors: Sequence[Digest]) -> list[str]:
    """Have what nodes sent of these platform manifests in their signed recordings. What a person should know; an inbox
    that does not answer is one of these, for a release does not wait for it. Raises RegistryError: of ``place``."""
    inbox = inbox_of(session)
    if inbox is None:
        return []
    try:
        groups = dict(of_images(_listed(inbox)))
    except RegistryPipelinesError as error:
        return [f"recordings of nodes are not used: {error}"]
    notes: list[str] = []
    for digest in descriptors:
        if messages := groups.get(digest):
            taken = _take(inbox, messages, place, digest, session.keys.signer("indexer"), session.config.state)
            notes += _said(taken)
    return notes


def _take(
    inbox: Place, messages: Sequence[Waiting], place: Place, digest: Digest, signer: Signer, state: Path
) -> Taken:
    from registry_pipelines.stream.hot.taking import take

    image = place.registry.resolve(place.repository, digest)
    return take(inbox, messages, place, image, signer=signer, state=state)


def _said(taken: Taken) -> list[str]:
    """What a person should know of it, a sentence each."""
    said = []
    if taken.published is not None:
        new = count_text(taken.published.new_pages, "new page")
        said.append(f"{count_text(taken.nodes, 'node')} recorded a start: {new}")
    return [*said, *taken.notes()]


def collect(session: Session, wanted: Collection[Release] = ()) -> list[StageResult]:
    """Take what nodes recorded of releases, and have their packs cut anew: of all that have recordings unless told.
    Then what is of no release is deleted, too. One result for each release, and one for the inbox; a release that fails
    holds up no other.

    Raises InputError, RegistryError of the inbox.
    """
    from registry_pipelines.chain.record import record

    started = time.monotonic()
    found = look(session)
    results: list[StageResult] = []
    for release in wanted or found.releases:
        try:
            results.append(record(session, release))
        except PromotionDenied as denied:
            action = "recordings wait: its verdict is not allow"
            results.append(
                StageResult(stage="record", subject=release.key, action=action, notes=[*map(str, denied.reasons)])
            )
        except (RegistryError, ContentError, LocalError) as error:
            results.append(
                StageResult(
                    stage="record",
                    subject=release.key,
                    action="failed",
                    reasons=[str(error)],
                    ok=False,
                    exit_code=error.exit_code,
                )
            )
    results.append(_cleared(session, found, delete=not wanted, seconds=time.monotonic() - started))
    return results


def sweep(session: Session) -> StageResult:
    """Delete recordings of no release. Raises as :func:`look`."""
    started = time.monotonic()
    return _cleared(session, look(session), delete=True, seconds=time.monotonic() - started)


def _cleared(session: Session, found: InboxLook, *, delete: bool, seconds: float) -> StageResult:
    """What became of what is of no release."""
    from registry_pipelines.stream.hot.taking import delete_message

    inbox = inbox_of(session)
    tags = [each.tag for each in found.unknown]
    whys: Counter[str] = Counter()
    if delete and inbox is not None:
        whys.update(filter(None, (delete_message(inbox, tag) for tag in tags)))
    gone = len(tags) - sum(whys.values()) if delete else 0
    notes = [*found.problems]
    notes += [f"{count_text(count, 'recording')} cannot be deleted: {why}" for why, count in whys.items()]
    if found.other:
        notes.append(f"{count_text(len(found.other), 'tag')} that no node makes: look at them; nothing deletes them")
    if found.more:
        notes.append("there is more in the inbox than one look reads")
    done = f"{count_text(gone, 'recording')} of no release dropped" if gone else ""
    left = f"{count_text(len(tags), 'recording')} of no release left" if tags and not delete else ""
    return StageResult(
        stage="recordings",
        subject=str(inbox or ""),
        action=done or left or ("unchanged" if found.count else "the inbox is empty"),
        changed=gone > 0,
        seconds=seconds,
        facts={"recordings": found.count, "releases": len(found.releases), "of_no_release": len(tags), "dropped": gone},
        notes=notes,
    )


def collect_any(
    inbox: Place, place: Place, selector: str, tools: Tools, *, subject: str, log: Callable[[str], object]
) -> list[StageResult]:
    """The same of one image that is none of the configuration's; nothing of others is deleted. Raises RegistryError,
    NotFound."""
    from registry_pipelines.chain.packing import pack_any
    from registry_pipelines.stream.source import read_source

    groups = dict(of_images(_listed(inbox)))
    top = place.registry.resolve(place.repository, selector)
    results = []
    for image in read_source(place, top.digest).images:
        digest = image.entry.digest
        if digest not in groups:
            continue
        taken = _take(inbox, groups[digest], place, digest, tools.signer, tools.state)
        for line in _said(taken):
            log(line)
        if taken.published is not None:
            results.append(pack_any(place, digest, None, tools, subject=subject, log=log))
    return results


__all__ = ["InboxLook", "collect", "collect_any", "inbox_of", "look", "sweep", "taken_of"]
