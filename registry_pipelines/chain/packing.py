"""Cut the hot pack of an image from a recording that is there; the image is not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import StageResult
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.cutting import PackResult, make_pack
from registry_pipelines.stream.hot.recording import Recording
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.source import read_source

if TYPE_CHECKING:
    from registry_pipelines.chain.stream import Tools


def pack_any(
    place: Place,
    selector: str,
    recording: Recording | None,
    tools: Tools,
    *,
    subject: str,
    like: Sequence[str] = (),
    platform: Platform | None = None,
    log: Callable[[str], object],
) -> StageResult:
    """Cut the pack of one platform of an image, sign and attach it.

    selector: tag or digest. recording: those that are attached unless told: to the image, else to the first of ``like``
    that has one. subject: what it is called in the answer. like: tags or digests in the same repository whose packs may
    lend what stayed. platform: for a recording of another image; this machine's unless told. See
    :func:`~registry_pipelines.stream.hot.cutting.make_pack`. Raises InputError: there is no recording.
    """
    top = place.registry.resolve(place.repository, selector)
    if recording is None:
        recording = _attached(place, [top.digest, *like], platform, tools, subject=subject)
    source = read_source(place, top.digest)
    own = [each for each in source.images if each.entry.digest == recording.image]
    image = own[0].entry.digest if own else image_for(place, top.digest, platform).descriptor.digest
    earlier = [image_for(place, each, platform).descriptor.digest for each in like]
    result = make_pack(
        place,
        image,
        recording,
        state=tools.state,
        store=LayerStore(tools.state / "layers"),
        signer=tools.signer,
        earlier=earlier,
        engine=tools.engine,
        progress=tools.progress,
        log=log,
    )
    return pack_result(subject, top.digest, result)


def _attached(
    place: Place, selectors: Sequence[str], platform: Platform | None, tools: Tools, *, subject: str
) -> Recording:
    """What this key signed of the first image that has it. Raises InputError."""
    from registry_pipelines.stream.hot.recordings import find_recordings

    for selector in selectors:
        image = image_for(place, selector, platform).descriptor.digest
        found = find_recordings(place, image, verifier_of(tools.signer)).merged
        if found is not None:
            return found
    raise InputError(
        "no recording of the image's start is attached that this key signed",
        where=subject,
        do=f"Record one: `registry-pipelines stream record {subject}`; "
        "or name one of another image (--recording, --like)",
    )


def pack_result(subject: str, release: Digest, result: PackResult) -> StageResult:
    """What cutting did, for people."""
    share = result.pages_found / result.pages if result.pages else 0.0
    notes = []
    if result.inherited:
        notes.append(
            f"the recording is one of another image: {share:.0%} of its pages are in this one, "
            f"{count_text(result.files_dropped, 'file')} of it not"
        )
    if result.pages_left_out:
        notes.append(f"{count_text(result.pages_left_out, 'page')} of the recording are too many for one pack")
    return StageResult(
        stage="pack",
        subject=subject,
        action=_action(result),
        digest=result.pack.digest if result.pack else release,
        changed=result.changed,
        bytes_moved=result.bytes_sent,
        seconds=result.seconds,
        facts={
            "image": result.image,
            "pages": result.pages,
            "pages_found": result.pages_found,
            "pages_left_out": result.pages_left_out,
            "files_dropped": result.files_dropped,
            "content_bytes": result.content_bytes,
            "pack_bytes": result.stored_bytes,
            "parts": result.parts,
            "parts_reused": result.parts_reused,
            "frames": result.frames,
            "layer_bytes_read": result.bytes_read,
        },
        notes=notes,
    )


def _action(result: PackResult) -> str:
    if result.pack is None:
        return "nothing of the recording is in the image"
    if not result.changed:
        return "unchanged"
    reused = f", {result.parts_reused} of {count_text(result.parts, 'part')} as before" if result.parts_reused else ""
    return f"a hot pack of {size_text(result.stored_bytes)} ({size_text(result.content_bytes)} unpacked){reused}"


__all__ = ["pack_any", "pack_result"]
