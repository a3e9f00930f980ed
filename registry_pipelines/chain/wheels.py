"""Wheels as an artifact of a registry: chosen where an index can be reached, built from behind the gap."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.wheel_sets import LOCK_NAME, SetWheel, WheelSet
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.predicates import WHEELS_TYPE
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import count_text
from registry_pipelines.transfer.file_sets import Kind, OpenedSet, fetch_set, open_set, vouched

KIND = Kind(
    what="a set of wheels",
    artifact_type="application/vnd.registry-pipelines.wheels.v1",
    document_type="application/vnd.registry-pipelines.wheels.set.v1+json",
    file_type="application/vnd.pypi.wheel",
    predicate_type=WHEELS_TYPE,
)


KEPT_S = 30 * 86_400.0
"""For which a set of wheels is kept after the last build that took it: several images take one, in turns."""


@dataclass(frozen=True)
class Asked:
    """Which wheels: those of an image's build, or of a requirements file for some platforms (this machine's without
    any), a Python (this one's if empty) and a C library. wheels: the folder to choose from, instead of an index. index:
    indexes of the configuration to choose from, in place of those of the image or of pip."""

    image: str = ""
    requirements: Path | None = None
    wheels: Path | None = None
    platforms: Sequence[str] = ()
    python: str = ""
    libc: str = ""
    index: Sequence[str] = ()


def pulled(session: Session, reference: str, folder: Path) -> StageResult:
    """Bring the wheels of a reference into a folder, once a believed builder's key vouches for them, with a file that
    pins each by its hash. Other wheels of the folder stay, and are named.

    Raises EvidenceMissing, DigestMismatch, InputError, the RegistryError family.
    """
    started = time.monotonic()
    opened, found, _ = _opened(session, reference)
    received = fetch_set(opened, folder, session.progress)
    with local_errors(folder):
        write_file(folder / LOCK_NAME, found.lock().encode())
        others = sorted(each.name for each in folder.glob("*.whl") if each.name not in opened.files)
    return StageResult(
        stage="wheels:pull",
        subject=str(folder),
        action=f"{count_text(len(opened.files), 'wheel')} of {opened}" if received else "unchanged",
        digest=opened.descriptor.digest,
        changed=bool(received),
        bytes_moved=received,
        seconds=time.monotonic() - started,
        facts={"reference": str(opened), "wheels": len(opened.files), "folder": str(folder)},
        rows=[wheel_row(wheel) for wheel in found.wheels],
        notes=[f"not of this set, and offered to pip as well: {', '.join(others)}"] if others else [],
    )


def for_build(session: Session, spec: BuildSpec) -> BuildSpec:
    """A specification whose wheels are those of its artifact, in a folder of the state, named by its digest. Raises as
    :func:`pulled`."""
    if spec.wheels_from is None:
        return spec
    folder, digest, _ = set_here(session, spec.wheels_from)
    name = spec.wheels_from.partition("@")[0]
    return msgspec.structs.replace(spec, wheels=folder, wheels_from=f"{name}@{digest}")


def set_here(session: Session, reference: str) -> tuple[Path, str, Mapping[str, Any]]:
    """The wheels of a reference in a folder of the state, their artifact's digest, and what the builder signed of them.
    Raises as :func:`pulled`."""
    opened, _, signed = _opened(session, reference)
    digest = opened.descriptor.digest
    folder = session.config.state / "wheel-sets" / digest.hex
    fetch_set(opened, folder, session.progress)
    os.utime(folder)
    _sweep(folder.parent)
    return folder, str(digest), signed


def _sweep(root: Path) -> None:
    """Remove sets that no build asked for lately; what of them is still wanted comes anew."""
    for folder in root.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _opened(session: Session, reference: str) -> tuple[OpenedSet, WheelSet, Mapping[str, Any]]:
    located = session.places.locate(reference)
    opened = open_set(located.place, located.selector, KIND)
    word = vouched(opened, KIND, session.verifier())
    found = WheelSet.decode(opened.document, where=str(opened))
    named = {wheel.filename: (f"sha256:{wheel.sha256}", wheel.size) for wheel in found.wheels}
    if named != {name: (str(each.digest), each.size) for name, each in opened.files.items()}:
        raise ManifestInvalid("its document names other files than it has", where=str(opened))
    return opened, found, word.predicate


def wheel_row(wheel: SetWheel) -> dict[str, str | int]:
    """A wheel in the answer's table."""
    return {"wheel": wheel.name, "version": wheel.version, "file": wheel.filename, "bytes": wheel.size}
