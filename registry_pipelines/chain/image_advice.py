"""What is inside a release and which bytes of it need not be there: shown, and signed, so that a policy may ask for it.

It reads what the scan kept of the layers, and a blob only where nothing was kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.picture import draw
from registry_pipelines.anatomy.predicate import image_advice as document_about
from registry_pipelines.anatomy.report import Anatomy, Changes
from registry_pipelines.chain.image_changes import changes_at
from registry_pipelines.chain.releases import names_release
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ManifestInvalid, RegistryError
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.advice import document_within
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.release import Release
from registry_pipelines.scan.advice.document import attest_advice

RELEASES = 10
"""Looked at for what a release moves: two small requests each."""


class Advised(NamedTuple):
    """picture: a PNG of the first platform's image."""

    result: StageResult
    picture: bytes


def image_advice(session: Session, release: Release) -> Advised:
    """Look into every image of a release and attach what was found, signed by the scanner where its key is here and it
    is news. ``reasons``: what the limits of its policy (``image_advice``) do not let pass; that denies nothing here.
    ``facts``: bytes of the first platform's image, by class too, under names that stay.

    Raises ManifestInvalid: there is no image in it; LayerInvalid, DigestMismatch, DiskFull, RegistryError.
    """
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.at_hand("scanner")  # a wrong password is told before layers are read
    top = place.registry.get_manifest(place.repository, release.digest)
    entries = read_images(place, top)
    if not entries:
        raise ManifestInvalid("there is no image in it", where=f"{place}@{release.digest}")
    found = [
        image_anatomy(place, each.digest, state=session.config.state, platform=each.platform, progress=session.progress)
        for each in entries
    ]
    document = document_about(release.digest, found)
    attested = attest_advice(place, subject, document, signer) if signer else None
    limits = session.policy(release).image_advice
    outcome = document_within(document, limits)
    moved, notes = _changes(session, release, found[0])
    if not signer:
        notes.append("the advice is not signed: the scanner's key is not on this machine")
    changed = attested is not None and attested.changed
    rows: list[dict[str, Scalar]] = [
        {
            "platform": platform.platform,
            "kind": row.kind,
            "severity": row.severity,
            "wasted_bytes": row.compressed,
            "unpacked_bytes": row.size,
            "files": row.files,
            "do": row.do,
            "example": row.examples[0] if row.examples else "",
        }
        for platform in document.platforms
        for row in platform.advice
    ]
    told = count_text(len(rows), "finding")
    result = StageResult(
        stage="advice",
        subject=release.key,
        digest=str(attested.descriptor.digest) if attested else str(release.digest),
        action=f"{told}, {size_text(found[0].wasted)} of {size_text(found[0].compressed)} need not be there"
        + ("" if changed or not attested else " (as signed before)"),
        changed=changed,
        seconds=time.monotonic() - started,
        facts={"release": release.key, **_facts(found, moved), "signed": attested is not None, "limited": limits.asks},
        rows=rows,
        tables=_tables(found[0], moved),
        reasons=list(dict.fromkeys(outcome.reasons)),
        notes=[*notes, *(f"not looked at: {each}" for one in found for each in one.unread)],
    )
    return Advised(result, draw(found[0]))


def _changes(session: Session, release: Release, found: Anatomy) -> tuple[Changes | None, list[str]]:
    """What the last releases moved; it is no reason to fail that a registry does not tell."""
    image = session.image(release.image)
    try:
        moved = changes_at(session.source(release), release.tag, found, lambda tag: names_release(image, tag), RELEASES)
    except RegistryError as error:
        return None, [f"what releases moved is not known: {error.what}"]
    return moved, [f"not looked at: {each}" for each in moved.notes]


def _facts(found: Sequence[Anatomy], moved: Changes | None) -> dict[str, Scalar]:
    first = found[0]
    mine = moved.releases[0].moved if moved else None
    return {
        "platforms": len(found),
        "platform": first.platform,
        "layer_count": len(first.layers),
        "layers_read": sum(each.read_layers for each in found),
        "compressed_bytes": first.compressed,
        "unpacked_bytes": first.unpacked,
        "hidden_bytes": first.gone,
        "wasted_bytes": first.wasted,
        **({"moved_bytes": mine} if mine is not None else {}),
        **({"moved_bytes_on_average": moved.moved} if moved and len(moved.releases) > 1 else {}),
        **{f"{row.name.replace(' ', '_')}_bytes": row.size for row in first.classes},
    }


def _tables(found: Anatomy, moved: Changes | None) -> dict[str, list[dict[str, Scalar]]]:
    tables: dict[str, list[dict[str, Scalar]]] = {
        "classes": [
            {"class": row.name, "unpacked_bytes": row.size, "compressed_bytes": row.compressed, "files": row.files}
            for row in found.classes
        ],
        "layers": [
            {
                "layer": part.number,
                "compressed_bytes": part.compressed,
                "unpacked_bytes": part.unpacked,
                "hidden_bytes": part.gone,
                "wire_s": part.wire_s,
                "inflate_s": "" if part.inflate_s is None else part.inflate_s,
                "mostly": max(part.classes, key=lambda name: part.classes[name], default=""),
                **_changed(moved, part.number),
                "made_by": (part.problem or part.made_by)[:80],
            }
            for part in found.layers
        ],
    }
    if moved:
        tables["releases"] = [
            {
                "release": each.tag,
                "kept_bytes": each.compressed - (each.moved or 0),
                "moved_bytes": each.moved or 0,
            }
            for each in moved.releases
            if each.moved is not None
        ]
    return tables


def _changed(moved: Changes | None, number: int) -> dict[str, Scalar]:
    """How often a layer changed; nothing of an only release."""
    if moved is None or len(moved.releases) < 2:
        return {}
    return {"changed": f"{moved.layers[number - 1].changed} of {len(moved.releases) - 1}"}
