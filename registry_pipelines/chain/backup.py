"""Make a backup: copies of what is new, then the signed moment."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from registry_pipelines.chain.moments import lock, moments_place, settings_of, tags_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import RegistryPipelinesError, exit_code_of_many
from registry_pipelines.evidence.attestations import attest_once
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.recover.model import Backup
from registry_pipelines.recover.moment import (
    CONFIGURATION,
    KIND,
    KeptImage,
    KeptRepository,
    Moment,
    moments_name,
    next_time,
    settings_file,
    stored_name,
)
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import QUARANTINES
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.file_sets import LocalFile, PushedSet, push_set
from registry_pipelines.transfer.sync import OpenTarget, Source, SyncResult, sync_each
from registry_pipelines.transfer.uploads import Uploads

_WILDCARDS = frozenset("*?[")
_MOST_NAMED = 5


def backup(session: Session, name: str) -> StageResult:
    """Bring what is new to the place of a backup, then write down, signed, what every tag names. What cannot be read or
    written is said in the moment, which is then not whole, and not ``ok``.

    Raises InputError (no promoter's key here), StateLocked (another one runs), the RegistryError family where the
    moment cannot be written.
    """
    settings = settings_of(session, name)
    signer = session.keys.signer("promoter")
    with lock(session, settings.to):
        return _backup(session, settings, signer)


def _backup(session: Session, settings: Backup, signer: Signer) -> StageResult:
    began = time.monotonic()
    where = moments_place(session, settings)
    now = session.now()
    at = next_time(now, tags_of(where))
    notes = (
        [f"the clock says {write_time(now)}, which is before the last moment"]
        if at > now + timedelta(minutes=1)
        else []
    )
    files, unread, untold = _files(session, settings)
    results = sync_each([_source(session, settings, each) for each in settings.registries], engine=session.engine())
    moment = Moment(
        backup=settings.name,
        time=write_time(at),
        ended=write_time(at + timedelta(seconds=time.monotonic() - began)),
        version=version("registry-pipelines"),
        prefix=settings.prefix,
        repositories=tuple(_kept(settings, results)),
        failed=(*_failures(results), *unread),
        left_out=(
            *dict.fromkeys(f"{each.what}: {each.why}" for done in results for each in done.passed_over),
            *untold,
        ),
    )
    done = _push(session, where, moment, files)
    attest_once(where, done.descriptor, KIND.predicate_type, {"time": moment.time, "whole": moment.is_whole}, signer)
    # Last: a moment that nobody vouches for would be the newest, and stop `expire` for good.
    manifest = where.registry.get_manifest(where.repository, done.descriptor.digest)
    where.registry.put_manifest(where.repository, manifest, tag=moment.tag)
    moved = sum(each.bytes_moved for each in results)
    return StageResult(
        stage="backup",
        subject=settings.name,
        action=_said(moment, sum(changed for changed, _ in _changes(results))),
        digest=done.descriptor.digest,
        changed=True,
        bytes_moved=moved + done.bytes_sent,
        seconds=time.monotonic() - began,
        facts={
            "moment": moment.tag,
            "to": str(where.registry.name),
            "repositories": len(moment.repositories),
            "tags": moment.tags,
            "images": sum(len(each.images) for each in moment.repositories),
            "image_bytes": sum(image.size for each in moment.repositories for image in each.images),
            "failed": len(moment.failed),
            "whole": moment.is_whole,
        },
        rows=[_row(name, result) for name, result in zip(settings.registries, results, strict=True)],
        reasons=list(moment.failed[:_MOST_NAMED]),
        notes=[*notes, *moment.left_out],
        ok=moment.is_whole,
        exit_code=exit_code_of_many([each.exit_code for each in results]) if not moment.is_whole else 0,
    )


def _push(session: Session, where: Place, moment: Moment, files: Mapping[str, bytes]) -> PushedSet:
    with session.engine(receipts=False).opened() as state, tempfile.TemporaryDirectory(prefix="moment-") as folder:
        local = []
        for name, content in files.items():
            path = Path(folder) / name
            with local_errors(path):
                path.write_bytes(content)
            local.append(LocalFile(path, Digest.of(content), len(content)))
        uploads = Uploads(state, where, session.progress)
        return push_set(uploads, KIND, moment.encode(), local, tag="", created=moment.time)


def _files(session: Session, settings: Backup) -> tuple[dict[str, bytes], list[str], list[str]]:
    """The configuration, and the settings of each registry in a cloud as `infra` would declare them, with the files
    that these name; what of declared settings could not be read, and what of others. A registry that declares nothing
    may well not let us read them."""
    with local_errors(session.config.path):
        found = {CONFIGURATION: session.config.path.read_bytes()}
    unread: list[str] = []
    untold: list[str] = []
    for name in settings.registries:
        if session.config.registries[name].kind not in ("ecr", "gar"):
            continue
        from registry_pipelines.chain.infra import imported

        try:
            text, files, notes = imported(session, name)
        except RegistryPipelinesError as error:
            (unread if name in session.config.infra else untold).append(f"the settings of {name}: {error}")
            continue
        untold += [f"the settings of {name}: {each}" for each in notes]
        found[settings_file(name)] = text.encode()
        found |= {settings_file(name, path): content for path, content in files.items()}
    return found, unread, untold


def _source(session: Session, settings: Backup, registry: str) -> Source:
    names = settings.repositories
    literal = bool(names) and not any(_WILDCARDS.intersection(each) for each in names)
    never = dict.fromkeys(QUARANTINES, "retention set aside what is in it")
    if registry == settings.to:
        never |= {f"{stored_name(settings.prefix, each, '*')}": "the backup itself" for each in settings.registries}
        never |= {f"{moments_name(settings.prefix, '*')}": "the backup's own record"}
    return Source(
        session.places.registry(registry),
        (OpenTarget(session.places.registry(settings.to), stored_name(settings.prefix, registry, "")),),
        repositories=names if literal else (),
        choose_repositories=Selector(glob=names, exclude=settings.exclude_repositories),
        never=never,
        foreign_layers=True,
    )


def _kept(settings: Backup, results: Sequence[SyncResult]) -> Iterator[KeptRepository]:
    for registry, done in zip(settings.registries, results, strict=True):
        found: dict[str, dict[Digest, KeptImage]] = {}
        for result in done.results:
            if not result.ok:
                continue
            closure, tags = result.delivery.job.closure, result.delivery.job.tags
            images = found.setdefault(closure.source.repository, {})
            before = images[closure.root.digest].tags if closure.root.digest in images else ()
            images[closure.root.digest] = KeptImage(
                closure.root.digest,
                tuple(sorted({*before, *tags})),
                tuple(each.digest for each in closure.manifests),
                closure.size_bytes,
            )
        for repository in sorted(found):
            yield KeptRepository(registry, repository, tuple(found[repository].values()))


def _failures(results: Iterable[SyncResult]) -> Iterator[str]:
    for done in results:
        yield from (f"{each.reference}: {each.error}" for each in done.failures)
        yield from (f"{each.label}: {each.error or 'not complete there'}" for each in done.results if not each.ok)


def _changes(results: Iterable[SyncResult]) -> list[tuple[int, int]]:
    return [(sum(each.changed for each in done.results), len(done.results)) for done in results]


def _said(moment: Moment, changed: int) -> str:
    images = sum(len(each.images) for each in moment.repositories)
    what = f"{count_text(images, 'image')} in {count_text(len(moment.repositories), 'repository', 'repositories')}"
    new = f"{changed} new or moved" if changed else "none of them new"
    return f"{what}, {new}" + ("" if moment.is_whole else f"; {count_text(len(moment.failed), 'failure')}")


def _row(registry: str, result: SyncResult) -> dict[str, Scalar]:
    [(changed, images)] = _changes([result])
    return {
        "registry": registry,
        "images": images,
        "changed": changed,
        "bytes_sent": result.bytes_moved,
        "failed": len(list(_failures([result]))),
    }


__all__ = ["backup"]
