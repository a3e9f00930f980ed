"""Make a mirror's next bundle, or the rest of a half made one, or some parts once more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry_pipelines.chain.bundle_media import believed_files
from registry_pipelines.chain.bundle_told import (
    MAX_NAMED,
    facts_of,
    image_rows,
    left_out_notes,
    left_out_rows,
    part_rows,
)
from registry_pipelines.chain.bundle_tool import Tool, tool_of
from registry_pipelines.chain.bundle_wanted import Found, artifact, find_wanted
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror, Size
from registry_pipelines.errors import (
    ContentError,
    EvidenceError,
    InputError,
    RegistryPipelinesError,
    exit_code_of_many,
)
from registry_pipelines.mirror.bundle.contents import Draft, Gathered, Numbered, compose, gather
from registry_pipelines.mirror.bundle.format import Bundle, LeftOut
from registry_pipelines.mirror.bundle.making import Made, Making, make_again
from registry_pipelines.mirror.bundle.near import NearState, brought
from registry_pipelines.mirror.bundle.receipt import SignedReceipt, read_receipt_file
from registry_pipelines.mirror.model import MIN_PART_BYTES
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.transfer.closure.manifests import ManifestFolder


@dataclass(frozen=True, kw_only=True)
class Creating:
    """How a bundle is made. folders: filled one after the other. receipts: files that came back, read first. only_new:
    none is made of what the last one has already, as every night asks."""

    folders: Sequence[Path]
    part_size: Size | None = None
    full: bool = False
    with_tool: bool = False
    receipts: Sequence[Path] = ()
    restart: bool = False
    only_new: bool = False


def near_state(session: Session, mirror: str) -> NearState:
    """Where the near side remembers what it made of a mirror."""
    return NearState(session.documents.under(f"bundles/near/{mirror}"), mirror)


def create(session: Session, name: str, asked: Creating) -> StageResult:
    """Make the next bundle of a mirror, in ``asked.folders``; a half made one is finished first, as it was begun.

    Raises DiskFull when the media are full and InputError for what does not fit a half made bundle: then the finished
    parts stay, and the same command goes on. ContentError, RegistryError where the source does not give what was
    planned; InputError without the promoter's key; StateLocked.
    """
    started = time.monotonic()
    mirror = session.mirror(name)
    _require_near(mirror, asked)
    signer = session.keys.signer("promoter")
    near = near_state(session, name)
    with near.held():
        notes = take_receipts(session, mirror, near, asked.receipts)
        if asked.restart:
            near.drop()
        tool = tool_of(session, mirror, session.config.state / "bundles" / "near" / name) if asked.with_tool else Tool()
        draft, found, gathered = near.draft(), Found(), Gathered()
        if draft is None:
            if near.renew_line():
                notes.append("a receipt names a bundle that is not known here, as after a backup: a new line begins")
            found = find_wanted(session, mirror)
            draft, gathered = _plan(session, mirror, near, asked, found, tool)
            if asked.only_new and (same := _same(near, draft.bundle)):
                return _unchanged(name, same, found, gathered, notes, time.monotonic() - started)
            near.begin(draft)
        else:
            notes += _going_on(draft.bundle, asked)
        making = Making(near, asked.folders, session.places.place, signer, tool.files, session.progress)
        made = making.finish(draft)
        notes += _unconfirmed(near, draft.bundle)
    return _result(name, made, found, gathered, notes, time.monotonic() - started)


def create_in_folder(session: Session, name: str) -> StageResult:
    """The same in the folder that the mirror names, with the receipts that lie there, where there is something new.
    Raises InputError where it names none."""
    folder = session.mirror(name).bundle.folder
    if folder is None:
        raise InputError(f"the mirror {name} names no folder", do=f"Write it to mirrors.{name}.bundle.folder")
    receipts, alerts = _usable(session, session.mirror(name), sorted(folder.glob(f"{name}-receipt-*.json")))
    made = create(session, name, Creating(folders=[folder], receipts=receipts, only_new=True))
    return replace(made, alerts=[*made.alerts, *alerts])


def _usable(session: Session, mirror: Mirror, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Receipts that can be read and are believed, and a sentence for each of the others: a file that lies about in a
    folder stops no night's bundle, which without it is larger and not wrong."""
    usable, alerts = list[Path](), list[str]()
    if not files:
        return usable, alerts
    verifier = believed_files(session, mirror.bundle.receipts)
    for path in files:
        try:
            read_receipt_file(path, verifier=verifier, mirror=mirror.name)
            usable.append(path)
        except (EvidenceError, ContentError, InputError) as error:
            alerts.append(f"a receipt is not used: {error}")
    return usable, alerts


def _require_near(mirror: Mirror, asked: Creating) -> None:
    if mirror.across != "bundle":
        raise InputError(
            f"the mirror {mirror.name} crosses by the network",
            where=f"mirrors.{mirror.name}.across",
            do="Write `across: bundle` where there is no wire",
        )
    if not (mirror.upstreams or mirror.images or mirror.artifacts):
        raise InputError(
            f"the mirror {mirror.name} names nothing to take: this is the far side's configuration",
            where=f"mirrors.{mirror.name}",
            do="Make bundles where `upstreams`, `images` or `artifacts` are listed",
        )
    if asked.part_size is not None and asked.part_size < MIN_PART_BYTES:
        raise InputError(f"a part of {asked.part_size} is less than {MIN_PART_BYTES}", do="Name the size of a medium")


def take_receipts(session: Session, mirror: Mirror, near: NearState, files: Sequence[Path]) -> list[str]:
    """Read receipts that came back, and keep them; a sentence for each that is not the latest of its far side. The lock
    is held. Raises SignatureInvalid, InputError, ManifestInvalid, LocalError."""
    if not files:
        return []
    verifier = believed_files(session, mirror.bundle.receipts)
    notes = []
    for path in files:
        receipt = read_receipt_file(path, verifier=verifier, mirror=mirror.name)
        if not near.keep_receipt(receipt):
            notes.append(f"{path.name} is receipt {receipt.receipt.sequence}; a later one of that far side is known")
    return notes


def _plan(
    session: Session, mirror: Mirror, near: NearState, asked: Creating, found: Found, tool: Tool
) -> tuple[Draft, Gathered]:
    wanted = list(found.wanted)
    tool_image = ""
    if tool.image:
        wanted.append(brings := artifact(session, mirror, tool.image))
        tool_image = f"{brings.repository}@{brings.digest}"
    if not wanted:
        why = "\n  ".join(_failed(found, Gathered()))
        raise InputError(f"there is nothing to take across{': ' if why else ''}{why}", where=f"mirrors.{mirror.name}")
    gathered = gather(wanted, cache=ManifestFolder(session.config.state / "transfer" / "manifests"))
    receipts, line = near.receipts(), near.line()
    receipt = None if asked.full or not receipts else receipts[-1]
    held = receipt.receipt.holders() if receipt else {}
    known = [digest for digest in gathered.blobs if digest in held]
    named = Numbered(
        mirror=mirror.name,
        line=line.line,
        number=line.last + 1,
        made_at=session.now().isoformat(timespec="seconds"),
        part_size=int(asked.part_size or mirror.bundle.part_size),
        receipt=receipt,
        brought=brought(near, line.line, known),
        left_out=[
            *found.left_out,
            *(LeftOut(image=name, kind="failed", what="", why=error.what) for name, error in found.problems),
        ],
        tool=tool.listed,
        tool_image=tool_image,
        notes=tuple(_other_sides(receipt, receipts)),
    )
    return compose(gathered, named), gathered


def _other_sides(receipt: SignedReceipt | None, receipts: Sequence[SignedReceipt]) -> list[str]:
    """Far sides that may lack what is left out."""
    if receipt is None or len(receipts) < 2:
        return []
    others = ", ".join(each.receipt.registry for each in receipts[:-1][:MAX_NAMED])
    return [f"it builds on the receipt of {receipt.receipt.registry}; at {others} content may be missing, use --full"]


def _same(near: NearState, planned: Bundle) -> Bundle | None:
    """The last bundle, where it brings what the planned one would."""
    numbers = near.numbers()
    if not numbers:
        return None
    last = near.bundle(numbers[-1])
    sent = {blob.digest for blob in planned.blobs} - {blob.digest for blob in last.blobs}
    return last if last.images == planned.images and not sent else None


def _unchanged(
    name: str, last: Bundle, found: Found, gathered: Gathered, notes: Sequence[str], seconds: float
) -> StageResult:
    return StageResult(
        stage="bundle create",
        subject=name,
        action=f"unchanged: {last.name} brings all of it",
        seconds=seconds,
        facts={**facts_of(last), "problems": len(_problems(found, gathered))},
        alerts=found.alerts,
        reasons=_failed(found, gathered),
        notes=notes,
        **_ended(last, found, gathered),
    )


def _problems(found: Found, gathered: Gathered) -> list[tuple[str, RegistryPipelinesError]]:
    return [*found.problems, *gathered.problems]


def _failed(found: Found, gathered: Gathered) -> list[str]:
    """A sentence for each; errors of registries mostly begin with what they are about."""
    said = ((name, str(error)) for name, error in _problems(found, gathered))
    return [text if text.startswith(name) else f"{name}: {text}" for name, text in said]


def _ended(bundle: Bundle, found: Found, gathered: Gathered) -> dict[str, Any]:
    """How a result ends that brings these images, and not the others."""
    problems = [error.exit_code for _, error in _problems(found, gathered)]
    return {"ok": not problems, "exit_code": exit_code_of_many([*(0 for _ in bundle.images), *problems])}


def _going_on(bundle: Bundle, asked: Creating) -> list[str]:
    """What is said of a half made bundle. Raises InputError where other options ask for another one."""
    restart = "Run it without them to finish that one, or with --restart to give it up"
    if asked.part_size is not None and asked.part_size != bundle.part_size:
        raise InputError(f"{bundle.name} is half made, with parts of {Size(bundle.part_size)}", do=restart)
    if asked.full and bundle.receipt is not None:
        raise InputError(f"{bundle.name} is half made, and not a full one", do=restart)
    later = ["; the receipts given count for the next bundle"] if asked.receipts else []
    return [f"{bundle.name}, begun at {bundle.made_at}, was finished as it was planned then{''.join(later)}"]


def _unconfirmed(near: NearState, made: Bundle) -> list[str]:
    """Earlier bundles that no receipt confirms: their content is in this one too."""
    confirmed = {each.number for one in near.receipts() for each in one.receipt.loaded if each.line == made.line}
    open_ones = [number for number in near.numbers() if number < made.number and number not in confirmed]
    if not open_ones:
        return []
    named = ", ".join(map(str, open_ones[-MAX_NAMED:]))
    more = f"{count_text(len(open_ones), 'bundle')} ({named}{' and earlier' if len(open_ones) > MAX_NAMED else ''})"
    return [f"no receipt confirms {more} yet: what they brought is in this one too"]


def _result(
    name: str, made: Made, found: Found, gathered: Gathered, notes: Sequence[str], seconds: float
) -> StageResult:
    bundle = made.bundle
    folders = list(dict.fromkeys(str(path.parent) for path in made.written if path.parent.name != "tool"))
    size = size_text(bundle.stream_size)
    return StageResult(
        stage="bundle create",
        subject=name,
        action=f"{bundle.name}: {count_text(len(bundle.images), 'image')} in {count_text(len(bundle.parts), 'part')}, "
        f"{size}, written to {', '.join(folders)}",
        changed=True,
        bytes_moved=made.bytes_written,
        seconds=seconds,
        facts={**facts_of(bundle), "problems": len(_problems(found, gathered))},
        rows=image_rows(bundle),
        tables={"parts": part_rows(bundle), "left_out": left_out_rows(bundle)},
        alerts=found.alerts,
        reasons=_failed(found, gathered),
        notes=[*left_out_notes(bundle), *notes, *bundle.notes, *_expiring(found)],
        **_ended(bundle, found, gathered),
    )


def _expiring(found: Found) -> list[str]:
    from registry_pipelines.registry.expiring import expiry_notes

    return [note for each in found.wanted for note in expiry_notes(each.place, each.digest)]


def create_again(
    session: Session, name: str, number: int, parts: Sequence[int], folder: Path, *, line: str = ""
) -> StageResult:
    """Make some parts of a finished bundle once more, byte for byte. line: that the bundle must be of, by a request.
    Raises InputError for a bundle or part that is not known, ContentError when the source gives other bytes,
    RegistryError, DiskFull."""
    started = time.monotonic()
    session.mirror(name)
    near = near_state(session, name)
    bundle = near.bundle(number)
    if line not in ("", bundle.line):
        raise InputError(
            f"bundle {number} was made of another line, whose state is not here",
            where=f"mirrors.{name}",
            do="Ask where it was made, or make a new bundle",
        )
    written = make_again(
        near.made_from(number),
        bundle,
        parts,
        folder,
        document=near.document(number),
        reopen=session.places.place,
        progress=session.progress,
    )
    made = [bundle.parts[each - 1] for each in dict.fromkeys(parts)]
    return StageResult(
        stage="bundle create",
        subject=name,
        action=f"{count_text(len(made), 'part')} of {bundle.name} made again in {folder}",
        changed=True,
        bytes_moved=sum(each.size for each in made),
        seconds=time.monotonic() - started,
        facts={"number": number, "parts": len(made), "files": len(written)},
        rows=[{"part": each.name, "bytes": each.size, "sha256": each.sha256} for each in made],
    )


__all__ = ["Creating", "create", "create_again", "near_state", "take_receipts"]
