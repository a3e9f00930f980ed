"""google.iam.v1.IAMPolicy, which many services carry: policies of resources by name, whatever they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from google.iam.v1 import iam_policy_pb2, policy_pb2

from tests.doubles.google.world import Refusal, World

PUBLIC = ("allUsers", "allAuthenticatedUsers")
_KINDS = ("user:", "serviceAccount:", "group:", "domain:", "principal://", "principalSet://", "deleted:", "project")


@dataclass
class Policies:
    """By resource name."""

    kept: dict[str, policy_pb2.Policy] = field(default_factory=dict)


def _with_etag(policy: policy_pb2.Policy) -> policy_pb2.Policy:
    policy.etag = b""
    policy.etag = hashlib.sha256(policy.SerializeToString(deterministic=True)).digest()[:8]
    return policy


def get_policy(world: World, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
    """GetIamPolicy: an empty one where none was set."""
    return world.state(Policies).kept.get(request.resource) or _with_etag(policy_pb2.Policy(version=1))


def set_policy(world: World, request: iam_policy_pb2.SetIamPolicyRequest) -> policy_pb2.Policy:
    """SetIamPolicy: all of it, and only over the state that its etag names (google/iam/v1/policy.proto)."""
    current = get_policy(world, iam_policy_pb2.GetIamPolicyRequest(resource=request.resource))
    if request.policy.etag and request.policy.etag != current.etag:
        raise Refusal("ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write.")
    for binding in request.policy.bindings:
        if not binding.role.startswith(("roles/", "projects/", "organizations/")):
            raise Refusal("INVALID_ARGUMENT", f"Role {binding.role} is not supported for this resource.")
        for member in binding.members:
            if member not in PUBLIC and not member.startswith(_KINDS):
                raise Refusal("INVALID_ARGUMENT", f"Invalid member {member}.")
    made = policy_pb2.Policy()
    made.CopyFrom(request.policy)
    made.version = made.version or 1
    world.state(Policies).kept[request.resource] = _with_etag(made)
    return made


def test_permissions(
    world: World, request: iam_policy_pb2.TestIamPermissionsRequest
) -> iam_policy_pb2.TestIamPermissionsResponse:
    """TestIamPermissions: those that nobody took away."""
    may = []
    for permission in request.permissions:
        try:
            world.may(permission, request.resource)
        except Refusal:
            continue
        may.append(permission)
    return iam_policy_pb2.TestIamPermissionsResponse(permissions=may)


HANDLERS: dict[str, Any] = {
    "GetIamPolicy": get_policy,
    "SetIamPolicy": set_policy,
    "TestIamPermissions": test_permissions,
}
