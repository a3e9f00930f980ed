"""Machines of EC2 with their roles, and what IAM's simulator says of these: what a node may do, asked by another."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values


@dataclass
class NodeRole:
    """allowed, denied: pairs of patterns, of an action and of a resource. A denial wins (IAM, "Policy evaluation")."""

    allowed: list[tuple[str, str]] = field(default_factory=list)
    denied: list[tuple[str, str]] = field(default_factory=list)

    def decision(self, action: str, resource: str) -> str:
        """As the simulator says it."""
        for name, pairs in (("explicitDeny", self.denied), ("allowed", self.allowed)):
            if any(fnmatch.fnmatchcase(action, one) and fnmatch.fnmatchcase(resource, on) for one, on in pairs):
                return name
        return "implicitDeny"


class Instances(Area):
    """instances: by id, the name of their role; empty for none. Profiles are named as their role."""

    service = "ec2"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.instances: dict[str, str] = {}

    def do_DescribeInstances(self, call: Call) -> Values:
        found = []
        for name in call.values.get("InstanceIds", list(self.instances)):
            if name not in self.instances:
                raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
            role = self.instances[name]
            arn = f"arn:aws:iam::{call.account}:instance-profile/{role}"
            found.append({"InstanceId": name, **({"IamInstanceProfile": {"Arn": arn, "Id": "AIPA0"}} if role else {})})
        return {"Reservations": [{"ReservationId": "r-1", "OwnerId": call.account, "Instances": found}]}


class Roles(Area):
    """roles: by name."""

    service = "iam"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.roles: dict[str, NodeRole] = {}

    def do_GetInstanceProfile(self, call: Call) -> Values:
        name = call.values["InstanceProfileName"]
        if name not in self.roles:
            raise ApiError("NoSuchEntity", f"Instance Profile {name} cannot be found.", status=404)
        made = moment(self.world.clock())
        about = {"Path": "/", "CreateDate": made}
        role = {"RoleName": name, "RoleId": "AROA0000000000000000", "Arn": f"arn:aws:iam::{call.account}:role/{name}"}
        return {
            "InstanceProfile": {
                "InstanceProfileName": name,
                "InstanceProfileId": "AIPA0000000000000000",
                "Arn": f"arn:aws:iam::{call.account}:instance-profile/{name}",
                "Roles": [{**role, **about}],
                **about,
            }
        }

    def do_SimulatePrincipalPolicy(self, call: Call) -> Values:
        role = self.roles.get(call.values["PolicySourceArn"].rpartition("/")[2])
        if role is None:
            raise ApiError("NoSuchEntity", "The role cannot be found.", status=404)
        return {
            "IsTruncated": False,
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": role.decision(action, resource),
                }
                for action in call.values["ActionNames"]
                for resource in call.values.get("ResourceArns", ["*"])
            ],
        }


__all__ = ["Instances", "NodeRole", "Roles"]
