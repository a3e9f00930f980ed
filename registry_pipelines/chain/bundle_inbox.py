"""The inbox of a mirror: a folder into which bundles are put, and out of which they are loaded as they are whole."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.chain.bundle_load import load_found, write_receipt
from registry_pipelines.chain.bundle_media import Looked, believed_signers, far_folder, look_at_bundle
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ContentError, InputError
from registry_pipelines.mirror.bundle.media import Media, open_media
from registry_pipelines.progress import count_text


@dataclass(frozen=True)
class Inbox:
    """What lies in an inbox and was not loaded before. mark: changes with any file that comes, goes or grows."""

    waiting: tuple[str, ...]
    mark: str = ""


def inbox_of(session: Session, name: str) -> Path:
    """The folder. Raises InputError for a mirror without one."""
    folder = session.mirror(name).bundle.inbox
    if folder is None:
        raise InputError(f"the mirror {name} has no inbox", do=f"Name a folder: mirrors.{name}.bundle.inbox")
    return folder


def look_into(session: Session, name: str) -> Inbox:
    """Which bundles wait, by their documents alone: no part is read, no signature checked. A folder that is not there
    holds none: its medium is not in. Raises InputError, LocalError."""
    folder = inbox_of(session, name)
    if not folder.is_dir():
        return Inbox(())
    media = open_media([folder])
    waiting = tuple(each.bundle.name for each in _new(session, name, media).documents)
    unreadable = tuple(Path(error.where).name for error in media.unreadable)
    files = sorted((str(path), size) for size, paths in media.files.items() for path in paths)
    mark = hashlib.sha256(repr([waiting, unreadable, files]).encode()).hexdigest()[:16]
    return Inbox((*waiting, *unreadable), mark)


def _new(session: Session, name: str, media: Media) -> Media:
    """Those documents of the mirror that were not loaded before, in their order."""
    state = far_folder(session, name).read()
    documents = [each for each in media.documents if each.bundle.mirror == name and not state.has_loaded(each.bundle)]
    return Media(media.folders, tuple(documents), media.unreadable, media.files)


def load_inbox(session: Session, name: str) -> StageResult:
    """Load what is new in the inbox, bundle by bundle: one that is not whole, not believed or without its base hinders
    no other, and is a reason of the answer. When any was loaded, the receipt is written beside them. Raises InputError,
    RegistryError where the registry cannot be looked at, StateLocked."""
    started = time.monotonic()
    folder = inbox_of(session, name)
    media = _new(session, name, open_media([folder]))
    verifier = believed_signers(session, session.mirror(name))
    looked = [look_at_bundle(media, each, lambda _: verifier, session.progress) for each in media.documents]
    done, reasons = _load_each(session, name, [each for each in looked if each.ok])
    reasons = [*map(str, media.unreadable), *(each.why for each in looked if not each.ok), *reasons]
    receipt = write_receipt(session, name, folder) if done else None
    return StageResult(
        stage="bundle load",
        subject=name,
        action=f"{len(done)} of {count_text(len(looked), 'bundle')} loaded" if looked else "the inbox has nothing new",
        changed=any(each.changed for each in done),
        bytes_moved=sum(each.bytes_moved for each in done),
        seconds=time.monotonic() - started,
        facts={
            "bundles": len(looked),
            "bundles_loaded": len(done),
            "images": sum(int(each.facts["images"]) for each in done),
            "receipt": str(receipt.facts["path"]) if receipt else "",
        },
        rows=[row for each in done for row in each.rows],
        tables={name: [row for each in done for row in each.tables[name]] for name in ("kept", "left_out")},
        reasons=reasons,
        notes=[note for each in done for note in each.notes],
        ok=not reasons,
        exit_code=ContentError.exit_code if reasons else 0,
    )


def _load_each(session: Session, name: str, looked: list[Looked]) -> tuple[list[StageResult], list[str]]:
    """One by one in their order: an older one, which another needs, comes first."""
    done: list[StageResult] = []
    reasons: list[str] = []
    for each in looked:
        try:
            result = load_found(session, name, [each.found])
        except (ContentError, InputError) as error:
            reasons.append(str(error))
            continue
        if result.ok:
            done.append(result)
        reasons += result.reasons
    return done, reasons
