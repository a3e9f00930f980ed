"""Artifacts that a mirror takes along through the network, as they are: advisories, wheels, whatever has a tag."""

from __future__ import annotations

from registry_pipelines.chain.mirror_sources import Chosen
from registry_pipelines.chain.places import join_repository
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.mirror.model import Upstream
from registry_pipelines.mirror.upstreams import (
    MirrorPlan,
    MirrorProblem,
    MirrorRun,
    OpenUpstream,
    PinnedTag,
    apply_mirror,
)


def plan_artifacts(session: Session, chosen: Chosen) -> MirrorPlan:
    """Pin a mirror's artifacts to digests; nothing where a bundle takes them. One that cannot be looked at is a problem
    of the plan. No policy is asked: whoever uses one asks who vouches for it."""
    pinned: list[PinnedTag] = []
    problems: list[MirrorProblem] = []
    for reference in chosen.settings.artifacts if chosen.to is not None else ():
        try:
            located = session.places.locate(reference)
            place = located.place
            top = place.registry.resolve(place.repository, located.selector)
            repository = join_repository(chosen.settings.prefix, place.repository)
        except RegistryPipelinesError as error:
            problems.append(MirrorProblem(reference, "", error))
        else:
            opened = OpenUpstream(source=place, repository=repository, settings=Upstream(image=str(place)))
            pinned.append(PinnedTag(opened, located.tag, top))
    return MirrorPlan(tuple(pinned), tuple(problems))


def bring_artifacts(session: Session, chosen: Chosen) -> MirrorRun:
    """Copy a mirror's artifacts to the private registry; the DMZ registry, where they lie already, is not filled."""
    plan = plan_artifacts(session, chosen)
    return apply_mirror(plan, to=chosen.to, engine=session.engine())
