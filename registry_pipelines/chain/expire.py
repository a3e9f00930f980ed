"""Let old moments of a backup go, and the content that only they need."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from registry_pipelines.chain.moments import is_same_place, lock, moments_place, open_tag, settings_of, tags_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Stop
from registry_pipelines.collect.rules import matches
from registry_pipelines.errors import (
    EvidenceMissing,
    Forbidden,
    InputError,
    NotFound,
    RegistryPipelinesError,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.recover.expiry import Expiry, keep_expiry
from registry_pipelines.recover.keeping import kept_moments
from registry_pipelines.recover.model import Backup, Keep
from registry_pipelines.recover.moment import EXPIRED, Moment, expired_tags, moment_tags, moments_name, stored_name
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.shared.documents import Documents
from registry_pipelines.threads import Pool

UNSIGNED = "no key of the promoter is here to sign what went: an audit of the place tells these deletions as alerts"
DELETERS = 8
"""Manifests deleted at once; one after the other in each repository would be the same for a registry."""
_MOST_NAMED = 5
_Item = tuple[Place, Digest]


@dataclass(frozen=True)
class _Going:
    """What goes. moments: tags as they are now. manifests: repository at the place of the backup to what only these
    moments need, what refers to others first. unlisted: repositories of moments that are of no backup of the
    configuration."""

    kept: dict[str, str]
    moments: Sequence[str]
    manifests: dict[str, list[Digest]]
    unlisted: Sequence[str] = ()


def expire(session: Session, name: str, *, dry_run: bool = False) -> StageResult:
    """Let the moments go that `keep` does not keep, then what only they needed. A moment that goes is first renamed, so
    that nobody restores half of it; who was ended goes on when it is run again.

    Every moment of every backup at that place must be readable and believed: what an unreadable one needs is not known,
    and then nothing goes. Content of an object store is freed by `collect garbage` afterwards. Raises InputError (no
    `keep`; a retention rule that forbids it is what the registry says), EvidenceMissing, StateLocked, the RegistryError
    family; ``reasons`` say what could not be deleted.
    """
    began, settings = time.monotonic(), settings_of(session, name)
    if settings.keep is None:
        raise InputError(
            f"the backup {settings.name} does not say which moments stay",
            where=str(session.config.path),
            do="Add `keep: {daily: 14, weekly: 8, monthly: 12}` to it; without it none goes",
        )
    with lock(session, settings.to):
        going = _going(session, settings, settings.keep)
        unsigned = not dry_run and bool(going.moments) and not _sign(session, settings, going)
        failed = [] if dry_run else _delete(session, settings, going)
    count, manifests = len(going.moments), sum(map(len, going.manifests.values()))
    what = f"{count_text(count, 'moment')} and {count_text(manifests, 'manifest')}"
    verb = "would go" if dry_run else "went" if not failed else "were to go"
    return StageResult(
        stage="expire",
        subject=settings.name,
        action=f"{what} {verb}, {count_text(len(going.kept), 'moment')} stay" if count else "every moment stays",
        changed=bool(count) and not dry_run,
        seconds=time.monotonic() - began,
        facts={"kept": len(going.kept), "gone": count, "manifests": manifests, "failed": len(failed)},
        rows=_rows(going),
        reasons=failed[:_MOST_NAMED],
        notes=[
            *(
                f"the moments in {each} stay with all they need: no backup of the configuration has that name"
                for each in going.unlisted
            ),
            *([UNSIGNED] if unsigned else []),
        ],
        next_steps=[f"registry-pipelines collect garbage {settings.to}"] if manifests and not dry_run else [],
        ok=not failed,
    )


def _rows(going: _Going) -> list[dict[str, Scalar]]:
    stay: list[dict[str, Scalar]] = [{"moment": tag, "stays": True, "why": why} for tag, why in going.kept.items()]
    gone: list[dict[str, Scalar]] = [
        {"moment": tag, "stays": False, "why": "no rule keeps it"} for tag in going.moments
    ]
    return stay + gone


def _going(session: Session, settings: Backup, keep: Keep) -> _Going:
    tags = tags_of(moments_place(session, settings))
    whole = {tag for tag in moment_tags(tags) if open_tag(session, settings, tag).moment.is_whole}
    kept = kept_moments(tags, keep, session.now(), whole)
    gone = [tag for tag in moment_tags(tags) if tag not in kept] + expired_tags(tags)
    if not gone:
        return _Going(kept, (), {})
    unlisted = _unlisted(session, settings)
    needed = _needed(session, settings, kept, unlisted)
    manifests: dict[str, dict[Digest, None]] = defaultdict(dict)
    for tag in gone:
        for repository, digests in _manifests_of_going(session, settings, tag).items():
            free = (each for each in reversed(digests) if each not in needed[repository])
            manifests[repository].update(dict.fromkeys(free))
    return _Going(
        kept,
        gone,
        {repository: list(found) for repository, found in manifests.items() if found},
        [moments_name(each.prefix, each.name) for each in unlisted],
    )


def _manifests_of_going(session: Session, settings: Backup, tag: str) -> dict[str, list[Digest]]:
    """A marked moment that lost its signatures was about to be deleted when somebody was ended: its content is gone."""
    try:
        return _manifests(open_tag(session, settings, tag).moment)
    except EvidenceMissing:
        if not tag.startswith(EXPIRED):
            raise
        return {}


def _needed(
    session: Session, settings: Backup, kept: Iterable[str], unlisted: Sequence[Backup]
) -> dict[str, set[Digest]]:
    """Manifests at the place of a backup that any moment needs that stays, of it and of others there, by repository."""
    found: dict[str, set[Digest]] = defaultdict(set)
    for other in (*session.config.backups.values(), *unlisted):
        if not is_same_place(session, other.to, settings.to):
            continue
        stay = kept if other.name == settings.name else moment_tags(tags_of(moments_place(session, other)))
        for tag in stay:
            for repository, digests in _manifests(open_tag(session, other, tag).moment).items():
                found[repository].update(digests)
    return found


def _unlisted(session: Session, settings: Backup) -> list[Backup]:
    """Backups that left moments at the place and that the configuration does not have any more, or under another name:
    nobody said that these moments may go. A registry that lists no repositories tells of none."""
    where, known = moments_place(session, settings), set(session.config.backups)
    folder = moments_name(settings.prefix, "") + "/"
    try:
        names = [each.removeprefix(folder) for each in where.registry.repositories() if each.startswith(folder)]
    except (Unsupported, Forbidden):
        return []
    return [replace(settings, name=name) for name in names if name not in known]


def _manifests(moment: Moment) -> dict[str, list[Digest]]:
    """Repository at the place of the backup to what the moment needs there, what is referred to before what refers."""
    found: dict[str, list[Digest]] = defaultdict(list)
    for kept in moment.repositories:
        at = found[stored_name(moment.prefix, kept.registry, kept.repository)]
        for image in kept.images:
            at += image.manifests
    return found


def _delete(session: Session, settings: Backup, going: _Going) -> list[str]:
    """Mark the moments, delete content, delete the moments; what failed. A moment whose content could not be deleted
    stays marked, and is found the next time."""
    where = moments_place(session, settings)
    vault = where.registry
    held = [_marked(where, tag) for tag in going.moments]
    work = [(Place(vault, repository), digest) for repository, found in going.manifests.items() for digest in found]
    with Pool(DELETERS, "expire") as pool:
        refused = list(_refused(pool, work))
        while refused and len(again := list(_refused(pool, [item for item, _ in refused]))) < len(refused):
            refused = again  # registries keep what an index refers to, and those beside it were not gone yet
    if refused:
        return [why for _, why in refused]
    failed: list[str] = []
    for digest in filter(None, (digest_at(where, tag) for tag in held)):
        signatures = [each.digest for each in vault.referrers(where.repository, digest)]
        failed += [why for each in (*signatures, digest) if (why := _drop((where, each)))]
    return failed


def expiries_folder(session: Session) -> Documents:
    """Where it is kept, signed, what `expire` let go."""
    return session.documents.under("recover/expired")


def _sign(session: Session, settings: Backup, going: _Going) -> bool:
    """Keep, signed, what is about to be deleted; whether there is a key for that."""
    signer = session.keys.at_hand("promoter", make=False)
    if signer is None:
        return False
    where = moments_place(session, settings)
    manifests = {repository: [str(each) for each in found] for repository, found in going.manifests.items()}
    own = manifests.setdefault(where.repository, [])
    for digest in filter(None, (digest_at(where, tag) for tag in going.moments)):
        own += [str(digest), *(str(each.digest) for each in where.registry.referrers(where.repository, digest))]
    expiry = Expiry(
        backup=settings.name,
        registry=settings.to,
        made_at=write_time(session.now()),
        manifests={repository: tuple(found) for repository, found in manifests.items()},
    )
    keep_expiry(expiries_folder(session), expiry, signer)
    return True


def _refused(pool: Pool, work: list[_Item]) -> Iterator[tuple[_Item, str]]:
    return ((item, why) for item, why in zip(work, pool.map(_drop, work), strict=True) if why)


def _marked(where: Place, tag: str) -> str:
    if tag.startswith(EXPIRED):
        return tag
    manifest = where.registry.get_manifest(where.repository, tag)
    where.registry.put_manifest(where.repository, manifest, tag=EXPIRED + tag)
    return EXPIRED + tag


def _drop(item: _Item) -> str:
    """Delete one manifest; why it could not be, or nothing."""
    place, digest = item
    try:
        place.registry.delete_manifest(place.repository, digest)
    except NotFound:
        return ""
    except RegistryPipelinesError as error:
        return f"{place}@{digest.short} stays: {error}"
    return ""


def kept_by_backups(session: Session, registry: str) -> tuple[dict[str, dict[Digest, str]], tuple[Stop, ...]]:
    """What moments of backups need in a registry that is the place of a backup, by repository, each with why: nothing
    of that goes, with or without a tag; and the moments themselves. A backup whose moments cannot be read stops
    everything in its repositories there."""
    at: dict[str, dict[Digest, str]] = defaultdict(dict)
    stops: list[Stop] = []
    for settings in session.config.backups.values():
        if not is_same_place(session, settings.to, registry):
            continue
        own = moments_name(settings.prefix, settings.name)
        try:
            _keep_moments(session, settings, at)
        except RegistryPipelinesError as error:
            patterns = (own, *(stored_name(settings.prefix, each, "*") for each in settings.registries))
            stops.append(Stop(f"the backup {settings.name}", str(error), patterns, unknown="what backups need"))
    return at, tuple(stops)


def _keep_moments(session: Session, settings: Backup, at: dict[str, dict[Digest, str]]) -> None:
    where = moments_place(session, settings)
    tags = tags_of(where)
    for tag in moment_tags(tags):
        opened = open_tag(session, settings, tag)
        why = f"the moment {tag} of the backup {settings.name} needs it"
        for repository, digests in _manifests(opened.moment).items():
            at[repository].update((each, why) for each in digests if each not in at[repository])
    for tag in tags:
        if (digest := digest_at(where, tag)) is not None:
            signatures = (each.digest for each in where.registry.referrers(where.repository, digest))
            why = f"it is of the backup {settings.name}: `recover expire` lets moments go"
            at[where.repository].update(dict.fromkeys((digest, *signatures), why))


def needed_by_backups(session: Session, registry: str, repository: str) -> dict[Digest, str]:
    """The same of one repository, for who cannot go on without an answer. Raises Unavailable."""
    at, stops = kept_by_backups(session, registry)
    if stopped := [str(each) for each in stops if matches(repository, each.repositories)]:
        raise Unavailable("; ".join(stopped), do="Nothing there is deleted until the moments of the backup can be read")
    return at.get(repository, {})


__all__ = ["expire", "expiries_folder", "kept_by_backups", "needed_by_backups"]
