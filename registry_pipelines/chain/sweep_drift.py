"""Drift: whether each target has what a release's source has, by digest, and under the tags that its channels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from registry_pipelines.chain.channels import going_to
from registry_pipelines.chain.releases import LOOKUP_THREADS, releases_of
from registry_pipelines.chain.replicate import compare_replica
from registry_pipelines.chain.result import Scalar
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.sweeps import Part
from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.promote.standing import records
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.report.sweeps import read_rows, write_rows
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.verify import Comparison

MAX_DIFFERENCES = 20
"""Sentences that are kept about one release at one target."""

_Key = tuple[str, str, str, str]


def drift_of(session: Session, images: Sequence[str], before: bytes, now: datetime, most: int) -> Part:
    """One bucket. before: the file of the sweep before, whose rows stay for what is not looked at this time."""
    releases: list[Release] = []
    unread: list[str] = []
    for name in images:
        image = session.config.images[name]
        try:
            releases += releases_of(session, image) if image.targets else []
        except RegistryPipelinesError as error:
            unread.append(f"the releases of {name} cannot be listed: {error}")
    known = _known(before)
    wanted = [(each, target) for each in releases for target in session.config.images[each.image].targets]
    wanted.sort(key=lambda pair: (str(known[key]["looked"]) if (key := _key(*pair)) in known else "", _key(*pair)))
    with Pool(LOOKUP_THREADS, "drift") as pool:
        looked = list(pool.map(lambda pair: _row(session, pair[0], pair[1], now), wanted[:most]))
    rest = [known[key] for pair in wanted[most:] if (key := _key(*pair)) in known]
    silent = {name for name in images if any(f" of {name} cannot" in each for each in unread)}
    rest += [row for row in known.values() if row["image"] in silent]
    rows = sorted([*(row for row in looked if row), *rest], key=lambda row: (row["image"], row["tag"], row["target"]))
    return Part(
        files={"parquet": write_rows("drift", rows)},
        rows=len(rows),
        counts=Counter(row["state"] for row in rows),
        wrong=[_shown(row) for state in ("differs", "missing", "unknown") for row in rows if row["state"] == state],
        unread=unread,
        left=max(0, len(wanted) - most),
    )


def _known(before: bytes) -> dict[_Key, dict[str, Any]]:
    try:
        rows = read_rows("drift", before, where="the sweep before").to_pylist() if before else []
    except RegistryPipelinesError:
        return {}
    return {(row["image"], row["tag"], row["digest"], row["target"]): row for row in rows}


def _key(release: Release, target: str) -> _Key:
    return release.image, release.tag, str(release.digest), target


def _row(session: Session, release: Release, target: str, now: datetime) -> dict[str, Any] | None:
    """None for a release that is not there, and was never promoted to be there."""
    image = session.config.images[release.image]
    place = session.places.target(image, target)
    found: tuple[str, Sequence[str], int]
    try:
        if _there(place, release.digest):
            compared = compare_replica(session.remembering(), release, target)
            worst = sorted(compared.differences, key=lambda each: (each.kind != "tag", each.kind == "referrer"))
            found = _state(session, release, compared), [str(each) for each in worst], len(compared.not_compared)
        elif _was_promoted(session, release, target):
            found = "missing", ("it was promoted to a channel of this target, and is not there",), 0
        else:
            return None
    except RegistryPipelinesError as error:
        found = "unknown", (str(error),), 0
    state, differences, not_compared = found
    return {
        "image": release.image,
        "tag": release.tag,
        "digest": str(release.digest),
        "target": target,
        "place": str(place),
        "state": state,
        "differences": list(differences[:MAX_DIFFERENCES]),
        "not_compared": not_compared,
        "looked": now,
    }


def _there(place: Place, digest: Digest) -> bool:
    try:
        place.registry.resolve(place.repository, digest)
    except NotFound:
        return False
    return True


def _state(session: Session, release: Release, compared: Comparison) -> str:
    """``evidence`` where all that differs is attached to the image: a report of this night that no run has copied."""
    if not compared.differences:
        return "equal"
    own = _own(session.source(release), release.digest)
    attached = all(each.kind in ("manifest", "blob", "referrer") for each in compared.differences)
    return "evidence" if attached and not any(each.subject in own for each in compared.differences) else "differs"


def _own(place: Place, digest: Digest) -> set[str]:
    """Digests of an image itself: manifests, configs and layers."""
    found = {str(digest)}
    content = place.registry.get_manifest(place.repository, digest).content()
    if isinstance(content, Index):
        for each in content.manifests:
            found |= _own(place, each.digest)
        return found
    return {*found, str(content.config.digest), *(str(layer.digest) for layer in content.layers)}


def _was_promoted(session: Session, release: Release, target: str) -> bool:
    """By a signed record, to a channel that has the target. Where no key is believed nobody can say so."""
    verifier = session.keys.trusted_if_any()
    if verifier is None:
        return False
    channels = {each.name for each in going_to(session.config.images[release.image].order, target)}
    found = records(session.source(release), release.digest, verifier)
    return any(record.image == release.image and record.channel in channels for record, _ in found)


def _shown(row: Mapping[str, Any]) -> dict[str, Scalar]:
    return {
        "image": row["image"],
        "tag": row["tag"],
        "target": row["target"],
        "state": row["state"],
        "why": "; ".join(row["differences"][:3]),
        "digest": row["digest"],
    }
