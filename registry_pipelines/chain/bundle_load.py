"""Load what crossed an air gap into a mirror's private registry, and confirm what is there with a receipt."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from registry_pipelines.chain.bundle_media import MAX_NAMED, Looked, believed_signers, far_folder, look_over
from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import ClosureIncomplete, InputError, exit_code_of_many
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.set_aside import is_quarantine
from registry_pipelines.transfer.limits.requests import Requests

if TYPE_CHECKING:  # copying is loaded when everything on the media was found to be whole
    from registry_pipelines.mirror.bundle.load import KeptTag, Load, LoadedImage
    from registry_pipelines.mirror.bundle.media import Found


def load(
    session: Session,
    name: str,
    folders: Sequence[Path],
    *,
    numbers: Collection[int] = (),
    move_back: bool = False,
    receipt: Path | None = None,
) -> StageResult:
    """Load the bundles of a mirror that are on media into its private registry.

    Every part of every one of them is read before anything is written; if one is not whole, or not believed, nothing
    is. numbers: only these. move_back: tags move also to what an earlier bundle says. receipt: file or folder for the
    receipt, which is made when all went well.

    Raises ContentError, SignatureInvalid, InputError, RegistryError where the registry cannot be looked at,
    StateLocked.
    """
    verifier = believed_signers(session, session.mirror(name))
    _, looked = look_over(folders, lambda _: verifier, session.progress, mirror=name, numbers=numbers)
    require_whole(looked)
    result = load_found(session, name, [each.found for each in looked], move_back=move_back)
    if receipt is None or not result.ok:
        return result
    made = write_receipt(session, name, receipt)
    return replace(result, notes=[*result.notes, made.action, *made.notes])


def load_found(session: Session, name: str, found: Sequence[Found], *, move_back: bool = False) -> StageResult:
    """Load bundles that are whole and believed. Raises as :func:`load`."""
    from registry_pipelines.mirror.bundle.load import load_bundles

    started = time.monotonic()
    mirror = session.mirror(name)
    to = session.places.registry(mirror.to)
    requests = Requests([to])
    require_inside(found, mirror)
    loads = load_bundles(
        found,
        to,
        far_folder(session, name),
        engine=session.engine(),
        now=session.now(),
        move_back=move_back,
    )
    images = [(each, image) for each in loads for image in each.images]
    return StageResult(
        stage="bundle load",
        subject=name,
        action=_done(loads),
        changed=any(each.changed for each in loads),
        bytes_moved=sum(each.bytes_moved for each in loads),
        seconds=time.monotonic() - started,
        facts={
            "bundles": len(loads),
            "images": len(images),
            "problems": sum(not each.ok for each in loads),
            "tags_kept": sum(len(each.kept) for each in loads),
            "blobs_left_out": sum(len(each.bundle.needs) for each in loads),
            **request_facts(requests.so_far()),
        },
        rows=[_row(each, image) for each, image in images],
        tables={
            "kept": [_kept_row(each, kept) for each in loads for kept in each.kept],
            "left_out": [
                {"bundle": each.bundle.name, **asdict(left)} for each in loads for left in each.bundle.left_out
            ],
        },
        reasons=[text for each, image in images for text in _troubles(each, image)],
        notes=[note for each in loads for note in _notes(each)],
        ok=all(each.ok for each in loads),
        exit_code=exit_code_of_many(image.error.exit_code if image.error else 0 for _, image in images),
    )


def require_inside(found: Iterable[Found], mirror: Mirror) -> None:
    """The near side's key opens what this side's ``prefix`` says, and nothing else of the registry. Content that a
    bundle leaves out is taken from there alone: else it could name a layer of another team's image, and have it put
    where its own readers get it. Raises InputError, which names all repositories outside."""
    below = f"{mirror.prefix}/" if mirror.prefix else ""
    outside = {
        f"{each.bundle.name}: {image.repository}": None
        for each in found
        for image in each.bundle.images
        if not image.repository.startswith(below) or is_quarantine(image.repository)
    }
    read = {need.repository: None for each in found for need in each.bundle.needs}
    outside |= {f"{name} (to take content from)": None for name in read if not name.startswith(below)}
    if outside:
        named = ", ".join(list(outside)[:MAX_NAMED])
        more = f" and {len(outside) - MAX_NAMED} more" if len(outside) > MAX_NAMED else ""
        raise InputError(
            f"repositories that are not for bundles of {mirror.name}: {named}{more}",
            where=f"mirrors.{mirror.name}.prefix",
            do=f"Give both sides' mirrors one prefix (here it is {mirror.prefix or 'none'}); nothing was written",
        )


def require_whole(looked: Iterable[Looked]) -> None:
    """Nothing is written unless all of it can be. Raises what is wrong with the signature of the first, else
    ClosureIncomplete, which names every part that cannot be used."""
    bad = [each for each in looked if not each.ok]
    for each in bad:
        if each.problem:
            raise each.problem
    if bad:
        raise ClosureIncomplete(
            "\n  ".join(each.why for each in bad),
            do="Have these parts made again (`registry-pipelines bundle verify DIR --request FILE` says how), or load "
            "another bundle alone with --number; nothing was written",
        )


def _done(loads: Sequence[Load]) -> str:
    names = ", ".join(each.bundle.name for each in loads[:MAX_NAMED])
    names += f" and {len(loads) - MAX_NAMED} more" if len(loads) > MAX_NAMED else ""
    if not any(each.changed for each in loads):
        return f"{names}: all was there" if all(each.ok for each in loads) else f"{names}: nothing could be written"
    return f"{names} loaded, {size_text(sum(each.bytes_moved for each in loads))} sent"


def _troubles(load: Load, image: LoadedImage) -> list[str]:
    about = f"{load.bundle.name}: {image.image.repository}"
    if image.error:
        return [f"{about}: {image.error}"]
    return [f"{about}: {drift}" for drift in (image.copied.drift if image.copied else ())]


def _notes(load: Load) -> list[str]:
    kept = [f"{each.repository}:{each.tag} stays as {each.by} set it" for each in load.kept[:MAX_NAMED]]
    more = [f"and {count_text(len(load.kept) - MAX_NAMED, 'tag')} more"] if len(load.kept) > MAX_NAMED else []
    left = len(load.bundle.left_out)
    behind = (
        [f"{load.bundle.name} came without {count_text(left, 'thing')} that belong to it (`left_out`)"] if left else []
    )
    return [
        *load.notes,
        *behind,
        *([f"{load.bundle.name}: {', '.join([*kept, *more])}"] if kept else []),
        *load.bundle.notes,
    ]


def _row(load: Load, image: LoadedImage) -> dict[str, Scalar]:
    copied = image.copied
    return {
        "bundle": load.bundle.name,
        "repository": image.image.repository,
        "tags": ", ".join(image.tags),
        "digest": image.image.digest,
        "state": copied.state if copied else "failed",
        "bytes": image.bytes_moved,
        "mounted": copied.blobs_mounted if copied else 0,
        "source": image.image.source,
    }


def _kept_row(load: Load, kept: KeptTag) -> dict[str, Scalar]:
    return {
        "bundle": load.bundle.name,
        "repository": kept.repository,
        "tag": kept.tag,
        "digest": kept.digest,
        "set_by": kept.by,
    }


def write_receipt(session: Session, name: str, to: Path) -> StageResult:
    """Ask the private registry for all that bundles of a mirror brought, and write the signed receipt. to: a file
    (one that is there, or ``*.json``), or a folder, made where it is missing, in which it gets its name. Raises
    InputError without the promoter's key, RegistryError, LocalError."""
    from registry_pipelines.mirror.bundle.confirm import confirm

    started = time.monotonic()
    registry = session.places.registry(session.mirror(name).to)
    signer = session.keys.signer("promoter")
    requests = Requests([registry])
    made = confirm(far_folder(session, name), registry, signer, now=session.now())
    receipt = made.signed.receipt
    named = to.is_file() or (to.suffix == ".json" and not to.is_dir())
    path = to if named else to / f"{name}-receipt-{receipt.sequence:04d}.json"
    with local_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, made.signed.raw)
    gone = f"{count_text(made.gone, 'blob or manifest', 'blobs and manifests')} that bundles brought"
    return StageResult(
        stage="bundle receipt",
        subject=name,
        action=f"receipt {receipt.sequence} written to {path}",
        digest=made.signed.sha256,
        changed=True,
        seconds=time.monotonic() - started,
        facts={
            "sequence": receipt.sequence,
            "bundles": len(receipt.loaded),
            "repositories": len(receipt.repositories),
            "blobs": sum(len(each.blobs) for each in receipt.repositories.values()),
            "gone": made.gone,
            "path": str(path),
            **request_facts(requests.so_far()),
        },
        notes=[f"{registry.name} does not have {gone} any more; the next bundle brings them"] if made.gone else [],
    )


__all__ = ["load", "load_found", "require_whole", "write_receipt"]
