"""The advisory set as an artifact of a registry: pushed where the feed can be reached, pulled behind the gap."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from registry_pipelines.chain.advisories import UPDATE
from registry_pipelines.chain.advisory_sets import set_facts, set_row, standing, told
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought, renewed
from registry_pipelines.errors import AdvisoriesMissing, InputError, ManifestInvalid, NotFound
from registry_pipelines.evidence.attestations import attest_once
from registry_pipelines.evidence.predicates import ADVISORIES_TYPE
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisory_sets import AdvisorySet, Description, Part, current_set
from registry_pipelines.scan.importing import take
from registry_pipelines.scan.set_archives import not_later
from registry_pipelines.transfer.file_sets import Kind, LocalFile, OpenedSet, fetch_set, open_set, push_set, vouched
from registry_pipelines.transfer.uploads import Uploads

KIND = Kind(
    what="an advisory set",
    artifact_type="application/vnd.registry-pipelines.advisories.v1",
    document_type="application/vnd.registry-pipelines.advisories.set.v1+json",
    file_type="application/vnd.registry-pipelines.advisories.file.v1",
    predicate_type=ADVISORIES_TYPE,
)


def pushed(session: Session, reference: str) -> StageResult:
    """Store the set in use at a reference (``latest`` unless a tag is written), signed by the scanner.

    The tag never moves to an older set. Raises AdvisoriesMissing (none was fetched or imported), InputError (no
    scanner's key here, a digest in the reference, an older set), the RegistryError family.
    """
    started = time.monotonic()
    brought(session.config)
    chosen = current_set(session.config.state)
    if chosen is None:
        raise AdvisoriesMissing("no advisory set was fetched or imported here", do=UPDATE.partition(",")[0])
    signer = session.keys.signer("scanner")
    place, tag = session.places.tagged(reference)
    _refuse_older(place, tag, chosen.description, reference)
    files = [LocalFile(chosen.folder / file.name, file.digest, file.size) for file in chosen.files]
    with session.engine(receipts=False).opened() as state:
        uploads = Uploads(state, place, session.progress)
        done = push_set(uploads, KIND, chosen.description.encode(), files, tag=tag, created=chosen.description.newest)
    predicate = {"newest": chosen.description.newest, "setDigest": str(chosen.description.digest)}
    attested = attest_once(place, done.descriptor, ADVISORIES_TYPE, predicate, signer)
    return StageResult(
        stage="advisories:push",
        subject=f"{place}:{tag}",
        action=f"{count_text(len(files), 'file')}, as of {chosen.description.newest}" if done.changed else "unchanged",
        digest=done.descriptor.digest,
        changed=done.changed or attested.changed,
        bytes_moved=done.bytes_sent,
        seconds=time.monotonic() - started,
        facts={"reference": f"{place}:{tag}", **set_facts(chosen, session.now())},
        rows=[set_row(part, session.now()) for part in chosen.description.parts],
    )


def _refuse_older(place: Place, tag: str, mine: Description, reference: str) -> None:
    """Who scans by the tag would know less than yesterday."""
    try:
        there = Description.decode(open_set(place, tag, KIND).document, where=reference)
    except NotFound:
        return
    if there.newest > mine.newest:
        raise InputError(
            f"a newer set is there: as of {there.newest}; the one in use here is as of {mine.newest}",
            where=f"{place}:{tag}",
            do="Run `registry-pipelines advisories update` first, or push to another tag",
        )


def pulled(session: Session, reference: str) -> StageResult:
    """Use the set at a reference, once a believed scanner's key vouches for it; files that the set in use has already
    are not read again.

    An older set than the one in use is left where it is, and that is said: who replays one would make findings vanish.
    Raises EvidenceMissing, DigestMismatch, AdvisoriesMissing, InputError, the RegistryError family: nothing changed.
    """
    started = time.monotonic()
    config, now = session.config, session.now()
    if config.advisories.source is not None:
        raise InputError("`advisories.source` names advisories of your own, so a set that is pulled would not be used")
    located = session.places.locate(reference)
    opened = open_set(located.place, located.selector, KIND)
    vouched(opened, KIND, session.verifier())
    description = Description.decode(opened.document, where=str(opened))
    _same_files(opened, description)
    brought(config)
    old = current_set(config.state)
    if old is not None and old.description.newest > description.newest:
        kept = standing(config.state, now=now, config=config)
        why = f"the set in use is newer: as of {old.description.newest}, the one at {opened} as of {description.newest}"
        return replace(kept, stage="advisories:pull", action="unchanged", notes=[why, *kept.notes])
    received: list[int] = []

    def fill(folder: Path) -> Sequence[Part]:
        for name in opened.files:
            _link(old, opened, name, folder)
        received.append(fetch_set(opened, folder, session.progress))
        return not_later(description.parts, now)

    with renewed(config):
        done = take(config.state, fill, now=now)
    result = told(done, now=now, config=config, started=started)
    facts = {"reference": str(opened), **result.facts}
    return replace(result, stage="advisories:pull", bytes_moved=sum(received), facts=facts)


def _same_files(opened: OpenedSet, description: Description) -> None:
    files = {file.name: (file.digest, file.size) for part in description.parts for file in part.files}
    if files != {name: (each.digest, each.size) for name, each in opened.files.items()}:
        raise ManifestInvalid("its document names other files than it has", where=str(opened))


def _link(old: AdvisorySet | None, opened: OpenedSet, name: str, folder: Path) -> None:
    """Take a file over from the set in use; what it holds is checked as that of any other."""
    wanted = opened.files[name].digest
    same = next((file for file in old.files if file.digest == wanted), None) if old else None
    if old is None or same is None:
        return
    with local_errors(folder):
        try:
            os.link(old.folder / same.name, folder / name)
        except OSError:  # a file system without links
            shutil.copyfile(old.folder / same.name, folder / name)


__all__ = ["KIND", "pulled", "pushed"]
