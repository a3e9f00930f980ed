"""Free what nothing refers to any more: in registries whose files are here; for all others, who frees it and when."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from registry_pipelines.chain.moments import lock
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import EmbeddedRegistry, LayoutRegistry, StoreRegistry
from registry_pipelines.config.clouds import EcrPublicRegistry, EcrRegistry, GarRegistry
from registry_pipelines.errors import ContentError, EvidenceError, InputError, NotFound
from registry_pipelines.progress import count_text, duration_text, size_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import unknown

NOTHING: Mapping[str, Scalar] = {"freed_bytes": 0, "blobs": 0, "uploads": 0}
"""What was freed where nothing was."""


def garbage(
    session: Session, registry: str, *, dry_run: bool = False, grace_s: float | None = None, if_here: bool = False
) -> StageResult:
    """Free unreferenced blobs and abandoned uploads of a registry whose files are here, served or not; beside pushes.
    For another one nothing is done, and the notes say who frees its bytes, and what breaks when they are freed wrongly.

    grace_s: so long a blob or an upload must have been unused; a day unless told. if_here: files that lie on another
    machine are no error: nothing is done, and said. Raises InputError (no such registry, no such folder), LocalError.
    """
    settings = session.config.registries.get(registry)
    if settings is None:
        raise InputError(unknown(registry, session.config.registries, "registry"), do="Name one of the configuration")
    if isinstance(settings, StoreRegistry):
        return _free_store(session, registry, dry_run, grace_s)
    if not isinstance(settings, EmbeddedRegistry | LayoutRegistry):
        return _advise(session, registry)
    root = session.config.root(settings) if isinstance(settings, EmbeddedRegistry) else settings.root
    elsewhere = isinstance(settings, EmbeddedRegistry) and session.config.served_by
    if elsewhere and not if_here:
        raise InputError(f"{elsewhere} serves {registry}, and its files are there", do="Run this there")
    if if_here and (elsewhere or not root.is_dir()):
        note = f"its files are not on this machine: run `collect garbage {registry}` where they are"
        return StageResult(
            stage="garbage", subject=registry, action="nothing is freed from here", facts=NOTHING, notes=[note]
        )
    return _free(registry, root, dry_run, grace_s)


def _free(registry: str, root: Path, dry_run: bool, grace_s: float | None) -> StageResult:
    from registry_pipelines.oci.files import local_errors
    from registry_pipelines.registry.embedded.garbage import GRACE_S, collect_garbage
    from registry_pipelines.registry.embedded.storage import Store
    from registry_pipelines.registry.embedded.uploads import Uploads

    if not root.is_dir():
        raise InputError("there is no such folder", where=str(root), do="Run this where the registry's files are")
    started = time.monotonic()
    grace = GRACE_S if grace_s is None else grace_s
    with local_errors(root):
        done = collect_garbage(Store(root), Uploads(), grace_s=grace, dry_run=dry_run)
    rows: list[Mapping[str, Scalar]] = [
        {"repository": each.repository, "blobs": each.blobs, "freed_bytes": each.bytes_freed, "uploads": each.uploads}
        for each in done.repositories
    ]
    what = f"{count_text(done.blobs, 'blob')} and {count_text(done.uploads, 'abandoned upload')}"
    verb = "would free" if dry_run else "freed"
    return StageResult(
        stage="garbage",
        subject=registry,
        action=f"{verb} {size_text(done.bytes_freed)}: {what}" if done.blobs or done.uploads else "nothing to free",
        changed=not dry_run and bool(done.blobs or done.uploads),
        seconds=time.monotonic() - started,
        facts={"blobs": done.blobs, "freed_bytes": done.bytes_freed, "uploads": done.uploads, "grace_s": grace},
        rows=rows,
        reasons=[f"{each}; nothing of it was freed" for each in done.skipped],
        ok=not done.skipped,
        exit_code=ContentError.exit_code if done.skipped else 0,
    )


def _free_store(session: Session, registry: str, dry_run: bool, grace_s: float | None) -> StageResult:
    """In two runs: what nothing needs is marked, and deleted by a run at least ``grace_s`` later."""
    from registry_pipelines.registry.stored import StoredRegistry
    from registry_pipelines.registry.stored_garbage import UNUSED_S

    started = time.monotonic()
    there = session.places.registry(registry)
    if not isinstance(there, StoredRegistry):
        raise InputError(f"{registry} is not an object store")
    grace = UNUSED_S if grace_s is None else grace_s
    with lock(session, registry):
        done = there.free_content(unused_s=grace, dry_run=dry_run)
    verb = "would free" if dry_run else "freed"
    gone = bool(done.blobs or done.uploads)
    what = f"{count_text(done.blobs, 'blob')} and {count_text(done.uploads, 'abandoned upload')}"
    action = f"{verb} {size_text(done.bytes)}: {what}" if gone else "nothing to free yet"
    waits = f"{count_text(done.waiting, 'blob')} ({size_text(done.waiting_bytes)}) that nothing needs can go in "
    return StageResult(
        stage="garbage",
        subject=registry,
        action=action if gone or done.waiting else "nothing to free",
        changed=not dry_run and gone,
        seconds=time.monotonic() - started,
        facts={
            "blobs": done.blobs,
            "freed_bytes": done.bytes,
            "uploads": done.uploads,
            "waiting": done.waiting,
            "grace_s": grace,
        },
        notes=[waits + duration_text(done.next_s)] if done.waiting else [],
    )


def _advise(session: Session, registry: str) -> StageResult:
    from registry_pipelines.collect.collectors import COLLECTORS, DISTRIBUTION, SELF_HOSTED

    family = _family(session, registry)
    known = COLLECTORS.get(family)
    told = [known] if known else [DISTRIBUTION, *(COLLECTORS[name] for name in SELF_HOSTED)]
    return StageResult(
        stage="garbage",
        subject=registry,
        action=f"nothing is freed from here: {known.title} does that itself" if known else "nothing is freed from here",
        facts={"family": family or "unknown", **NOTHING},
        notes=[f"{each.title}: {sentence}" for each in told for sentence in each.advice],
    )


def _family(session: Session, registry: str) -> str:
    from registry_pipelines.registry.client.words import family_of

    settings = session.config.registries[registry]
    if isinstance(settings, EcrRegistry | EcrPublicRegistry):
        return "ecr"
    if isinstance(settings, GarRegistry):
        return "artifact-registry"
    return family_of(session.places.registry(registry).name) or ""


def checked(session: Session, registry: str, text: str) -> StageResult:
    """Whether what a registry's own collector is about to delete is needed by a tag: its dry run's output, as
    docker-registry prints it, against a survey of every repository. Not ``ok`` where anything is. Raises InputError
    (not such an output, no such registry), RegistryError, ContentError: an unclear answer is none."""
    from registry_pipelines.collect.collectors import endangered, read_dry_run
    from registry_pipelines.inventory.survey import survey

    started = time.monotonic()
    eligible = read_dry_run(text)
    manifests = sum(map(len, eligible.manifests.values()))
    if not manifests and not eligible.blobs and "eligible for deletion" not in text:
        raise InputError(
            "this is not what a dry run of `registry garbage-collect` prints",
            do="Write it to a file: registry garbage-collect --dry-run CONFIG > FILE",
        )
    opened = session.places.registry(registry)
    found = []
    for repository in opened.repositories():
        try:
            found += endangered(survey(Place(opened, repository)), eligible)
        except NotFound:  # a repository without a tag: the catalogue of docker-registry has it, its list of tags not
            continue
    rows: list[Mapping[str, Scalar]] = [
        {
            "repository": each.repository,
            "digest": each.digest,
            "what": "blob" if each.blob else "manifest",
            "tags": ", ".join(each.tags[:5]),
        }
        for each in found
    ]
    what = f"{count_text(manifests, 'manifest')} and {count_text(len(eligible.blobs), 'blob')}"
    return StageResult(
        stage="garbage",
        subject=registry,
        action=f"would break tags: of {what} that would go, {len(found)} are needed"
        if found
        else f"{what}: none is needed",
        seconds=time.monotonic() - started,
        facts={"manifests": manifests, "blobs": len(eligible.blobs), "needed": len(found)},
        rows=rows,
        reasons=["do not run the collector so: a tag leads to what it would delete"] if found else [],
        next_steps=["Run it without `-m` (`--delete-untagged`)"] if any(not each.blob for each in found) else [],
        ok=not found,
        exit_code=EvidenceError.exit_code if found else 0,
    )
