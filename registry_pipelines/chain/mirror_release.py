"""Take promoted releases across an air gap."""

from __future__ import annotations

from registry_pipelines.chain.promote import broken_glass, leaves_from
from registry_pipelines.chain.result import StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.carry import carry
from registry_pipelines.release import Release
from registry_pipelines.replicate import replicas
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.limits.requests import Requests


def mirror_release(session: Session, release: Release, name: str) -> StageResult:
    """Copy a release that was promoted to the last channel of its image through the DMZ registry into the private one.
    Raises PromotionDenied for any other, InputError for an image that the mirror does not list, TagImmutable where its
    version tag names something else on the way."""
    mirror = session.mirror(name)
    image = session.image(release.image)
    if image.name not in mirror.images:
        raise InputError(f"{image.name} is not mirrored by {name}", do=f"Add it to `images` of mirrors.{name}")
    source, stops = session.source(release), session.stops(mirror, image.repository)
    requests = Requests(each.registry for each in (source, *stops))
    accepted = leaves_from(session, release, image.order[-1])
    for stop in stops:
        replicas.require_own_tag(stop, release.digest, version=release.tag)
    tags = replicas.tags_of(source, release.digest, version=release.tag, channels=[image.channel])
    carried = carry(
        source,
        release.digest,
        stops,
        tags=tags.names,
        foreign_layers=mirror.foreign_layers,
        engine=session.engine(),
    )
    compared = replicas.examine(source, stops[-1], release.digest, tags=tags, foreign_layers=mirror.foreign_layers)
    notes = list(filter(None, [omissions.note(carried.left_out)]))
    if carried.changed:
        from registry_pipelines.registry.expiring import expiry_notes  # most releases are there already

        notes += expiry_notes(stops[-1], carried.digest)
    way = " by way of ".join(reversed([str(stop) for stop in stops]))
    return StageResult(
        stage=f"mirror:{name}",
        subject=release.key,
        action=f"copied to {way}" if carried.changed else "unchanged",
        digest=carried.digest,
        changed=carried.changed,
        bytes_moved=carried.bytes_moved,
        seconds=carried.seconds,
        facts={
            "release": release.key,
            "place": str(stops[-1]),
            "stops": len(stops),
            "differences": len(compared.differences),
            **request_facts(requests.so_far()),
        },
        tables={"left_out": omissions.rows(carried.left_out)},
        alerts=broken_glass(accepted),
        reasons=[str(each) for each in compared.differences],
        notes=notes,
        ok=not compared.differences,
    )
