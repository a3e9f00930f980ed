"""Whether the role of a node may pull, before it tries: by EC2, IAM, and IAM's own simulation of its policies.

Source: IAM user guide, "IAM policy testing with the policy simulator": what identity policies, boundaries and the
organisation's policies allow. Repository policies and those of endpoints are not in it, so another account's repository
stays undecided.
"""

from __future__ import annotations

from typing import Any

from registry_pipelines.doctor.causes import explain
from registry_pipelines.doctor.hosts import Host
from registry_pipelines.doctor.model import Answer, Patient
from registry_pipelines.doctor.on_aws import NODE_POLICY
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.permissions import needed

ALLOWED = "allowed"
RIGHTS = "ec2:DescribeInstances, iam:GetInstanceProfile and iam:SimulatePrincipalPolicy"
"""What asking takes."""


def explain_role(calls: AwsCalls, host: Host, repository: str, patient: Patient) -> list[Answer]:
    """Why the node's role would not pull this image; empty where it may. patient: its instance and region. Raises as
    ``AwsCalls.call``: Forbidden where we may not ask."""
    role = _role_of(calls, patient)
    if not role:
        seen = f"DescribeInstances: {patient.instance} has no instance profile"
        return [explain("no-identity", patient, evidence=(seen,))]
    partition = role.split(":")[1]
    resource = f"arn:{partition}:ecr:{host.region}:{host.account}:repository/{repository}"
    denied = [
        (action, decision)
        for grant in needed("aws", "pull")
        for action, decision in _decisions(calls, role, grant.actions, "*" if grant.on == "*" else resource)
        if decision != ALLOWED
    ]
    if not denied:
        return []
    name, actions = role.rpartition("/")[2], sorted({action for action, _ in denied})
    explicit = any(decision == "explicitDeny" for _, decision in denied)
    return [
        Answer(
            cause="permission",
            what=f"the node's role {name} {'is denied' if explicit else 'lacks'} {', '.join(actions)}",
            evidence=tuple(f"SimulatePrincipalPolicy of {role}: {action} is {why}" for action, why in denied),
            do="Find the statement that denies it" if explicit else "Give it the policy for nodes that pull",
            command=f"aws iam list-attached-role-policies --role-name {name}"
            if explicit
            else f"aws iam attach-role-policy --role-name {name} --policy-arn {NODE_POLICY}",
        )
    ]


def _role_of(calls: AwsCalls, patient: Patient) -> str:
    """The ARN of the role in the instance's profile; empty where it has none."""
    found = calls.call(
        "describe_instances",
        where=patient.instance,
        service="ec2",
        region=patient.node_region,
        InstanceIds=[patient.instance],
    )
    instances = [each for one in found.get("Reservations") or () for each in one.get("Instances") or ()]
    profile = str((instances[0].get("IamInstanceProfile") or {}).get("Arn", "")) if instances else ""
    if not profile:
        return ""
    answer = calls.call(
        "get_instance_profile", where=profile, service="iam", InstanceProfileName=profile.rpartition("/")[2]
    )
    roles: list[Any] = answer["InstanceProfile"].get("Roles") or []
    return str(roles[0]["Arn"]) if roles else ""


def _decisions(calls: AwsCalls, role: str, actions: tuple[str, ...], resource: str) -> list[tuple[str, str]]:
    results = calls.pages(
        "simulate_principal_policy",
        "EvaluationResults",
        token="Marker",  # noqa: S106 - the name of a field
        where=role,
        service="iam",
        PolicySourceArn=role,
        ActionNames=list(actions),
        ResourceArns=[resource],
    )
    return [(str(each["EvalActionName"]), str(each["EvalDecision"])) for each in results]
