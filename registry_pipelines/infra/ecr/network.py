"""Ways to ECR without the internet: VPC endpoints of ecr.api and ecr.dkr, and the S3 gateway, for layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.plan import Change
from registry_pipelines.infra.settings import Fields, Plain, Setting

SERVICES = ("ecr.api", "ecr.dkr", "s3")
"""What a node needs; source: the ECR user guide, "Interface VPC endpoints"."""

_GONE = ("deleted", "deleting", "rejected", "failed", "expired")


def service_name(region: str, service: str) -> str:
    """The name of a service's endpoint, as it stands in the API."""
    prefix = "cn.com.amazonaws" if region.startswith("cn-") and service != "s3" else "com.amazonaws"
    return f"{prefix}.{region}.{service}"


def endpoints(asking: Asking, own: Sequence[Setting]) -> dict[str, dict[str, Plain]]:
    """The endpoints for ECR in the networks that are declared (in all where none is), by ``vpc/service``."""
    names = {service_name(asking.region, service): service for service in SERVICES}
    filters: list[dict[str, Any]] = [{"Name": "service-name", "Values": sorted(names)}]
    if networks := sorted({each.name.partition("/")[0] for each in own}):
        filters.append({"Name": "vpc-id", "Values": networks})
    found = {}
    listed = asking.pages("describe_vpc_endpoints", "VpcEndpoints", service="ec2", Filters=filters)
    for each in listed:
        if each.get("State", "").lower() in _GONE:
            continue
        service = names.get(each["ServiceName"])
        if service and (service != "s3" or each.get("VpcEndpointType") == "Gateway"):
            found[f"{each['VpcId']}/{service}"] = _fields(each)
    return found


def _fields(each: dict[str, Any]) -> dict[str, Plain]:
    fields: dict[str, Plain] = {"type": each.get("VpcEndpointType", ""), "id": each["VpcEndpointId"]}
    if fields["type"] == "Gateway":
        return {**fields, "route_tables": sorted(each.get("RouteTableIds", ()))}
    groups = [one["GroupId"] if isinstance(one, dict) else one for one in each.get("Groups", ())]
    return {
        **fields,
        "private_dns": bool(each.get("PrivateDnsEnabled")),
        "subnets": sorted(each.get("SubnetIds", ())),
        "security_groups": sorted(groups),
    }


def change(asking: Asking, planned: Change) -> None:
    """Make an endpoint, or change what differs. Raises the RegistryError family."""
    wanted, found = planned.wanted or {}, planned.found or {}
    vpc, _, service = planned.name.partition("/")
    if planned.action == "create":
        named = {"VpcId": vpc, "ServiceName": service_name(asking.region, service)}
        asking.ask("create_vpc_endpoint", service="ec2", **named, **_made(wanted))
        return
    values: dict[str, Any] = {}
    for field, name in (("subnets", "Subnet"), ("security_groups", "SecurityGroup"), ("route_tables", "RouteTable")):
        if planned.changed(field):
            there, told = set(found.get(field) or ()), set(wanted[field])
            values |= {f"Add{name}Ids": sorted(told - there)} if told - there else {}
            values |= {f"Remove{name}Ids": sorted(there - told)} if there - told else {}
    if planned.changed("private_dns"):
        values["PrivateDnsEnabled"] = wanted["private_dns"]
    asking.ask("modify_vpc_endpoint", service="ec2", VpcEndpointId=found["id"], **values)


def _made(wanted: Fields) -> dict[str, Any]:
    values: dict[str, Any] = {"VpcEndpointType": wanted["type"]}
    if wanted["type"] == "Gateway":
        return {**values, "RouteTableIds": wanted["route_tables"]}
    values |= {"SubnetIds": wanted["subnets"], "PrivateDnsEnabled": wanted["private_dns"]}
    return values | ({"SecurityGroupIds": wanted["security_groups"]} if wanted.get("security_groups") else {})
