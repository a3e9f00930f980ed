"""Say what is known of bundles: which were made and what came back of them, and what is on a medium."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from registry_pipelines.chain.bundle_create import near_state, take_receipts
from registry_pipelines.chain.bundle_media import Believed
from registry_pipelines.chain.bundle_told import image_rows, left_out_notes, left_out_rows
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.mirror.bundle.format import Bundle, Sealed, verify_bundle
from registry_pipelines.mirror.bundle.media import Media, open_media
from registry_pipelines.mirror.bundle.near import NearState
from registry_pipelines.mirror.bundle.receipt import SignedReceipt
from registry_pipelines.progress import count_text, size_text


def listed(session: Session, name: str, receipts: Sequence[Path] = ()) -> StageResult:
    """The bundles that were made of a mirror here, and what far sides confirmed. receipts: files that came back, taken
    in first. Raises SignatureInvalid, InputError, ManifestInvalid, LocalError."""
    started = time.monotonic()
    mirror = session.mirror(name)
    near = near_state(session, name)
    notes: list[str] = []
    if receipts:
        with near.held():
            notes = take_receipts(session, mirror, near, receipts)
    known = near.receipts()
    bundles = [near.bundle(number) for number in near.numbers()]
    half = near.draft()
    if half is not None:
        done = count_text(len(near.progressed().done), "part")
        notes.append(f"{half.bundle.name} is half made: {done} of {_parts(half.bundle)} written")
    return StageResult(
        stage="bundle list",
        subject=name,
        action=f"{count_text(len(bundles), 'bundle')}, {count_text(len(known), 'far side')} heard of",
        changed=bool(receipts),
        seconds=time.monotonic() - started,
        facts={
            "bundles": len(bundles),
            "unconfirmed": sum(not _confirming(known, each) for each in bundles),
            "far_sides": len(known),
        },
        rows=[_made_row(each, known) for each in bundles],
        tables={"receipts": [_receipt_row(each, near) for each in known]},
        notes=notes,
    )


def _parts(bundle: Bundle) -> int:
    return -(-bundle.stream_size // bundle.part_size)


def _confirming(receipts: Sequence[SignedReceipt], bundle: Bundle) -> list[str]:
    """Registries of the far sides that loaded a bundle."""
    return [
        one.receipt.registry
        for one in receipts
        if any((each.line, each.number) == (bundle.line, bundle.number) for each in one.receipt.loaded)
    ]


def _made_row(bundle: Bundle, receipts: Sequence[SignedReceipt]) -> dict[str, Scalar]:
    return {
        "number": bundle.number,
        "made_at": bundle.made_at,
        "images": len(bundle.images),
        "parts": len(bundle.parts),
        "bytes": bundle.stream_size,
        "builds_on": f"receipt {bundle.receipt.sequence}" if bundle.receipt else "nothing",
        "confirmed_by": ", ".join(_confirming(receipts, bundle)),
    }


def _receipt_row(receipt: SignedReceipt, near: NearState) -> dict[str, Scalar]:
    told, line = receipt.receipt, near.line().line
    return {
        "registry": told.registry,
        "sequence": told.sequence,
        "made_at": told.made_at,
        "loaded": ", ".join(str(each.number) for each in told.loaded if each.line == line),
        "repositories": len(told.repositories),
        "blobs": sum(len(each.blobs) for each in told.repositories.values()),
        "far": told.far,
    }


def show(folders: Sequence[Path], believed: Believed | None) -> StageResult:
    """What the bundles on media hold, by their documents; no part is read. believed: whose keys are asked about the
    signatures, nobody's unless told. Raises InputError where there is none."""
    started = time.monotonic()
    media = open_media(folders)
    if not media.documents:
        if media.unreadable:
            raise media.unreadable[0]
        raise InputError(
            "there is no bundle",
            where=", ".join(map(str, folders)),
            do="Name the folder with the file <mirror>-<number>.bundle.json, which is written last",
        )
    bundles = [each.bundle for each in media.documents]
    signers = [_signed(each, believed) for each in media.documents]
    return StageResult(
        stage="bundle show",
        subject=", ".join(map(str, folders)),
        action=", ".join(f"{each.name} ({count_text(len(each.images), 'image')})" for each in bundles),
        seconds=time.monotonic() - started,
        facts={
            "bundles": len(bundles),
            "images": sum(len(each.images) for each in bundles),
            "bytes": sum(each.stream_size for each in bundles),
            "signature": ", ".join(dict.fromkeys(state for state, _ in signers)),
        },
        rows=[{"bundle": each.name, **row} for each in bundles for row in image_rows(each)],
        tables={
            "bundles": [_shown_row(one, state) for one, (state, _) in zip(media.documents, signers, strict=True)],
            "parts": [row for each in bundles for row in _part_rows(media, each)],
            "left_out": [{"bundle": each.name, **row} for each in bundles for row in left_out_rows(each)],
        },
        notes=[
            *(f"{each.bundle.name}: {why}" for each, (_, why) in zip(media.documents, signers, strict=True) if why),
            *(
                f"{each.name}: {' '.join(note.split())}"  # of whoever wrote it: no line that looks like one of ours
                for each in bundles
                for note in (*left_out_notes(each), *each.notes)
            ),
            *(f"a document cannot be read: {error}" for error in media.unreadable),
        ],
    )


def _signed(sealed: Sealed, believed: Believed | None) -> tuple[str, str]:
    """Whether a signature is believed, in a word, and what is said of it."""
    if believed is None:
        return "not asked", "nobody was asked whether its signature is believed: give --key, or a configuration"
    try:
        key_id = verify_bundle(sealed, believed(sealed.bundle.mirror))
    except RegistryPipelinesError as error:
        return "not believed", str(error)
    return "believed", f"signed by {key_id}"


def _shown_row(sealed: Sealed, state: str) -> dict[str, Scalar]:
    bundle = sealed.bundle
    return {
        "bundle": bundle.name,
        "made_at": bundle.made_at,
        "bytes": bundle.stream_size,
        "parts": len(bundle.parts),
        "builds_on": f"receipt {bundle.receipt.sequence}" if bundle.receipt else "nothing",
        "needs": size_text(sum(need.size for need in bundle.needs)),
        "tool": len(bundle.tool),
        "signature": state,
        "line": bundle.line,
    }


def _part_rows(media: Media, bundle: Bundle) -> list[dict[str, Scalar]]:
    """By name and size alone; ``bundle verify`` reads them."""
    there = {(path.name, size) for size, paths in media.files.items() for path in paths}
    return [
        {"bundle": bundle.name, "part": each.name, "bytes": each.size, "there": (each.name, each.size) in there}
        for each in bundle.parts
    ]


__all__ = ["listed", "show"]
