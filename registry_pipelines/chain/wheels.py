"""Wheels as an artifact of a registry: chosen where an index can be reached, built from behind the gap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.c_library import stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.requirement_lines import asked_for
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel_sets import LOCK_NAME, SetWheel, WheelSet, gather_wheels, set_row, targets_of
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.chain.build import build_spec, open_base_place
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.evidence.attestations import attest_once
from registry_pipelines.evidence.predicates import WHEELS_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.transfer.file_sets import Kind, LocalFile, OpenedSet, fetch_set, open_set, push_set, vouched
from registry_pipelines.transfer.uploads import Uploads

KIND = Kind(
    what="a set of wheels",
    artifact_type="application/vnd.registry-pipelines.wheels.v1",
    document_type="application/vnd.registry-pipelines.wheels.set.v1+json",
    file_type="application/vnd.pypi.wheel",
    predicate_type=WHEELS_TYPE,
)
CREATED = "1980-01-01T00:00:00Z"
"""Of the artifact: the same wheels are the same set, whenever they were chosen."""


@dataclass(frozen=True)
class Asked:
    """Which wheels: those of an image's build, or of a requirements file for some targets (this machine and Python
    without any). wheels: the folder to choose from, instead of an index."""

    image: str = ""
    requirements: Path | None = None
    targets: Sequence[WheelTarget] = ()
    wheels: Path | None = None


def read_targets(platforms: Sequence[str], python: str, libc: str) -> list[WheelTarget]:
    """Targets as a person writes them: the platforms, this one without any; a Python version, this one's if empty; a C
    library. Raises InputError: another platform or Python than this one's needs the library told."""
    here, version = Platform.here(), python or RUNNING_PYTHON
    wanted = [Platform.parse(each) for each in platforms] or [here]
    if not libc and (version != RUNNING_PYTHON or wanted != [here]):
        raise InputError(
            "wheels for another platform or Python are chosen by the C library that they find there",
            do="Give --libc, as glibc-2.31; none takes pure Python wheels only",
        )
    library = stated_c_library(libc) if libc else None
    return [WheelTarget(each, version, library) for each in wanted]


def pushed(session: Session, reference: str, asked: Asked) -> StageResult:
    """Choose wheels as a build would, and store them at a reference, signed by the builder.

    Raises InputError (no builder's key here, an image without a build section), RequirementsInvalid, Unavailable (an
    index), the RegistryError family.
    """
    started = time.monotonic()
    signer = session.keys.signer("builder")
    place, tag = session.places.tagged(reference)
    spec, state = _spec(session, asked), session.config.state
    session.progress.begin("wheels")
    with (
        closing(BuildCache(state / "cache.sqlite")) as cache,
        session.engine(receipts=False).opened() as opened,
    ):
        targets = asked.targets or targets_of(spec, cache, partial(open_base_place, session))
        store = WheelStore(state / "wheels", cache)
        fetched = partial(session.progress.advance, "wheels")
        wheels = gather_wheels(spec, targets, store=store, cache=cache, fetched=fetched)
        session.progress.end("wheels", note=count_text(len(wheels), "wheel"))
        found = WheelSet(
            requirements=tuple(asked_for(spec.requirements, spec.requirements_file, folder=spec.folder.absolute())),
            targets=tuple(map(str, targets)),
            wheels=tuple(set_row(wheel.locked) for wheel in wheels),
        )
        files = [LocalFile(each.path, Digest(f"sha256:{each.locked.sha256}"), each.locked.size) for each in wheels]
        uploads = Uploads(opened, place, session.progress)
        done = push_set(uploads, KIND, found.encode(), files, tag=tag, created=CREATED)
    predicate = {"requirements": list(found.requirements), "targets": list(found.targets)}
    attested = attest_once(place, done.descriptor, WHEELS_TYPE, predicate, signer)
    return StageResult(
        stage="wheels:push",
        subject=f"{place}:{tag}",
        action=count_text(len(files), "wheel") if done.changed else "unchanged",
        digest=done.descriptor.digest,
        changed=done.changed or attested.changed,
        bytes_moved=done.bytes_sent,
        seconds=time.monotonic() - started,
        facts={"reference": f"{place}:{tag}", "wheels": len(files), "bytes": sum(each.size for each in files)},
        rows=[_row(wheel) for wheel in found.wheels],
        notes=[f"{each.path.name}: {note}" for each in wheels for note in each.notes],
    )


def _spec(session: Session, asked: Asked) -> BuildSpec:
    folder = session.config.path.parent
    if bool(asked.image) == bool(asked.requirements):
        raise InputError("either a requirements file says which wheels, or an image", do="Give one of them")
    if asked.requirements:
        return BuildSpec(name=asked.requirements.name, requirements_file=asked.requirements, wheels=asked.wheels)
    image = session.image(asked.image)
    if image.build is None:
        raise InputError(f"image {asked.image} has no build section", do="Give its requirements file")
    # Where the wheels come from is the question here: what the build behind the gap will say is not the answer.
    changes = {"wheels_from": None, **({"wheels": asked.wheels} if asked.wheels else {})}
    return msgspec.structs.replace(build_spec(asked.image, image.build, folder), **changes)


def pulled(session: Session, reference: str, folder: Path) -> StageResult:
    """Bring the wheels of a reference into a folder, once a believed builder's key vouches for them, with a file that
    pins each by its hash. Other wheels of the folder stay, and are named.

    Raises EvidenceMissing, DigestMismatch, InputError, the RegistryError family.
    """
    started = time.monotonic()
    opened, found = _opened(session, reference)
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
        rows=[_row(wheel) for wheel in found.wheels],
        notes=[f"not of this set, and offered to pip as well: {', '.join(others)}"] if others else [],
    )


def for_build(session: Session, spec: BuildSpec) -> BuildSpec:
    """A specification whose wheels are those of its artifact, in a folder of the state, named by its digest. Raises as
    :func:`pulled`, and InputError where ``wheels`` is told, too."""
    if spec.wheels_from is None:
        return spec
    if spec.wheels is not None:
        raise InputError(
            "both `wheels` and `wheels_from` are told", where=spec.name, do="Name a folder, or an artifact, not both"
        )
    opened, _ = _opened(session, spec.wheels_from)
    digest = opened.descriptor.digest
    folder = session.config.state / "wheel-sets" / digest.hex
    fetch_set(opened, folder, session.progress)
    name = spec.wheels_from.partition("@")[0]
    return msgspec.structs.replace(spec, wheels=folder, wheels_from=f"{name}@{digest}")


def _opened(session: Session, reference: str) -> tuple[OpenedSet, WheelSet]:
    located = session.places.locate(reference)
    opened = open_set(located.place, located.selector, KIND)
    vouched(opened, KIND, session.verifier())
    found = WheelSet.decode(opened.document, where=str(opened))
    named = {wheel.filename: (f"sha256:{wheel.sha256}", wheel.size) for wheel in found.wheels}
    if named != {name: (str(each.digest), each.size) for name, each in opened.files.items()}:
        raise ManifestInvalid("its document names other files than it has", where=str(opened))
    return opened, found


def _row(wheel: SetWheel) -> dict[str, str | int]:
    return {"wheel": wheel.name, "version": wheel.version, "file": wheel.filename, "bytes": wheel.size}
