"""Look at media that came across an air gap: which bundles are on them, whole, and signed by whom they should be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import (
    ContentError,
    InputError,
    RegistryPipelinesError,
    exit_code_of_many,
)
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.mirror.bundle.far import FarFolder
from registry_pipelines.mirror.bundle.format import Sealed, verify_bundle
from registry_pipelines.mirror.bundle.media import Found, Media, look_at, open_media
from registry_pipelines.mirror.bundle.request import request_of, write_request
from registry_pipelines.progress import Progress, count_text

Believed = Callable[[str], Verifier]
"""The keys that are believed for the bundles of a mirror, by its name. Raises InputError for none."""

MAX_NAMED = 5
"""Files that one sentence names."""


@dataclass(frozen=True)
class Looked:
    """A bundle on media, and whether it may be loaded. problem: why its signature is not believed."""

    found: Found
    signed_by: str = ""
    problem: RegistryPipelinesError | None = None

    @property
    def ok(self) -> bool:
        """Whether it is whole and signed by whom it should be."""
        return self.found.whole and self.problem is None

    @property
    def why(self) -> str:
        """What is wrong, a sentence; empty for nothing."""
        if self.problem:
            return f"{self.found.bundle.name}: {self.problem}"
        lacking = [part for part in self.found.parts if part.path is None]
        if not lacking:
            return ""
        named = ", ".join(f"{part.name} ({part.why or 'missing'})" for part in lacking[:MAX_NAMED])
        more = f" and {len(lacking) - MAX_NAMED} more" if len(lacking) > MAX_NAMED else ""
        of = count_text(len(self.found.parts), "part")
        return f"{self.found.bundle.name}: {len(lacking)} of {of} cannot be used: {named}{more}"


def far_folder(session: Session, mirror: str) -> FarFolder:
    """Where the far side remembers what it loaded of a mirror."""
    return FarFolder(session.documents.under(f"bundles/far/{mirror}"), mirror)


def believed_signers(session: Session, mirror: Mirror) -> Verifier:
    """Whose bundles are believed: ``bundle.signers`` of the mirror, else whom the configuration believes as promoter.
    Raises InputError."""
    return believed_files(session, mirror.bundle.signers)


def believed_files(session: Session, files: Sequence[Path]) -> Verifier:
    """Keys of files, as far as no list of revoked keys names them; the configuration's where there is no file. Raises
    InputError."""
    if not files:
        return session.verifier()
    from registry_pipelines.evidence.keys import load_verifier

    return load_verifier(files, revoked=session.config.signing.revoked)


def look_over(
    folders: Sequence[Path],
    believed: Believed,
    progress: Progress,
    *,
    mirror: str = "",
    numbers: Collection[int] = (),
) -> tuple[Media, list[Looked]]:
    """Read all that is on media. mirror and numbers: the bundles that are looked at, all unless told. Raises InputError
    where there is none."""
    media = open_media(folders)
    chosen = [
        each
        for each in media.documents
        if (not mirror or each.bundle.mirror == mirror) and (not numbers or each.bundle.number in numbers)
    ]
    if not chosen:
        _refuse_nothing(media, mirror, numbers)
    return media, [look_at_bundle(media, each, believed, progress) for each in chosen]


def _refuse_nothing(media: Media, mirror: str, numbers: Collection[int]) -> None:
    if media.unreadable:
        raise media.unreadable[0]
    there = ", ".join(each.bundle.name for each in media.documents)
    what = "there is no bundle" + (f" of {mirror}" if mirror else "")
    what += f" with number {', '.join(map(str, sorted(numbers)))}" if numbers else ""
    raise InputError(
        what + (f"; there are: {there}" if there else ""),
        where=", ".join(map(str, media.folders)),
        do="Name the folder with the file <mirror>-<number>.bundle.json, which is written last",
    )


def look_at_bundle(media: Media, sealed: Sealed, believed: Believed, progress: Progress) -> Looked:
    """Ask who signed a bundle, and read all of it. Raises nothing for what is wrong with either."""
    try:
        signed_by, problem = verify_bundle(sealed, believed(sealed.bundle.mirror)), None
    except RegistryPipelinesError as error:
        signed_by, problem = "", error
    return Looked(look_at(media, sealed, progress), signed_by, problem)


def verify(
    folders: Sequence[Path], believed: Believed, progress: Progress, *, session: Session | None, request: Path | None
) -> StageResult:
    """Read every byte on media and compare it with the signed documents; writes nothing but ``request``, the list of
    what is to be made again. session: of a configuration, to say what was loaded before. Raises InputError."""
    started = time.monotonic()
    media, looked = look_over(folders, believed, progress)
    found = [each.found for each in looked]
    wanted = request_of(found)
    if request is not None and wanted.bundles:
        write_request(wanted, request)
    problems = [*(each.why for each in looked if each.why), *map(str, media.unreadable)]
    codes = [*map(_code, looked), *(each.exit_code for each in media.unreadable)]
    whole = sum(each.ok for each in looked)
    return StageResult(
        stage="bundle verify",
        subject=", ".join(map(str, folders)),
        action=f"{whole} of {count_text(len(looked), 'bundle')} whole and believed",
        seconds=time.monotonic() - started,
        facts={
            "bundles": len(looked),
            "bundles_ok": whole,
            "bytes": sum(each.bundle.stream_size for each in found),
            "parts_lacking": sum(len(each.lacking) for each in found),
        },
        rows=[_bundle_row(each, session) for each in looked],
        tables={"parts": [row for each in looked for row in _part_rows(each.found)]},
        reasons=problems,
        next_steps=_again(looked, request if wanted.bundles else None),
        notes=[*_renamed(found), *_tools(found)],
        ok=not problems,
        exit_code=exit_code_of_many(codes) if problems else 0,
    )


def _code(looked: Looked) -> int:
    if looked.problem:
        return looked.problem.exit_code
    return 0 if looked.ok else ContentError.exit_code


def _bundle_row(looked: Looked, session: Session | None) -> dict[str, Scalar]:
    found, bundle = looked.found, looked.found.bundle
    before = ""
    if session and bundle.mirror in session.config.mirrors:
        before = "yes" if far_folder(session, bundle.mirror).read().has_loaded(bundle) else "no"
    return {
        "bundle": bundle.name,
        "made_at": bundle.made_at,
        "images": len(bundle.images),
        "bytes": bundle.stream_size,
        "parts": len(bundle.parts),
        "lacking": len(found.lacking),
        "state": "whole" if looked.ok else "not believed" if looked.problem else "not whole",
        "signed_by": looked.signed_by,
        "builds_on": f"receipt {bundle.receipt.sequence}" if bundle.receipt else "nothing",
        "loaded": before,
    }


def _part_rows(found: Found) -> list[dict[str, Scalar]]:
    """Those that are not simply there."""
    return [
        {"bundle": found.bundle.name, "file": each.name, "bytes": each.size, "state": each.state, "why": each.why}
        for each in (*found.parts, *found.tool)
        if each.state != "whole"
    ]


def _again(looked: Sequence[Looked], request: Path | None) -> list[str]:
    steps = []
    for each in looked:
        if each.found.lacking:
            bundle, parts = each.found.bundle, ",".join(map(str, each.found.lacking))
            command = (
                f"registry-pipelines bundle create {bundle.mirror} --again {bundle.number} --parts {parts} --to DIR"
            )
            steps.append(f"On the near side: {command}")
    if request and steps:
        return [f"Take {request} to the near side", *steps]
    return steps


def _renamed(found: Sequence[Found]) -> list[str]:
    renamed = [part for each in found for part in each.parts if part.state == "renamed"]
    if not renamed:
        return []
    return [f"{count_text(len(renamed), 'part')} found under another name: {renamed[0].name} {renamed[0].why}"]


def _tools(found: Sequence[Found]) -> list[str]:
    lacking = [file.name for each in found for file in each.tool if file.path is None]
    if not lacking:
        return []
    return [f"the tool that came along is not whole, which hinders no load: {', '.join(lacking[:MAX_NAMED])}"]


__all__ = ["Looked", "believed_files", "believed_signers", "far_folder", "look_at_bundle", "look_over", "verify"]
