"""Weights that the configuration keeps in several places: what is new at their source, and bringing it there."""

from __future__ import annotations

import time
from collections import Counter

from registry_pipelines.chain.releases import find_release
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.weight_sync import check_at, put, source_at
from registry_pipelines.config.weights import KeptWeights
from registry_pipelines.errors import InputError, RegistryPipelinesError, SignatureInvalid
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import unknown
from registry_pipelines.weights.attach import attach_weights
from registry_pipelines.weights.in_store import rows_of
from registry_pipelines.weights.oms.attached import read_signatures
from registry_pipelines.weights.opening import OpenedWeights, attached_weights, open_weights
from registry_pipelines.weights.paths import is_store
from registry_pipelines.weights.to_store import Source


def kept_named(session: Session, name: str) -> KeptWeights:
    """A section of `weights`. Raises InputError with the closest name."""
    known = session.config.weights
    if name not in known:
        raise InputError(unknown(name, known, "set of weights"), do="Name one of `weights` of the configuration")
    return known[name]


def weights_at_source(session: Session, name: str) -> str:
    """Digest of the set at the source now; with a word behind it where it must be signed and is not yet. Raises
    NotFound (none, or one that is not whole), InputError, ContentError, the RegistryError family."""
    settings = kept_named(session, name)
    opened = _opened(session, settings.source)
    try:
        if settings.signed:
            _need_signed(session, opened, settings.source)
    except SignatureInvalid:
        return f"{opened.descriptor.digest} unsigned"
    return str(opened.descriptor.digest)


def bring_weights(session: Session, name: str) -> StageResult:
    """Have the set of the source at all targets and, where an image is named, attached to its release.

    All targets are tried; what ended one is among the reasons, and the result is not ``ok``. Raises what the source
    raises, SignatureInvalid where the set must be signed and is not: then nothing is brought.
    """
    began, settings = time.monotonic(), kept_named(session, name)
    opened = _opened(session, settings.source)
    if settings.signed:
        _need_signed(session, opened, settings.source)
    source = source_at(session.config, settings.source, session.places.locate)
    rows: list[dict[str, Scalar]] = []
    reasons: list[str] = []
    for target in settings.to:
        try:
            done = put(source, session.config, target, session.places.locate, session.engine(receipts=False))
        except RegistryPipelinesError as error:
            reasons.append(f"{target}: {error}")
            rows.append({"target": target, "action": "failed", "bytes": 0})
            continue
        rows.append({"target": target, "action": _action(done.changed, done.how), "bytes": done.bytes_sent})
    if settings.image:
        try:
            rows.append(_attach(session, settings.image, opened))
        except RegistryPipelinesError as error:
            reasons.append(f"{settings.image}: {error}")
            rows.append({"target": settings.image, "action": "failed", "bytes": 0})
    changed = any(row["action"] not in ("failed", "unchanged") for row in rows)
    count = count_text(len(rows) - len(reasons), "place")
    return StageResult(
        stage="weights",
        subject=name,
        action=(f"at {count}" if changed else "unchanged") if not reasons else f"at {count} of {len(rows)}",
        digest=str(opened.descriptor.digest),
        changed=changed,
        bytes_moved=sum(int(row["bytes"]) for row in rows),
        seconds=time.monotonic() - began,
        facts={"files": len(opened.weights.files), "size_bytes": opened.weights.size},
        rows=rows,
        reasons=reasons,
        ok=not reasons,
    )


def check_weights(session: Session, name: str) -> StageResult:
    """Whether the set of the source is whole at all targets, attached to its release, and signed where it must be.
    Reads lists and sizes, and no file. Raises what the source raises."""
    began, settings = time.monotonic(), kept_named(session, name)
    opened = _opened(session, settings.source)
    source = source_at(session.config, settings.source, session.places.locate)
    reasons: list[str] = []
    for target in settings.to:
        try:
            reasons += check_at(source, session.config, target, session.places.locate)
            if settings.signed:
                _need_signed(session, _opened(session, target), target)
        except RegistryPipelinesError as error:
            reasons.append(f"{target}: {error}")
    if settings.image:
        try:
            reasons += _unattached(session, settings, source)
        except RegistryPipelinesError as error:
            reasons.append(f"{settings.image}: {error}")
    return StageResult(
        stage="weights",
        subject=name,
        action="whole everywhere" if not reasons else count_text(len(reasons), "problem"),
        digest=str(opened.descriptor.digest),
        seconds=time.monotonic() - began,
        facts={"files": len(opened.weights.files), "places": len(settings.to) + bool(settings.image)},
        reasons=reasons,
        ok=not reasons,
    )


def _opened(session: Session, text: str) -> OpenedWeights:
    if is_store(text):
        from registry_pipelines.chain.weight_sync import store_at
        from registry_pipelines.weights.in_store import open_stored

        return open_stored(store_at(session.config, text)).opened
    found = session.places.locate(text)
    return open_weights(found.place, found.selector)


def _action(changed: bool, how: Counter[str]) -> str:
    return ", ".join(f"{how[each]} {each}" for each in sorted(how)) if changed else "unchanged"


def _need_signed(session: Session, opened: OpenedWeights, where: str) -> None:
    found = read_signatures(opened.place, opened.descriptor.digest, opened.weights, session.verifier())
    if not found.of_all:
        raise SignatureInvalid(
            f"the weights are not signed by a key that is believed: {found.problem_of_all}",
            where=where,
            do="Sign them: `registry-pipelines weights sign`, with a key of `signing`",
        )


def _release_at(session: Session, text: str) -> tuple[Place, str]:
    release = find_release(session, text)
    return session.source(release), str(release.digest)


def _attach(session: Session, image: str, opened: OpenedWeights) -> dict[str, Scalar]:
    place, digest = _release_at(session, image)
    done = attach_weights(place, digest, opened, engine=session.engine(receipts=False))
    action = "attached" if done.changed else "signature attached" if done.signatures else "unchanged"
    return {"target": image, "action": action, "bytes": done.bytes_sent}


def _unattached(session: Session, settings: KeptWeights, source: Source) -> list[str]:
    """Why the release does not have the set. Others may be attached beside it."""
    place, digest = _release_at(session, settings.image)
    wanted = rows_of(source.weights)
    for each in attached_weights(place, place.registry.resolve(place.repository, digest)):
        opened = open_weights(place, str(each.digest))
        if rows_of(opened.weights) == wanted:
            if settings.signed:
                _need_signed(session, opened, settings.image)
            return [
                f"{settings.image}: {file.path} is not there, or of another size"
                for file in opened.weights.files
                if opened.content.registry.blob_size(place.repository, file.digest) != file.size
            ]
    return [f"{settings.image} has no such weights attached"]


__all__ = ["bring_weights", "check_weights", "kept_named", "weights_at_source"]
