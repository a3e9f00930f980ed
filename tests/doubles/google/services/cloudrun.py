"""google.cloud.run.v2: services, whose revisions come up step by step each time somebody looks, and their traffic.

Not among ``SERVICES``: a test that wants it starts it by :func:`cloud_run`, and nobody else needs its client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.cloud import run_v2 as api
from google.cloud.run_v2.services.revisions.transports import rest_base as revisions_rest
from google.cloud.run_v2.services.revisions.transports.grpc import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import rest_base as services_rest
from google.cloud.run_v2.services.services.transports.grpc import ServicesGrpcTransport
from google.longrunning import operations_pb2

from registry_pipelines.registry.embedded.http_server import HttpServer
from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import RestDoor, Service
from tests.doubles.google.services.operations import operation
from tests.doubles.google.world import Refusal, World

State = api.Condition.State
LATEST = api.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
WRITABLE = ("template", "traffic", "annotations", "labels", "description", "scaling")


@dataclass
class CloudRun:
    """services, revisions: by resource name. looks: how many looks a change takes until it is reconciled. broken:
    images whose container does not start. failing: images that start, and are not ready any more after so many looks.
    meanwhile: done once before the next update is looked at."""

    services: dict[str, api.Service] = field(default_factory=dict)
    revisions: dict[str, api.Revision] = field(default_factory=dict)
    looks: int = 2
    broken: set[str] = field(default_factory=set)
    failing: dict[str, int] = field(default_factory=dict)
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    splits: list[dict[str, int]] = field(default_factory=list)
    """What traffic every reconciled state gave to revisions."""
    waiting: dict[str, int] = field(default_factory=dict)
    number: int = 0


def make(world: World, name: str, *images: str, **settings: Any) -> api.Service:
    """A service that runs already, with a container for each image."""
    containers = [{"image": image, "name": f"c{at}"} for at, image in enumerate(images)]
    if len(images) == 1:
        containers[0].pop("name")
    service = api.Service(name=name, template={"containers": containers}, **settings)
    state = world.state(CloudRun)
    state.services[name] = service
    _revise(world, service)
    _reconcile(world, service)
    _stamp(world, service, "owner@example.com")
    return service


def _stamp(world: World, service: api.Service, who: str) -> None:
    service.last_modifier, service.update_time = who, world.now()
    content = api.Service.serialize(service)
    service.etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _revise(world: World, service: api.Service) -> None:
    """The next revision, made of the template."""
    state = world.state(CloudRun)
    state.number += 1
    service.generation += 1
    name = f"{service.name}/revisions/{service.name.rpartition('/')[2]}-{state.number:05d}"
    state.revisions[name] = api.Revision(
        name=name,
        service=service.name.rpartition("/")[2],
        containers=service.template.containers,
        create_time=world.now(),
        conditions=[api.Condition(type_="Ready", state=State.CONDITION_RECONCILING)],
    )
    service.latest_created_revision = name


def _reconcile(world: World, service: api.Service) -> None:
    """Bring it to what is written: the newest revision comes up, or does not, and traffic goes where it may."""
    state = world.state(CloudRun)
    newest = state.revisions[service.latest_created_revision]
    image = newest.containers[0].image
    service.observed_generation, service.reconciling = service.generation, False
    if image in state.broken:
        why = "The user-provided container failed to start and listen on the port defined by the PORT=8080 variable"
        reason = api.Condition.RevisionReason.HEALTH_CHECK_CONTAINER_ERROR
        condition = api.Condition(type_="Ready", state=State.CONDITION_FAILED, message=why, revision_reason=reason)
        newest.conditions, service.terminal_condition = [condition], condition
        if any(each.type_ == LATEST for each in service.traffic) or not service.traffic:
            return  # traffic stays where it was
    else:
        ready = api.Condition(type_="Ready", state=State.CONDITION_SUCCEEDED)
        newest.conditions, service.terminal_condition = [ready], ready
        service.latest_ready_revision = newest.name
    targets = list(service.traffic) or [api.TrafficTarget(type_=LATEST, percent=100)]
    service.traffic_statuses = [
        api.TrafficTargetStatus(type_=each.type_, revision=each.revision, percent=each.percent, tag=each.tag)
        for each in targets
    ]
    split: dict[str, int] = {}
    for each in targets:
        name = each.revision or service.latest_ready_revision.rpartition("/")[2]
        split[name] = split.get(name, 0) + each.percent
    state.splits.append({name: percent for name, percent in split.items() if percent})


def get_service(world: World, request: api.GetServiceRequest) -> api.Service:
    state = world.state(CloudRun)
    service = _service(world, request.name)
    if service.reconciling:
        state.waiting[request.name] -= 1
        if state.waiting[request.name] <= 0:
            _reconcile(world, service)
    image = service.template.containers[0].image
    if not service.reconciling and image in state.failing:
        state.failing[image] -= 1
        if state.failing[image] <= 0:
            bad = api.Condition(type_="Ready", state=State.CONDITION_FAILED, message="instances end at once")
            state.revisions[service.latest_ready_revision].conditions = [bad]
            service.terminal_condition = bad
    return service


def _service(world: World, name: str) -> api.Service:
    service = world.state(CloudRun).services.get(name)
    if service is None:
        raise Refusal("NOT_FOUND", f"Resource '{name.rpartition('/')[2]}' of kind 'SERVICE' in region does not exist.")
    return service


def update_service(world: World, request: api.UpdateServiceRequest) -> operations_pb2.Operation:
    state = world.state(CloudRun)
    while state.meanwhile:
        state.meanwhile.pop(0)()
    service = _service(world, request.service.name)
    if request.service.etag and request.service.etag != service.etag:
        raise Refusal(
            "ABORTED", f"Conflict for resource '{service.name}': version was specified but current version is"
        )
    paths = list(request.update_mask.paths) or list(WRITABLE)
    if strange := set(paths) - set(WRITABLE):
        raise Refusal("INVALID_ARGUMENT", f"update_mask: {sorted(strange)}")
    if any(
        key.partition("/")[0].endswith(("run.googleapis.com", "knative.dev")) for key in request.service.annotations
    ):
        raise Refusal("INVALID_ARGUMENT", "annotations: system annotations are not taken")
    percents = [each.percent for each in request.service.traffic]
    if percents and sum(percents) != 100:
        raise Refusal("INVALID_ARGUMENT", f"traffic: must add up to 100, not {sum(percents)}")
    for each in request.service.traffic:
        if (each.type_ == LATEST) == bool(each.revision):
            raise Refusal("INVALID_ARGUMENT", "traffic: a revision is named with the type REVISION alone")
        if each.revision and f"{service.name}/revisions/{each.revision}" not in state.revisions:
            raise Refusal("INVALID_ARGUMENT", f"traffic: revision {each.revision} not found")
    before = api.RevisionTemplate.serialize(service.template)
    for path in paths:
        setattr(service, path, getattr(request.service, path))
    if api.RevisionTemplate.serialize(service.template) != before:
        _revise(world, service)
    else:
        service.generation += 1
    service.reconciling = True
    service.terminal_condition = api.Condition(type_="Ready", state=State.CONDITION_RECONCILING)
    state.waiting[service.name] = state.looks
    _stamp(world, service, "deployer@ml-prod.iam.gserviceaccount.com")
    return operation(world, service.name.rpartition("/services/")[0], service)


def get_revision(world: World, request: api.GetRevisionRequest) -> api.Revision:
    revision = world.state(CloudRun).revisions.get(request.name)
    if revision is None:
        raise Refusal("NOT_FOUND", f"Resource '{request.name}' of kind 'REVISION' does not exist.")
    return revision


SERVICES = Service(
    "run.googleapis.com",
    read_methods(ServicesGrpcTransport, services_rest._BaseServicesRestTransport),
    {"GetService": get_service, "UpdateService": update_service},
    {"GetService": "run.services.get", "UpdateService": "run.services.update"},
)
REVISIONS = Service(
    "run.googleapis.com",
    read_methods(RevisionsGrpcTransport, revisions_rest._BaseRevisionsRestTransport),
    {"GetRevision": get_revision},
    {"GetRevision": "run.revisions.get"},
)


@contextmanager
def cloud_run(world: World) -> Iterator[str]:
    """Serve it; the address. A wrong answer of the double fails the test."""
    with HttpServer(RestDoor(world, (SERVICES, REVISIONS), ())) as server:
        yield f"http://{server.address}"
    assert not world.problems, world.problems


__all__ = ["CloudRun", "cloud_run", "make"]
