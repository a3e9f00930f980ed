"""The repositories of Artifact Registry: made, changed by masks, listed, deleted, with the documented rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from google.cloud import artifactregistry_v1 as api
from google.longrunning.operations_pb2 import Operation
from google.protobuf import field_mask_pb2

from tests.doubles.google.images import Held, Repositories
from tests.doubles.google.services.operations import operation
from tests.doubles.google.world import Refusal, World, filtered, page

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?(\.io)?|([a-z]+\.)?gcr\.io")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
MAX_POLICIES = 10
MAX_UPSTREAMS = 30
_FIXED = ("name", "format", "mode", "kms_key_name", "create_time", "update_time", "size_bytes", "registry_uri")


def create(world: World, request: api.CreateRepositoryRequest) -> Operation:
    """CreateRepository."""
    state = world.state(Repositories)
    if not _ID.fullmatch(request.repository_id):
        raise Refusal("INVALID_ARGUMENT", f"repository_id: invalid value {request.repository_id!r}")
    name = f"{request.parent}/repositories/{request.repository_id}"
    if name in state.held:
        raise Refusal("ALREADY_EXISTS", f"the repository already exists: {name}")
    made = api.Repository()
    api.Repository.copy_from(made, request.repository)
    made.name = name
    if not made.format_:
        raise Refusal("INVALID_ARGUMENT", "repository.format: required")
    if not made.mode:
        made.mode = api.Repository.Mode.STANDARD_REPOSITORY
    _check(made)
    made.create_time = made.update_time = world.stamp()
    made.size_bytes = 0
    state.held[name] = Held(made)
    return operation(world, request.parent, made, metadata=api.OperationMetadata())


def get(world: World, request: api.GetRepositoryRequest) -> api.Repository:
    """GetRepository; its size is that of what it has."""
    held = world.state(Repositories).get(request.name)
    held.settings.size_bytes = sum(image.size for _, image in world.state(Repositories).images(held))
    return held.settings


def list_them(world: World, request: api.ListRepositoriesRequest) -> api.ListRepositoriesResponse:
    """ListRepositories of one location."""
    state = world.state(Repositories)
    items = [state.held[name].settings for name in sorted(state.held) if name.startswith(request.parent + "/")]
    part, after = page(filtered(request.filter, items, ("name",)), request.page_size, request.page_token)
    return api.ListRepositoriesResponse(repositories=part, next_page_token=after)


def update(world: World, request: api.UpdateRepositoryRequest) -> api.Repository:
    """UpdateRepository: fields of the mask; without one, all that the request sets (AIP-134)."""
    held = world.state(Repositories).get(request.repository.name)
    new, old = api.Repository.pb(request.repository), api.Repository.pb(held.settings)
    paths = list(request.update_mask.paths) or [field.name for field, _ in new.ListFields() if field.name != "name"]
    mask = field_mask_pb2.FieldMask(paths=paths)
    if not mask.IsValidForDescriptor(old.DESCRIPTOR):
        raise Refusal("INVALID_ARGUMENT", f"update_mask: invalid paths {', '.join(paths)}")
    if fixed := [path for path in paths if path.partition(".")[0] in _FIXED]:
        raise Refusal("INVALID_ARGUMENT", f"update_mask: {', '.join(fixed)} cannot be changed")
    changed = type(old)()
    changed.CopyFrom(old)
    mask.MergeMessage(new, changed, replace_message_field=True, replace_repeated_field=True)
    if "labels" in paths:  # MergeMessage only adds to maps
        changed.ClearField("labels")
        changed.labels.update(new.labels)
    if "cleanup_policies" in paths:
        changed.ClearField("cleanup_policies")
        for key, policy in new.cleanup_policies.items():
            changed.cleanup_policies[key].CopyFrom(policy)
    made = api.Repository.deserialize(changed.SerializeToString())
    _check(made)
    made.update_time = world.stamp()
    held.settings = made
    return made


def delete(world: World, request: api.DeleteRepositoryRequest) -> Operation:
    """DeleteRepository, with all that is in it; immutable tags do not protect from this."""
    state = world.state(Repositories)
    held = state.get(request.name)
    for package, image in list(state.images(held)):
        state.delete(held, package, image)
    del state.held[request.name]
    return operation(world, "/".join(request.name.split("/")[:4]))


def _check(repository: api.Repository) -> None:
    wrong = list(_wrong(repository))
    if wrong:
        raise Refusal("INVALID_ARGUMENT", "; ".join(wrong))


def _wrong(repository: api.Repository) -> Iterator[str]:
    for key, value in repository.labels.items():
        if not _LABEL_KEY.fullmatch(key) or len(value) > 63:
            yield f"labels: invalid label {key!r}"
    if len(repository.labels) > 64:
        yield "labels: at most 64"
    if len(repository.cleanup_policies) > MAX_POLICIES:
        yield f"cleanup_policies: at most {MAX_POLICIES}"
    for key, policy in repository.cleanup_policies.items():
        yield from _wrong_policy(key, policy)
    upstreams = repository.virtual_repository_config.upstream_policies
    if upstreams and repository.mode != api.Repository.Mode.VIRTUAL_REPOSITORY:
        yield "virtual_repository_config: only in virtual repositories"
    if len(upstreams) > MAX_UPSTREAMS:
        yield f"virtual_repository_config.upstream_policies: at most {MAX_UPSTREAMS}"
    remote = "remote_repository_config" in repository
    if remote != (repository.mode == api.Repository.Mode.REMOTE_REPOSITORY):
        yield "remote_repository_config: in remote repositories, and only there"
    if "docker_config" in repository and repository.format_ != api.Repository.Format.DOCKER:
        yield "docker_config: only in repositories of the format DOCKER"


def _wrong_policy(key: str, policy: api.CleanupPolicy) -> Iterator[str]:
    where, action = f"cleanup_policies[{key}]", api.CleanupPolicy.Action
    if policy.id != key:
        yield f"{where}: the key is not its id {policy.id!r}"
    if not policy.action:
        yield f"{where}.action: required"
    if "most_recent_versions" in policy and policy.action != action.KEEP:
        yield f"{where}.most_recent_versions: only with KEEP"
    if "condition" not in policy and "most_recent_versions" not in policy:
        yield f"{where}: a condition is required"
    tagged = policy.condition.tag_state == api.CleanupPolicyCondition.TagState.TAGGED
    if policy.condition.tag_prefixes and not tagged:
        yield f"{where}.condition.tag_prefixes: needs the tag state TAGGED"


HANDLERS: dict[str, Callable[[World, Any], Any]] = {
    "CreateRepository": create,
    "GetRepository": get,
    "ListRepositories": list_them,
    "UpdateRepository": update,
    "DeleteRepository": delete,
}
PERMISSIONS = {
    "CreateRepository": "artifactregistry.repositories.create",
    "GetRepository": "artifactregistry.repositories.get",
    "ListRepositories": "artifactregistry.repositories.list",
    "UpdateRepository": "artifactregistry.repositories.update",
    "DeleteRepository": "artifactregistry.repositories.delete",
    "GetIamPolicy": "artifactregistry.repositories.getIamPolicy",
    "SetIamPolicy": "artifactregistry.repositories.setIamPolicy",
}
