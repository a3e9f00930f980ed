"""What a cloud must permit for an operation: actions of AWS IAM, roles and permissions of Google's.

:func:`needed` is asked by the doctor, by messages of a refusal (:func:`action_of` names the right behind one call) and
by docs/iam.md. The table is ``data/permissions.json``: one entry for each operation with the commands that need it; its
sources stand in it by name. Pure: nothing is asked, no cloud library is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready

Cloud = Literal["aws", "google"]
_DATA = Path(__file__).parents[1] / "data" / "permissions.json"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A right on a kind of thing. AWS: ``actions``. Google: the smallest predefined ``role``, and the ``permissions``
    of it that are used (for a role of one's own)."""

    on: str
    """What it is given on: ``*``, or a word as ``repository``, ``project``, ``key``, ``queue``."""
    actions: tuple[str, ...] = ()
    role: str = ""
    permissions: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is done at a cloud."""

    operation: str
    """Name, as ``pull``."""
    what: str
    used_by: str
    """Commands that do it."""
    aws: tuple[Grant, ...] = ()
    google: tuple[Grant, ...] = ()


class _Table(msgspec.Struct, frozen=True):
    sources: dict[str, str]
    operations: tuple[Operation, ...]


@cache
def _table() -> _Table:
    return msgspec.json.decode(_DATA.read_bytes(), type=ready(_Table))


def operations() -> tuple[Operation, ...]:
    """Every operation of the table, in its order."""
    return _table().operations


def needed(cloud: Cloud, operation: str) -> tuple[Grant, ...]:
    """What ``cloud`` must permit for an operation; empty where the cloud has no such thing. InputError: an operation
    that the table does not have."""
    for each in operations():
        if each.operation == operation:
            return each.aws if cloud == "aws" else each.google
    known = ", ".join(each.operation for each in operations())
    raise InputError(f"{operation!r} is no operation with permissions", do=f"One of: {known}")


def names(grants: Iterable[Grant]) -> list[str]:
    """The actions, or the roles, of grants: once each, sorted; for a message."""
    return sorted({name for each in grants for name in (each.actions or (each.role,))})


_ACTION_OF_CALL = {
    "ListImageReferrers": "ecr:BatchGetImage",
}
"""Calls of ECR whose right has another name: there is no action ecr:ListImageReferrers (user guide)."""


def action_of(cloud: Cloud, call: str, service: str = "") -> str:
    """The right behind one call of an API: ``("aws", "DescribeImages", "ecr")`` is ``ecr:DescribeImages``,
    ``("google", "list_docker_images")`` is ``artifactregistry.dockerimages.list``. service: as boto3 names it, or the
    first word of Google's permission; ECR and Artifact Registry unless told."""
    if cloud == "aws":
        return _ACTION_OF_CALL.get(call, f"{service or 'ecr'}:{call}")
    service = service or "artifactregistry"
    if policy := re.fullmatch(r"(get|set)_iam_policy", call):
        return f"{service}.repositories.{policy[1]}IamPolicy"
    verb, _, thing = call.removeprefix("batch_").partition("_")
    return f"{service}.{_KINDS.get(thing) or _many(thing)}.{verb}"


_KINDS = {"policy": "policy", "docker_image": "dockerimages", "docker_images": "dockerimages"}
"""Kinds of thing that permissions do not name as their calls do."""


def _many(thing: str) -> str:
    if thing.endswith("s"):
        return thing
    return f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"


def role_with(permission: str) -> str:
    """The smallest predefined role of Google's that has a permission, of those in the table; empty where none has."""
    fitting = {
        grant.role for operation in operations() for grant in operation.google if permission in grant.permissions
    }
    return min(sorted(fitting), key=_power, default="")


_POWERS = ("eader", "iewer", "ttacher", "igner", "riter", "ditor", "repoAdmin", "dmin")
"""How predefined roles end, those that may least first."""


def _power(role: str) -> int:
    return next((place for place, end in enumerate(_POWERS) if role.endswith(end)), len(_POWERS) // 2)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy of AWS is cut to. A kind of thing without names in ``names`` becomes a pattern of the account's."""

    account: str
    region: str
    partition: str = "aws"
    names: dict[str, tuple[str, ...]] = {}
    """For each kind (``repository``, ``key``, ``role``, ``queue``): names, which may end in ``*``."""


_ARNS = {
    "repository": "arn:{partition}:ecr:{region}:{account}:repository/{name}",
    "public-repository": "arn:{partition}:ecr-public::{account}:repository/{name}",
    "key": "arn:{partition}:kms:{region}:{account}:key/{name}",
    "role": "arn:{partition}:iam::{account}:role/{name}",
    "queue": "arn:{partition}:sqs:{region}:{account}:{name}",
    "signing-profile": "arn:{partition}:signer:{region}:{account}:/signing-profiles/{name}",
}
"""ARNs of the kinds of thing. Source: service authorization reference."""


def aws_policy(wanted: Sequence[str], scope: Scope) -> dict[str, Any]:
    """The smallest policy document of IAM for operations: one statement for each kind of thing, actions sorted.
    InputError: an unknown operation."""
    by_kind: dict[str, set[str]] = {}
    for operation in wanted:
        for grant in needed("aws", operation):
            by_kind.setdefault(grant.on, set()).update(grant.actions)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "".join(word.title() for word in ("all" if kind == "*" else kind).split("-")),
                "Effect": "Allow",
                "Action": sorted(actions),
                "Resource": "*" if kind == "*" else _arns(kind, scope),
            }
            for kind, actions in sorted(by_kind.items())
        ],
    }


def _arns(kind: str, scope: Scope) -> list[str]:
    each = {"partition": scope.partition, "region": scope.region, "account": scope.account}
    return [_ARNS[kind].format(name=name, **each) for name in scope.names.get(kind, ("*",))]


def google_roles(wanted: Sequence[str]) -> list[tuple[str, str]]:
    """The roles of Google for operations, each once as (what it is given on, role), sorted. InputError: an unknown
    operation."""
    return sorted({(each.on, each.role) for operation in wanted for each in needed("google", operation)})
