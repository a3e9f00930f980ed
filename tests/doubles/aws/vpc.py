"""Endpoints of networks: the operations of EC2 that a private way to ECR is made with."""

from __future__ import annotations

import uuid

from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values


class VpcEndpoints(Area):
    """endpoints: by account, region and id."""

    service = "ec2"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.endpoints: dict[tuple[str, str, str], Values] = {}

    def do_CreateVpcEndpoint(self, call: Call) -> Values:
        values = call.values
        kind = values.get("VpcEndpointType", "Gateway")
        if (kind == "Gateway") != ("SubnetIds" not in values):
            raise ApiError("InvalidParameter", f"{kind} endpoints and subnets do not go together")
        taken = [each for each in self._own(call) if (each["VpcId"], each["ServiceName"]) == _about(values)]
        if taken and kind == "Interface" and values.get("PrivateDnsEnabled", True):
            raise ApiError("InvalidParameter", "private-dns-enabled cannot be set: there is a conflicting DNS domain")
        made = {
            "VpcEndpointId": f"vpce-{uuid.uuid4().hex[:17]}",
            "VpcEndpointType": kind,
            "VpcId": values["VpcId"],
            "ServiceName": values["ServiceName"],
            "State": "Available",
            "PrivateDnsEnabled": kind == "Interface" and values.get("PrivateDnsEnabled", True),
            "RouteTableIds": values.get("RouteTableIds", []),
            "SubnetIds": values.get("SubnetIds", []),
            "Groups": [{"GroupId": each} for each in values.get("SecurityGroupIds", [])],
            "CreationTimestamp": moment(self.world.clock()),
        }
        self.endpoints[call.account, call.region, made["VpcEndpointId"]] = made
        return {"VpcEndpoint": made}

    def _own(self, call: Call) -> list[Values]:
        return [each for key, each in self.endpoints.items() if key[:2] == (call.account, call.region)]

    def do_DescribeVpcEndpoints(self, call: Call) -> Values:
        found = self._own(call)
        names = {"service-name": "ServiceName", "vpc-id": "VpcId", "vpc-endpoint-type": "VpcEndpointType"}
        for each in call.values.get("Filters", []):
            found = [one for one in found if one[names[each["Name"]]] in each["Values"]]
        return {"VpcEndpoints": found}

    def do_ModifyVpcEndpoint(self, call: Call) -> Values:
        key = (call.account, call.region, call.values["VpcEndpointId"])
        if key not in self.endpoints:
            raise ApiError("InvalidVpcEndpointId.NotFound", key[2])
        known = self.endpoints[key]
        for name in ("Subnet", "RouteTable"):
            gone = set(call.values.get(f"Remove{name}Ids", []))
            known[f"{name}Ids"] = [each for each in known[f"{name}Ids"] if each not in gone]
            known[f"{name}Ids"] += call.values.get(f"Add{name}Ids", [])
        gone = set(call.values.get("RemoveSecurityGroupIds", []))
        known["Groups"] = [each for each in known["Groups"] if each["GroupId"] not in gone]
        known["Groups"] += [{"GroupId": each} for each in call.values.get("AddSecurityGroupIds", [])]
        known["PrivateDnsEnabled"] = call.values.get("PrivateDnsEnabled", known["PrivateDnsEnabled"])
        return {"Return": True}

    def do_DeleteVpcEndpoints(self, call: Call) -> Values:
        for each in call.values["VpcEndpointIds"]:
            self.endpoints.pop((call.account, call.region, each), None)
        return {"Unsuccessful": []}


def _about(values: Values) -> tuple[str, str]:
    return values["VpcId"], values["ServiceName"]


__all__ = ["VpcEndpoints"]
