"""The ways of images to their targets in this configuration, and how far each is behind."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.channels import going_to
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config.declared import end, way_of
from registry_pipelines.errors import NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.standing import latest_record
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.replicate.ways import Way
from registry_pipelines.threads import Pool
from registry_pipelines.waits import Wait

if TYPE_CHECKING:
    from registry_pipelines.config import Image
    from registry_pipelines.promote.order import Channel

LAG_THREADS = 8
FIRST_LOOK_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses while an arrival is waited for."""


class Edge(msgspec.Struct, frozen=True):
    """One image on its way to one target."""

    image: str
    target: str
    source: str
    registry: str
    way: Way

    @property
    def name(self) -> str:
        """``source -> target``."""
        return f"{self.source} -> {self.target}"


def edges(session: Session, images: Sequence[str] = ()) -> list[Edge]:
    """Every image (all unless named) with each of its targets; nothing is asked. Raises InputError."""
    chosen = [session.image(name) for name in images] or list(session.config.images.values())
    return [edge(session, image, target) for image in chosen for target in image.targets]


def edge(session: Session, image: Image, target: str) -> Edge:
    """One of them."""
    registry = session.config.targets[target].registry
    return Edge(image.name, target, image.registry, registry, way_of(session.config, image, target))


def await_arrivals(digest: Digest, places: Mapping[str, tuple[Place, float]]) -> dict[str, float | None]:
    """Wait for what ECR brings by itself. places: by target, each with the seconds it may take. Returns for each the
    seconds that it took from now on; None where it did not come in that time, or the place cannot be asked."""
    if not places:
        return {}

    def arrived(place: Place, limit_s: float) -> float | None:
        began, pause = time.monotonic(), FIRST_LOOK_S
        while True:
            try:
                place.registry.resolve(place.repository, digest)
                return time.monotonic() - began
            except NotFound:
                pass
            except RegistryPipelinesError as error:
                if not isinstance(error, Unavailable):
                    return None
            left = limit_s - (time.monotonic() - began)
            if left <= 0:
                return None
            with Wait(place.registry.name, f"ECR brings {digest.short}", left_s=min(pause, left)):
                time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    with Pool(LAG_THREADS, "arrivals") as pool:
        found = pool.map(lambda pair: arrived(*pair), places.values())
        return dict(zip(places, found, strict=True))


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel of an image stands at one target.

    state: ``there``; ``behind``; ``unknown`` where it could not be asked, or since when it is behind is not known.
    lag_s: seconds since the promotion of what is not there yet; 0 where it is there; None where that is not known.
    took_s: between the push here and the arrival there, as ECR says on both ends; None elsewhere.
    """

    edge: Edge
    channel: str
    digest: str
    state: str
    lag_s: float | None
    took_s: float | None = None
    why: str = ""

    def row(self) -> dict[str, Scalar]:
        """For a table. An unknown lag is empty, never 0."""
        return {
            "edge": self.edge.name,
            "image": self.edge.image,
            "channel": self.channel,
            "way": self.edge.way.kind,
            "state": self.state,
            "lag_s": "" if self.lag_s is None else round(self.lag_s, 1),
            "took_s": "" if self.took_s is None else round(self.took_s, 1),
            "digest": self.digest,
            "why": self.why or self.edge.way.why,
        }


def lags(session: Session, images: Sequence[str] = ()) -> list[Lag]:
    """How far each target is behind what its channels name at the source. A registry that does not answer is
    ``unknown``, and holds no other up. Raises InputError."""
    wanted = [
        (each, channel)
        for each in edges(session, images)
        for channel in going_to(session.image(each.image).order, each.target)
    ]
    with Pool(LAG_THREADS, "lag") as pool:
        found = pool.map(lambda pair: _lag(session, *pair), wanted)
        return [each for each in found if each is not None]


def _lag(session: Session, edge: Edge, channel: Channel) -> Lag | None:
    """None where the channel names nothing yet."""
    lag = partial(Lag, edge=edge, channel=channel.name)
    image = session.image(edge.image)
    source, target = session.places.source(image), session.places.target(image, edge.target)
    try:
        named = digest_at(source, channel.name)
        if named is None:
            return None
        there = digest_at(target, channel.name)
        if there == named:
            took = _took(session, edge, image, named) if edge.way.native else None
            return lag(digest=named, state="there", lag_s=0.0, took_s=took)
        since = _promoted(session, source, image, channel.name, named)
        present = _present(target, named)
        why = "the release is there, the channel names another" if present else "the release is not there"
        why += _status(session, edge, image, named) if edge.way.native else ""
    except RegistryPipelinesError as error:
        return lag(digest="", state="unknown", lag_s=None, why=str(error))
    if since is None:
        return lag(digest=named, state="unknown", lag_s=None, why=f"{why}; no record says since when")
    return lag(digest=named, state="behind", lag_s=max(0.0, (session.now() - since).total_seconds()), why=why)


def _present(place: Place, digest: Digest) -> bool:
    try:
        place.registry.resolve(place.repository, digest)
    except NotFound:
        return False
    return True


def _promoted(session: Session, source: Place, image: Image, channel: str, digest: Digest) -> datetime | None:
    """When the channel was put on a release, by a signed record."""
    verifier = session.keys.trusted_if_any()
    if verifier is None:
        return None
    found = latest_record(source, digest, verifier, channel=channel, image=image.name)
    return read_time(found[0].time) if found else None


def _took(session: Session, edge: Edge, image: Image, digest: Digest) -> float | None:
    """Seconds from the push at one ECR registry to the arrival at another, by their own clocks; None where one of them
    does not say: that it is there was read from the registry itself."""
    times: list[datetime] = []
    for name in (edge.source, edge.registry):
        registry, calls = session.places.ecr(name)
        try:
            answer = calls.call(
                "describe_images",
                where=f"{registry.host}/{image.repository}",
                registryId=registry.account,
                repositoryName=image.repository,
                imageIds=[{"imageDigest": digest}],
            )
        except RegistryPipelinesError:
            return None
        times.append(answer["imageDetails"][0]["imagePushedAt"])
    return max((times[1] - times[0]).total_seconds(), 0.0)


def _status(session: Session, edge: Edge, image: Image, digest: Digest) -> str:
    """What ECR says of its own copy."""
    registry, calls = session.places.ecr(edge.source)
    wanted = end(session.config, edge.registry).destination
    try:
        answer = calls.call(
            "describe_image_replication_status",
            where=f"{registry.host}/{image.repository}",
            registryId=registry.account,
            repositoryName=image.repository,
            imageId={"imageDigest": digest},
        )
    except RegistryPipelinesError as error:  # how far it is behind is known all the same
        return f"; ECR does not say why: {error}"
    for each in answer.get("replicationStatuses", ()):
        if f"{each['registryId']}/{each['region']}" == wanted:
            return f"; ECR says {each['status']} {each.get('failureCode', '')}".rstrip()
    return "; ECR has not begun"


def replication_lag(session: Session, images: Sequence[str] = ()) -> StageResult:
    """The lag of every edge as a result: the longest of each as a fact, a row for each channel. Not ``ok`` where one is
    behind longer than its target's ``max_lag``, or is not known."""
    started = time.monotonic()
    found = lags(session, images)
    longest: dict[str, float] = {}
    for each in found:
        if each.lag_s is not None:
            longest[each.edge.name] = max(longest.get(each.edge.name, 0.0), each.lag_s)
    behind = [each for each in found if each.state == "behind"]
    unknown = [each for each in found if each.state == "unknown"]
    most = {name: target.max_lag.total_seconds() for name, target in session.config.targets.items()}
    late = [each for each in behind if (each.lag_s or 0.0) > most[each.edge.target]]
    return StageResult(
        stage="lag",
        subject=", ".join(images) or "all images",
        action=f"{count_text(len(behind), 'copy', 'copies')} behind, {len(unknown)} unknown, of {len(found)}",
        seconds=time.monotonic() - started,
        facts={
            "copies": len(found),
            "behind": len(behind),
            "unknown": len(unknown),
            **{f"lag_s {name}": round(value, 1) for name, value in sorted(longest.items())},
        },
        rows=[each.row() for each in found],
        reasons=[_reason(each) for each in [*late, *unknown]],
        notes=sorted({note for each in found for note in each.edge.way.notes}),
        ok=not late and not unknown,
    )


def _reason(each: Lag) -> str:
    since = "since when is not known" if each.lag_s is None else f"for {each.lag_s:.0f} s"
    return f"{each.edge.name} {each.edge.image}:{each.channel} is behind {since}: {each.why}"


def described(session: Session, images: Sequence[str] = ()) -> StageResult:
    """The ways themselves; nothing is asked."""
    found = edges(session, images)
    native = sum(each.way.native for each in found)
    return StageResult(
        stage="ways",
        subject=", ".join(images) or "all images",
        action=f"by ECR itself: {native}, by copies: {len(found) - native}",
        facts={"native": native, "transfer": len(found) - native},
        rows=[{"image": each.image, "edge": each.name, "way": each.way.kind, "why": each.way.why} for each in found],
        notes=sorted({note for each in found for note in each.way.notes}),
    )


__all__ = ["Edge", "Lag", "await_arrivals", "described", "edge", "edges", "lags", "replication_lag"]
