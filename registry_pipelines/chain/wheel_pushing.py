"""Choose wheels where an index can be reached, and store them in a registry. ``wheels`` has the other side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import msgspec

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.requirement_lines import asked_for
from registry_pipelines.build.resolving import StoredWheel
from registry_pipelines.build.wheel_choice import gather_wheels, read_targets, targets_of
from registry_pipelines.build.wheel_sets import WheelSet, set_row
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.chain.build import build_spec, open_base_place
from registry_pipelines.chain.package_indexes import open_sources
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.wheels import KIND, Asked, wheel_row
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.attestations import attest_once
from registry_pipelines.evidence.predicates import WHEELS_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.transfer.file_sets import LocalFile, push_set
from registry_pipelines.transfer.uploads import Uploads

CREATED = "1980-01-01T00:00:00Z"
"""Of the artifact: the same wheels are the same set, whenever they were chosen."""


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
        open_sources(session, spec.index) as packages,
    ):
        targets = (
            targets_of(spec, cache, partial(open_base_place, session))
            if asked.image
            else read_targets(asked.platforms, asked.python, asked.libc)
        )
        store = WheelStore(state / "wheels", cache)
        fetched = partial(session.progress.advance, "wheels")
        wheels = gather_wheels(spec, targets, store=store, cache=cache, fetched=fetched, packages=packages)
        session.progress.end("wheels", note=count_text(len(wheels), "wheel"))
        found = WheelSet(
            requirements=tuple(asked_for(spec.requirements, spec.requirements_file, folder=spec.folder.absolute())),
            targets=tuple(map(str, targets)),
            wheels=tuple(set_row(wheel.locked) for wheel in wheels),
        )
        files = [LocalFile(each.path, Digest(f"sha256:{each.locked.sha256}"), each.locked.size) for each in wheels]
        said = list(packages.said) if packages else []
        uploads = Uploads(opened, place, session.progress)
        done = push_set(uploads, KIND, found.encode(), files, tag=tag, created=CREATED)
    predicate = {
        "requirements": list(found.requirements),
        "targets": list(found.targets),
        **({"origins": origins} if (origins := _origins(wheels)) else {}),
    }
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
        rows=[wheel_row(wheel) for wheel in found.wheels],
        notes=[*said, *(f"{each.path.name}: {note}" for each in wheels for note in each.notes)],
    )


def _origins(wheels: Sequence[StoredWheel]) -> dict[str, dict[str, str]]:
    """By file name, which index of the configuration a wheel came from, and what that said of it."""
    return {each.path.name: dict(each.locked.origin) for each in wheels if each.locked.origin}


def _spec(session: Session, asked: Asked) -> BuildSpec:
    folder = session.config.path.parent
    if asked.index and asked.wheels:
        raise InputError("wheels are chosen from a folder or from indexes", do="Give --wheels or --index, not both")
    if bool(asked.image) == bool(asked.requirements):
        raise InputError("either a requirements file says which wheels, or an image", do="Give one of them")
    if asked.requirements:
        return BuildSpec(
            name=asked.requirements.name,
            requirements_file=asked.requirements,
            wheels=asked.wheels,
            index=tuple(asked.index),
        )
    image = session.image(asked.image)
    if image.build is None:
        raise InputError(f"image {asked.image} has no build section", do="Give its requirements file")
    # Where the wheels come from is the question here: what the build behind the gap will say is not the answer.
    changes = {"wheels_from": None, **({"wheels": asked.wheels, "index": ()} if asked.wheels else {})}
    if asked.index:
        changes |= {"index": tuple(asked.index), "wheels": None, "find_links": ()}
    return msgspec.structs.replace(build_spec(asked.image, image.build, folder), **changes)
