"""Whether an image that was rechunked has the files of what it was made of: both are read again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.releases import find_tags
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import EvidenceError, EvidenceMissing, InputError, NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import RECHUNK_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import Progress, count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import RECHUNKED
from registry_pipelines.stream.rechunk_record import RechunkRecord, read_rechunks

if TYPE_CHECKING:
    from registry_pipelines.anatomy.rechunk.verifying import ComparedPlatform


def verify(session: Session, name: str, tag: str = "") -> StageResult:
    """The newest image that was rechunked of an image of the configuration, or the one of a tag; see
    :func:`verify_any`. Raises InputError too: none was rechunked."""
    image, place = session.image(name), session.places.source(session.image(name))
    selector = tag or _newest(session, name)
    if not selector:
        raise InputError(f"nothing of {name} was rechunked", do=f"Run `registry-pipelines rechunk {image.name}:TAG`")
    return verify_any(
        place,
        selector,
        subject=f"{name}:{selector}",
        verifier=session.verifier(),
        state=session.config.state,
        progress=session.progress,
    )


def verify_any(
    place: Place,
    selector: str,
    *,
    subject: str,
    verifier: Verifier,
    state: Path,
    progress: Progress,
    origin: Place | None = None,
) -> StageResult:
    """Read an image and what it was made of again, and hold both against each other and against the signed record. Read
    only; ``ok``: nothing differs.

    selector: tag or digest of what was made. verifier: whose records count. state: gets a folder for what is read,
    which is removed. origin: where what it was made of is; beside it unless told. Raises EvidenceMissing: no believed
    record says of what it was made; NotFound, LayerInvalid, RegistryError.
    """
    from registry_pipelines.anatomy.rechunk.verifying import compare_images

    started = time.monotonic()
    top = place.registry.resolve(place.repository, selector).digest
    record = _record(place, top, verifier)
    try:
        found = compare_images(origin or place, place, record, folder=state / "rechunk", progress=progress)
    except NotFound as error:
        raise NotFound(
            error.what, where=error.where, do="Both images must be there; what it was made of may have been deleted"
        ) from error
    reasons = [reason for each in found for reason in _reasons(each)]
    return StageResult(
        stage="verify",
        subject=subject,
        action="the files differ" if reasons else f"{count_text(len(found), 'platform')} with the same files",
        digest=top,
        seconds=time.monotonic() - started,
        facts={
            "origin": record.origin,
            "platforms": len(found),
            "same_tree": not reasons and all(each.origin_tree == each.tree for each in found),
            "tool": record.tool,
        },
        rows=[
            {
                "platform": each.platform,
                "origin": each.origin,
                "rechunked": each.rechunked,
                "origin_tree": each.origin_tree,
                "kept_tree": each.kept_tree,
                "tree": each.tree,
                "holds": each.holds,
            }
            for each in found
        ],
        reasons=reasons,
        notes=_notes(record),
        ok=not reasons,
        exit_code=EvidenceError.exit_code if reasons else 0,
    )


def _newest(session: Session, name: str) -> str:
    suffix, image = f"-{RECHUNKED}", session.image(name)
    found = [tag for tag in find_tags(session, image) if tag.endswith(suffix)]
    if len(image.forms) > 1:  # releases are made of those
        made = image.released_tag("").removeprefix(suffix)
        found = [tag.removesuffix(made) for tag in find_tags(session, image)]
    return max(found, key=order_key, default="")


def _record(place: Place, top: Digest, verifier: Verifier) -> RechunkRecord:
    known = read_attestations(place, top, verifier, predicate_type=RECHUNK_TYPE)
    records, refused = read_rechunks(known, top)
    if not records:
        told = "; ".join(str(each) for each in (*refused, *known.rejected)[:3])
        raise EvidenceMissing(
            "no record that a trusted indexer signed says what it was made of" + (f" ({told})" if told else ""),
            where=f"{place}@{top}",
            do="Name the image that was rechunked (`<tag>-rechunked`), and the key of its indexer",
        )
    return min(records, key=lambda pair: pair[1].descriptor.digest)[0]


def _reasons(platform: ComparedPlatform) -> Sequence[str]:
    said = [f"{platform.platform}: {each}" for each in platform.against]
    if platform.difference:
        said.append(f"{platform.platform}: the trees differ: {platform.difference}")
    return said


def _notes(record: RechunkRecord) -> list[str]:
    left = [each.platform for each in record.platforms if each.origin == each.rechunked]
    notes = [f"{', '.join(left)} was left as it is, and is not read"] if left else []
    rewritten = sum(each.pyc_rewritten for each in record.platforms)
    if rewritten:
        notes.append(f"{count_text(rewritten, 'file')} .pyc hold no time any more; a tree digest passes over that")
    return notes
